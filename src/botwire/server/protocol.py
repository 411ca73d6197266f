"""uvicorn's HTTP protocol, with limits for too many clients, slow clients and large requests.

uvicorn closes a connection that idles between requests. It keeps one for ever that never finishes its request or never reads
its answer, and it accepts a URL or a header of any size.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import Counter
from typing import Any, cast

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ..errors import Unavailable
from .access.authorizer import is_loopback
from .large import ABORT
from .routes import Dispatcher, HeaderTooLarge, UrlTooLong, problem
from .watch import ENDING

HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a request, to the end of its header."""
BODY_SECONDS = 60.0
"""From the end of the header to the end of the body: 32 MiB at 0.5 MiB/s."""
READING_SECONDS = 60.0
"""How long a client may stop reading its answer."""
MAX_URL_BYTES = 16 * 1024
"""The longest key, prefix and namespace, percent-encoded, take 6 KiB together."""
MAX_FIELDS = 100
MAX_HEADER_BYTES = 32 * 1024
"""Names and values of the header fields together. Of an incomplete header, the bytes after its first packet."""
SHARE = 0.5
"""The share of the limit that one client on another machine may use, so that the rest is for others."""
FLOOD = 16
"""Beyond this multiple of the limit, a connection is closed without an answer."""

_BUSY = problem(Unavailable("the server has its maximum of connections; try again after a second"))
_LONG_URL = problem(UrlTooLong(f"a URL may have {MAX_URL_BYTES:,} bytes here"))
_LARGE_HEADER = problem(
    HeaderTooLarge(
        f"a header may have {MAX_FIELDS} fields and {MAX_HEADER_BYTES:,} bytes here: are there cookies in it?"
    )
)
for _answer in (_BUSY, _LONG_URL, _LARGE_HEADER):
    _answer.headers["Connection"] = "close"


def is_exempt(host: str) -> bool:
    """Whether a client may use all connections: one on this machine may be a proxy for many clients."""
    return is_loopback(host)


class JoiningTransport(asyncio.Transport):
    """A transport that sends all data of one turn of the event loop in one system call.

    uvicorn writes the header and the body of an answer separately, and uvloop sends each at once. These two packets wake
    the client twice.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._parts: list[bytes] = []
        for name in ("is_closing", "get_extra_info", "pause_reading", "resume_reading", "is_reading", "abort"):
            setattr(self, name, getattr(transport, name))

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Send at the end of this turn of the event loop."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send the remaining data, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))


class Protocol(HttpToolsProtocol):
    """A connection with deadlines and limits.

    Connections beyond ``limit_concurrency``, or beyond one client's share of it, get 503 with Retry-After. While there are any,
    the others are closed after each answer, so that every client gets its turn.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limit = self.limit_concurrency or math.inf
        self.limit_concurrency = None  # uvicorn enforces it without a problem document and without Retry-After
        self.due = self.reading_due = math.inf
        self._metrics = cast("Dispatcher", self.config.loaded_app).metrics
        self._received = 0
        self._head: int | None = None
        """Bytes of an incomplete header after its first packet; None: no header is incomplete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoiningTransport(self.loop, transport))
        self._metrics.connections.inc()
        self._peer = None if self.client is None or is_exempt(self.client[0]) else self.client[0]
        if self._peer is not None:
            _TAKEN[self._peer] += 1
        if len(self.connections) > self._limit or _TAKEN[self._peer] > self._limit * SHARE:
            self.app = _BUSY
            if len(self.connections) > self._limit * FLOOD:
                transport.abort()
        self.due = self.loop.time() + HEADER_SECONDS
        if self.server_state not in _WATCHED:
            _WATCHED.add(self.server_state)
            _watch(self.loop, self.server_state)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._metrics.connections.dec()
        if self._peer is not None:
            _TAKEN[self._peer] -= 1
            if not _TAKEN[self._peer]:
                del _TAKEN[self._peer]

    def data_received(self, data: bytes) -> None:
        self._received = len(data)
        begun = self._head
        super().data_received(data)
        if self._head is not None and begun is not None:
            self._head += len(data)
            if self._head > MAX_HEADER_BYTES and not self.transport.is_closing():
                self._refuse(_LARGE_HEADER, "Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self.due = self.loop.time() + HEADER_SECONDS

    def on_headers_complete(self) -> None:
        if len(self.url) > MAX_URL_BYTES:
            self.app = _LONG_URL
        elif len(self.headers) > MAX_FIELDS or (
            (self._head or 0) + self._received > MAX_HEADER_BYTES
            and sum(len(name) + len(value) for name, value in self.headers) > MAX_HEADER_BYTES
        ):
            self.app = _LARGE_HEADER
        self._head = None
        cast("dict[str, Any]", self.scope)[ABORT] = self.transport.abort
        super().on_headers_complete()
        self.due = self.loop.time() + BODY_SECONDS
        if len(self.connections) > self._limit:
            self.cycle.keep_alive = False

    def _refuse(self, answer: Response, phrase: str) -> None:
        """Answer an incomplete header that is too large, and close."""
        fields = b"".join(b"%b: %b\r\n" % field for field in answer.raw_headers)
        status = f"HTTP/1.1 {answer.status_code} {phrase}\r\n".encode()
        self.transport.write(status + fields + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.due = math.inf

    def shutdown(self) -> None:
        """End a stream when the server stops; the client may connect again."""
        super().shutdown()
        ending = None if self.cycle is None else cast("dict[str, Any]", self.cycle.scope).get(ENDING)
        if ending is not None:
            ending.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.reading_due = self.loop.time() + READING_SECONDS

    def resume_writing(self) -> None:
        super().resume_writing()
        self.reading_due = math.inf


_TAKEN: Counter[str | None] = Counter()
"""Connections of each client on another machine."""
_WATCHED: weakref.WeakSet[ServerState] = weakref.WeakSet()


def _watch(loop: asyncio.AbstractEventLoop, state: ServerState) -> None:
    """Close overdue connections every second. Checking all of them is cheaper than a timer for each request."""
    now = loop.time()
    for connection in list(state.connections):
        if isinstance(connection, Protocol) and min(connection.due, connection.reading_due) < now:
            connection.transport.abort()
    loop.call_later(1, _watch, loop, state)
