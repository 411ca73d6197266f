"""uvicorn's HTTP protocol, with limits for too many clients, slow clients and large requests.

uvicorn closes a connection that idles between requests. It keeps one for ever that never finishes its request or never reads
its answer. It accepts a URL, a header or a trailer of any size, and any number of requests at once.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from enum import Enum
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from ..errors import InvalidArgument, Unavailable
from .peers import Peers, most_files
from .refusals import BadRequest, HeaderTooLarge, UrlTooLong, encoded, refusal
from .transport import JoiningTransport

HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a request, to the end of its header. With TLS, the same for its handshake."""
BODY_SECONDS = 60.0
"""How long a body may stop. After an early answer, such as 401, also how long the rest of the body may take."""
READING_SECONDS = 60.0
"""How long a client may stop reading its answer."""
CLOSING_SECONDS = 3.0
"""How long a client may take to confirm the end of TLS, after it has read its last answer."""
SLOWEST = 8 * 1024
"""Bytes a second that a client sends of a body, or reads of an answer, on average. It may stop for the times above."""
MAX_URL_BYTES = 16 * 1024
"""The longest key, prefix and namespace, percent-encoded, take 6 KiB together."""
MAX_FIELDS = 100
MAX_HEADER_BYTES = 32 * 1024
"""Names and values of the header fields together. Also all bytes of a request outside of its body that came after the part
with its first byte: the rest of the header, chunk sizes, chunk extensions and trailers. Each byte of the body pays for one."""
PART = 32 * 1024
"""Bytes that are parsed at once."""
MAX_PIPELINED = 64
"""Requests that wait for the answers to earlier ones on the same connection."""
SHARE = 0.5
"""The share of the limit that one client on another machine may use, so that the rest is for others."""
FLOOD = 16
"""Beyond this multiple of the limit, a connection is closed without an answer."""
ENDING = "botwire.ending"
"""The key in the ASGI scope of a stream of the event that asks the stream to end."""

_BUSY = refusal(
    Unavailable("the server has its maximum of connections; try again after a second"), **{"Retry-After": "1"}
)
_LONG_URL = refusal(UrlTooLong(f"a URL may have {MAX_URL_BYTES:,} bytes here"))
_LARGE_HEADER = refusal(
    HeaderTooLarge(
        f"a header may have {MAX_FIELDS} fields and {MAX_HEADER_BYTES:,} bytes here: are there cookies in it? Chunk "
        "sizes, chunk extensions and trailers may have as many, and one more for each byte of the body"
    )
)
_NOT_HTTP = refusal(BadRequest("this is not a request of HTTP/1.1 (RFC 9112)"))
_NO_HOST = refusal(BadRequest("a request names its host once, in the field Host (RFC 9112, section 3.2)"))
_NOT_UTF8 = refusal(
    InvalidArgument("the path or the query is not UTF-8: encode names as UTF-8 before they are percent-encoded")
)

_PEERS = Peers()
_WATCHED: weakref.WeakSet[ServerState] = weakref.WeakSet()

Phase = Enum("Phase", ["BETWEEN", "HEADER", "BODY"])
"""The part of a request that a connection expects next."""
_BETWEEN, _HEADER, _BODY = Phase


class Protocol(HttpToolsProtocol):
    """A connection with deadlines and limits.

    Connections beyond ``limit_concurrency``, or beyond one client's share of it, get 503 with Retry-After. While there are any,
    the others are closed after each answer, so that every client gets its turn. A connection counts from when it is accepted,
    also while it shakes hands for TLS.
    """

    transport: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limit = self.limit_concurrency or math.inf
        self.limit_concurrency = None  # uvicorn enforces it without a problem document and without Retry-After
        self.due = self.reading_due = math.inf
        self._phase = _HEADER
        self._begun = False
        """Whether a request began in this part of the data."""
        self._outside = 0
        """Bytes outside of bodies, less the bytes of bodies that paid for them."""
        self._bodies = self._bodies_seen = self._taken_seen = 0
        """Bytes of all bodies, and how many of them and of the answers had moved a second ago."""
        self._hosts = 0
        self._deaf = False
        """Whether it ignores what comes, and closes when the requests before are answered."""
        self._entered = False
        self._answered: RequestResponseCycle | None = None
        """The request that the app answers; ``cycle`` is the last one that has come."""

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if self.transport is not None:  # the handshake is complete
            self._begin(transport, self.transport)
            return
        self.transport = transport
        if not self.enter(transport):
            transport.abort()
        elif getattr(self.config, "tls", None) is None:
            self._begin(transport)
        else:
            self._shake_hands(transport)

    def enter(self, transport: asyncio.Transport) -> bool:
        """Count an accepted connection, and return whether there is room for it."""
        self._entered = True
        self.connections.add(self)
        self._peer = (get_remote_addr(transport) or (None,))[0]
        of_client, of_all = _PEERS.enter(self._peer), len(self.connections)
        if of_all > self._limit or of_client > self._limit * SHARE:
            self.app = _BUSY
        self.due = self.loop.time() + HEADER_SECONDS
        if self.server_state not in _WATCHED:
            _WATCHED.add(self.server_state)
            _watch(self.loop, self.server_state)
        return of_all <= min(self._limit * FLOOD, most_files())

    def leave(self) -> None:
        """Count a connection no longer."""
        _PEERS.leave(self._peer)

    def _shake_hands(self, transport: asyncio.Transport) -> None:
        """Begin TLS as uvloop does for a server. Its `start_tls` would be too late for data that is there already."""
        from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]  # it has no stub

        done = self.loop.create_future()
        done.add_done_callback(self._end_handshake)
        tls = SSLProtocol(
            self.loop,
            self,
            self.config.tls,  # type: ignore[attr-defined]
            done,
            server_side=True,
            ssl_handshake_timeout=HEADER_SECONDS,
            ssl_shutdown_timeout=math.inf,  # `check_deadlines` ends it, also while the last answer is read
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)

    def _end_handshake(self, done: asyncio.Future[None]) -> None:
        if done.exception() is not None or self.flow is None:  # it failed, or the client left
            self.transport.abort()
            self.connection_lost(None)

    def _begin(self, *transports: asyncio.Transport) -> None:
        self.due = self.loop.time() + HEADER_SECONDS
        super().connection_made(JoiningTransport(self.loop, *transports))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._entered:  # a handshake that fails ends the connection twice
            return
        self._entered = False
        super().connection_lost(exc)
        self.leave()
        if self._answered is not None and not self._answered.response_complete:
            # uvicorn marks only the last one of several requests.
            self._answered.disconnected = True
            self._answered.message_event.set()

    def shutdown(self) -> None:
        """End a stream when the server stops; the client may connect again."""
        super().shutdown()
        ending = None if self._answered is None else cast("dict[str, Any]", self._answered.scope).get(ENDING)
        if ending is not None:
            ending.set()

    # What is received

    def data_received(self, data: bytes) -> None:
        if len(data) <= PART:
            self._parse(data)
            return
        view = memoryview(data)
        for begin in range(0, len(data), PART):
            self._parse(view[begin : begin + PART])

    def _parse(self, data: bytes | memoryview) -> None:
        if self._deaf:
            return
        self._begun, bodies = False, self._bodies
        super().data_received(cast("bytes", data))
        if self._begun or self._deaf:
            return
        self._outside = max(0, self._outside + len(data) - 2 * (self._bodies - bodies))
        if self._outside > MAX_HEADER_BYTES:
            self._refuse(_LARGE_HEADER)
        elif self._phase is _BETWEEN and self.due == math.inf and self.cycle.response_complete:
            self.due = self.loop.time() + HEADER_SECONDS  # uvicorn ended its own timer at these line breaks

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise OverflowError  # uvicorn calls send_400_response
        super().on_message_begin()
        self._begun, self._phase = True, _HEADER
        self._outside = self._hosts = 0
        self.due = self.loop.time() + HEADER_SECONDS

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _HEADER:
            return  # a trailer: it is no header field (RFC 9110, section 6.5.1)
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(self.headers) <= MAX_FIELDS:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        # This is true of nearly all requests.
        usual = self._hosts == 1 and self._begun and b"%" not in self.url and len(self.url) <= MAX_URL_BYTES
        app = self.app
        if not usual or len(self.headers) > MAX_FIELDS:
            self.app = self._refusal() or app
        super().on_headers_complete()
        self.app = app
        self._phase = _BODY
        self.due = self.loop.time() + BODY_SECONDS
        if len(self.connections) > self._limit or self.expect_100_continue:
            # After an answer without 100, the body or another request may follow.
            self.cycle.keep_alive = False

    def _refusal(self) -> Response | None:
        """Return why a request is refused for its URL or its header."""
        if len(self.url) > MAX_URL_BYTES:
            return _LONG_URL
        if len(self.headers) > MAX_FIELDS or (
            not self._begun and sum(len(name) + len(value) for name, value in self.headers) > MAX_HEADER_BYTES
        ):
            return _LARGE_HEADER
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() != "1.0"):
            return _NO_HOST
        try:
            unquote_to_bytes(self.url).decode()
        except UnicodeDecodeError:
            return _NOT_UTF8
        return None

    def on_body(self, body: bytes) -> None:
        self._bodies += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase, self.due = _BETWEEN, math.inf

    # Requests that cannot be parsed

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP. uvicorn would send the answer before those to earlier requests."""
        self._refuse(_NOT_HTTP)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer without the upgrade, and close: what follows may be of another protocol."""
        self._deaf = True
        self.cycle.keep_alive = False

    def _refuse(self, answer: Response) -> None:
        """Parse nothing more, and close: with an answer, or after the answers to the requests before."""
        self._deaf, self.due = True, math.inf
        if self._phase is _BODY and self.pipeline:
            self.pipeline.popleft()  # the app does not know this request yet
        elif self._phase is _BODY or self.cycle is None or self.cycle.response_complete:
            if self._phase is not _BODY or not self.cycle.response_started:
                self.transport.write(encoded(answer, self.server_state.default_headers))
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self._deaf and not self.pipeline:
            self.transport.close()
        super().on_response_complete()

    # Slow clients

    def check_deadlines(self, now: float) -> None:
        """Move the deadlines of a client that makes progress, and close an overdue connection."""
        if self._phase is _BODY:
            if self.flow.read_paused:  # the server does not read, or answers an earlier request
                self.due = now + BODY_SECONDS
            elif not self.cycle.response_complete:
                self.due = min(self.due + (self._bodies - self._bodies_seen) / SLOWEST, now + BODY_SECONDS)
            self._bodies_seen = self._bodies
        if not self.transport.get_write_buffer_size():
            self.reading_due = math.inf
            if self.transport.is_closing():
                self.due = min(self.due, now + CLOSING_SECONDS)
        elif isinstance(self.transport, JoiningTransport):
            taken = self.transport.taken()
            moved, self._taken_seen = max(0, taken - self._taken_seen), taken
            self.reading_due = min(self.reading_due + moved / SLOWEST, now + READING_SECONDS)
        if min(self.due, self.reading_due) < now:
            self.transport.abort()


def _watch(loop: asyncio.AbstractEventLoop, state: ServerState) -> None:
    """Check all connections every second. That is cheaper than a timer for each request."""
    now = loop.time()
    for connection in list(state.connections):
        if isinstance(connection, Protocol):
            connection.check_deadlines(now)
    loop.call_later(1, _watch, loop, state)
