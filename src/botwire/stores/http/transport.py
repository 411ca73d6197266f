"""HTTP/1.1 over kept connections, and calls that repeat a request where that does no harm.

The parser is httptools'. General clients cost more than the server that they call: on the machine where this was decided, a
round trip took 190 µs with a bare socket, 200 with this, 290 with pyreqwest and libcurl, 510 with urllib3 and 770 with httpx.

Redirects are not followed: a request, and the token in it, reaches no host that the user did not name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary, WeakSet, ref

import httptools

from ... import wire
from ...backoff import Backoff
from ...deadline import Deadline
from ...errors import BotWireError, StoreError, Timeout, Unavailable
from ...forks import ForkAware, register
from ...store import CLOSED
from .connection import Kind, ThreadConnection
from .dial import connect
from .messages import ConnectionFailed, Request, Response, error_of
from .origin import Origin
from .pool import ALL_IN_USE, LoopPool, Pool, ThreadPool

MAX_RESPONSE_BYTES = 1024**3
Context: TypeAlias = Callable[[], tuple[tuple[str, str], ...]]
"""Returns the header fields of the trace that a call is part of."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_LAST_ATTEMPT = 300.0
"""Seconds after which nothing is sent again: half as long as a store remembers an idempotency key."""


class Exchange:
    """The response to one request, as the parser finds it."""

    response: Response | None = None
    """The response, once it is complete."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._length = 0
        self._complete = False
        self.status = 0
        """The status, once the header is complete."""
        self.is_reusable = False
        """Whether the connection can be used for another request."""

    def feed(self, data: bytes) -> Response | None:
        """Take bytes from the peer (none: it closed the connection); return the response when it is complete."""
        if not data:
            # Without a length and unchunked, the end of the stream is the end of the body (RFC 9112, section 6.3).
            if not self.status or {"content-length", "transfer-encoding"} & self._headers.keys():
                raise self._origin.failed("the connection was closed before the answer was complete")
            self._complete = True
        else:
            self._parse(data)
        if self._complete:
            self.response = Response(self.status, self._headers, b"".join(self._parts))
        return self.response

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # The parser wraps what its callbacks raise, also the KeyboardInterrupt that strikes there. And it keeps the error,
            # whose traceback leads back here: without this, all that the frames hold would wait for the garbage collector.
            del self._parser
            raise error.__context__ or error from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise self._origin.failed(f"the answer is not HTTP ({error})") from error
        if self._length > MAX_RESPONSE_BYTES:
            raise self._origin.failed(f"the answer has more than {MAX_RESPONSE_BYTES:,} bytes")

    def take(self) -> bytes:
        """Return the part of the body that has come since the last call."""
        body = b"".join(self._parts)
        self._parts, self._length = [], 0
        return body

    # Called by the parser. After a complete answer it may find more bytes, which belong to no request.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            self.is_reusable = False
        else:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._complete and status >= 200:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._length += len(data)
        if self._length <= MAX_RESPONSE_BYTES:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._complete:
            self.is_reusable = False
        elif self._parser.get_status_code() < 200:  # an interim answer: the final one follows
            self._begin()
        else:
            self._complete = True
            self.is_reusable = self._parser.should_keep_alive()


class Feed(Protocol):
    """What the transport requires of a feed."""

    def interrupt(self) -> None: ...


class Transport(ForkAware):
    """Connections to one origin, shared by all threads and event loops. A forked child makes its own."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.is_closed = False
        self.feeds: WeakSet[Feed] = WeakSet()
        """Those that are open: they have connections of their own."""
        self._reset()
        register(self)

    def _reset(self) -> None:
        self._threads = ThreadPool()
        # A pool refers to its loop. If this referred to the pool, no loop would ever be freed, not even a closed one. So a
        # pool is held by the calls that use it, and by its loop while it has idle connections.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[LoopPool]] = WeakKeyDictionary()

    async def send(self, request: Request, kind: Kind, deadline: Deadline) -> Response:
        """Return the response, or raise `ConnectionFailed`, or TimeoutError if it was not complete at the deadline.

        A call that is interrupted or cancelled closes its connection.
        """
        data = self.origin.encode(request)
        pool: Pool = self._threads if kind is ThreadConnection else self._pool_of_loop()
        release = await pool.acquire(deadline)
        try:
            if self.is_closed:
                raise StoreError(CLOSED)
            # A kept connection may just be closed by the server. Then it is unknown whether the request arrived.
            kept = pool.take() if request.may_repeat else None
            connection = kept or await connect(self.origin, kind, deadline)
            try:
                exchange = Exchange(self.origin)
                await connection.send(data, deadline)
                while (response := exchange.feed(await connection.receive(deadline))) is None:
                    pass
            except BaseException as error:
                connection.close()
                if (broken := self.origin.broken(error)) is not None:
                    raise broken from error
                raise
            if exchange.is_reusable:
                pool.give(connection)
            else:
                connection.close()
                if kept is None and response.status == Unavailable.status:
                    release = partial(pool.hold_back, release)
        finally:
            release()
        if self.is_closed:
            pool.close_idle()
        return response

    def _pool_of_loop(self) -> LoopPool:
        loop = asyncio.get_running_loop()
        reference = self._loops.get(loop)
        pool = reference() if reference is not None else None
        if pool is None:
            pool = LoopPool()
            self._loops[loop] = ref(pool)
        return pool

    def close(self) -> None:
        """Close the idle connections now, and the others when their exchange has ended. Feeds end at once."""
        self.is_closed = True
        for feed in tuple(self.feeds):
            feed.interrupt()
        self._threads.close_idle()
        for reference in list(self._loops.values()):
            if (pool := reference()) is not None:
                pool.close_idle()

    def after_fork_in_child(self) -> None:
        self._threads.close_idle()  # the parent's remain open
        self._reset()


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
        is tried again only if it was not sent: otherwise the server may carry it out twice. Raises `Timeout` if the response is
        not complete at the deadline.
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
