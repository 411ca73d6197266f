"""Requests, responses, and the errors for failed ones."""

from __future__ import annotations

from typing import NamedTuple

from ... import wire
from ...errors import AuthError, BotWireError, InvalidValue, StoreError, Unavailable
from ...limits import MAX_WRITE_BYTES

_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that have the same effect once and twice (RFC 9110, section 9.2.2)."""


class ConnectionFailed(OSError):
    """The connection could not be made, or broke before the answer was complete, or the peer does not speak HTTP."""

    def __init__(self, message: str, *, was_sent: bool = True, is_final: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        """Whether the request may have reached the server."""
        self.is_final = is_final
        """Whether another attempt would fail in the same way."""


class Request(NamedTuple):
    """A request. The target is the encoded path and query, sent unchanged; ``is_read`` marks a POST that only reads."""

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_read: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether a second delivery has no second effect."""
        if self.method in _REPEATABLE or self.is_read:
            return True
        return any(name == "Idempotency-Key" for name, _ in self.headers)


class Response(NamedTuple):
    """A complete response; the header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def error_of(response: Response) -> BotWireError:
    """Return the error that the server raised, or the nearest one."""
    status = response.status
    error = wire.decode_problem(status, response.body)
    if error is not None:
        return error
    match status:
        case 401 | 403:
            return AuthError(f"the server answered {status}: is the token right?")
        case 407:
            return Unavailable("the proxy asks for a login: name it as http://user:password@host:port in HTTP_PROXY")
        case 413 | 414 | 431:
            return InvalidValue(
                f"the server answered {status}: the request is too large for it. A write may have {MAX_WRITE_BYTES:,} bytes: split it"
            )
        case 502 | 503 | 504:
            return Unavailable(f"the server answered {status}; try again later")
    return StoreError(f"the server answered {status} without a reason that botwire knows: is it a botwire server?")
