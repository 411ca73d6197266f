"""One call of a store: its requests share a deadline, and are repeated where that does no harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ... import wire
from ...backoff import Backoff
from ...deadline import Deadline
from ...errors import BotWireError, Timeout, Unavailable
from .connection import Kind
from .messages import ConnectionFailed, Request, error_of
from .pool import ALL_IN_USE
from .transport import Transport

Context: TypeAlias = Callable[[], tuple[tuple[str, str], ...]]
"""Returns the header fields of the trace that a call is part of."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_LAST_ATTEMPT = 300.0
"""Seconds after which nothing is sent again: half as long as a store remembers an idempotency key."""


class Call:
    """A call, whose time begins now. Each of its requests carries the fields that `context` returns."""

    def __init__(self, transport: Transport, kind: Kind, timeout: float, context: Context | None) -> None:
        self._transport = transport
        self._kind = kind
        self._timeout = timeout
        self._context = context
        self._deadline = Deadline.after(timeout)

    async def get(self, target: str) -> wire.Answer:
        """Return the answer to a GET."""
        return wire.decode_answer(await self.ask(Request("GET", target)))

    async def ask(self, request: Request) -> bytes:
        """Return the body of the answer, or raise the error in it.

        A lost connection and a 503 are tried again until the deadline, with growing pauses. A request that is not repeatable
        is tried again only if it was not sent: otherwise the server may carry it out twice.

        Raises:
            Timeout: the response was not complete at the deadline.
            Unavailable: the server cannot be reached, or refused.
        """
        if self._context is not None:
            request = request._replace(headers=(*request.headers, *self._context()))
        last_attempt = min(self._deadline.at, Deadline.after(_LAST_ATTEMPT).at)
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, Deadline(last_attempt))
        was_sent = False
        while True:
            failure: BotWireError
            at_least = 0.0
            try:
                response = await self._transport.send(request, self._kind, self._deadline)
            except TimeoutError as error:
                raise self._timed_out(request, str(error), was_sent=was_sent or str(error) != ALL_IN_USE) from error
            except ConnectionFailed as error:
                was_sent = was_sent or error.was_sent
                failure = _unavailable(request, error)
                may_repeat = not error.is_final and (request.may_repeat or not error.was_sent)
            else:
                if response.status == 200:
                    return response.body
                failure = error_of(response)
                may_repeat = response.status == Unavailable.status and request.may_repeat
                seconds = response.headers.get("retry-after", "")
                at_least = float(seconds) if seconds.isdecimal() else 0.0
            pause = backoff.next(at_least) if may_repeat else None
            if pause is None:
                raise failure
            await self._kind.sleep(pause)

    def _timed_out(self, request: Request, why: str, *, was_sent: bool) -> Timeout:
        message = f"no answer within {self._timeout:g} s"
        if why == ALL_IN_USE:
            message += f": {why}"
        if was_sent and request.method != "GET" and not request.is_read:
            message += "; the write may have been carried out"
        return Timeout(message)


def _unavailable(request: Request, error: ConnectionFailed) -> Unavailable:
    if error.was_sent and not request.may_repeat:
        return Unavailable(f"{error}. The request may have been carried out: check that before you repeat it")
    return Unavailable(f"{error}. Is the server running, and is the address right?")
