"""Requests, responses, and the error when there is no response."""

from __future__ import annotations

from typing import NamedTuple

_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that have the same effect once and twice (RFC 9110, section 9.2.2)."""


class ConnectionFailed(OSError):
    """The connection could not be made, or broke before the answer was complete, or the peer does not speak HTTP.

    Args:
        message: what failed.
        was_sent: whether the request may have reached the server.
        is_final: whether another attempt would fail in the same way.
    """

    def __init__(self, message: str, *, was_sent: bool = True, is_final: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        self.is_final = is_final


class Request(NamedTuple):
    """A request. The target is the encoded path and query, sent unchanged.

    ``is_read`` marks a POST that only reads.
    """

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

    @property
    def may_write(self) -> bool:
        """Whether the request changes something when it is carried out."""
        return self.method != "GET" and not self.is_read


class Response(NamedTuple):
    """A complete response; the header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
