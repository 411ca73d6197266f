"""HTTP/1.1 over kept connections: requests out, responses in, one deadline for each exchange.

The parser is httptools'. The usual clients cost more than the server they talk to: on the machine where this was decided a
round trip took a bare socket 190 µs, this 200, pyreqwest and libcurl 290, urllib3 510 and httpx 770.

Redirects are not followed and proxies in the environment are not used: nothing goes to a host that the user did not name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from ...errors import InvalidArgument, StoreError

MAX_RESPONSE_BYTES = 1024**3
IDLE_SECONDS = 30.0
"""How long a connection is kept that nobody uses."""
MAX_IDLE = 32
CLOSED = "the store is closed; open a new one"
_CHUNK = 64 * 1024
"""Bytes received at once. Python makes room for as many each time, and from 128 KiB on the kernel has to help: 60 µs."""


class ConnectionFailed(OSError):
    """The connection could not be made, or broke before the answer was whole, or the peer does not speak HTTP."""


class Request(NamedTuple):
    """A request. The target is the encoded path and query, sent as it is."""

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Response(NamedTuple):
    """A whole response; the header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Origin:
    """Where requests go: the parsed address and the header fields that all of them carry."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidArgument(f"the port in the address is not one: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise InvalidArgument("an address has no user and password in it: pass token=… instead")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise InvalidArgument("the address is not http(s)://host[:port][/path]")
        self.host = parts.hostname
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = port or (443 if self.tls else 80)
        self.base = parts.path.rstrip("/")
        fields = {"Host": parts.netloc, **headers}
        self.fields = "".join(_field(name, value) for name, value in fields.items())

    def encode(self, request: Request) -> bytes:
        """Return a request as bytes."""
        fields = "".join(_field(name, value) for name, value in request.headers)
        length = f"Content-Length: {len(request.body)}\r\n" if request.body or request.method != "GET" else ""
        head = f"{request.method} {self.base}{request.target} HTTP/1.1\r\n{self.fields}{fields}{length}\r\n"
        return head.encode("latin-1") + request.body

    def failed(self, what: str) -> ConnectionFailed:
        """Return the error for a connection to here."""
        return ConnectionFailed(f"{self.host}:{self.port}: {what}")


def _field(name: str, value: str) -> str:
    if any(char in value for char in "\r\n\0") or not value.isascii():
        raise InvalidArgument(f"the header field {name} has characters that HTTP does not allow")
    return f"{name}: {value}\r\n"


class Exchange:
    """What comes back for one request, as the parser finds it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._length = 0
        self._status = 0
        self._complete = False
        self._headed = False
        self.reusable = False

    def feed(self, data: bytes) -> Response | None:
        """Take bytes from the peer (none: it closed); the response when it is whole."""
        if not data:
            return self._ended()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise self._origin.failed(f"the answer is not HTTP ({error})") from error
        if self._length > MAX_RESPONSE_BYTES:
            raise self._origin.failed(f"the answer has more than {MAX_RESPONSE_BYTES:,} bytes")
        return self._response() if self._complete else None

    def _ended(self) -> Response:
        # Without a length and unchunked, the end of the stream is the end of the body (RFC 9112, section 6.3).
        if self._headed and not {"content-length", "transfer-encoding"} & self._headers.keys():
            return self._response()
        raise self._origin.failed("the connection was closed before the answer was whole")

    def _response(self) -> Response:
        return Response(self._status, self._headers, b"".join(self._parts))

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field."""
        if self._complete:
            self.reusable = False
            return
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that only the body is missing."""
        if not self._complete:
            self._status = self._parser.get_status_code()
            self._headed = self._status >= 200

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if self._complete:  # of an answer that nobody asked for
            return
        self._length += len(data)
        if self._length <= MAX_RESPONSE_BYTES:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """Note that it is whole; after an interim answer, wait for the real one."""
        if self._complete:
            self.reusable = False
            return
        if self._parser.get_status_code() < 200:
            self._begin()
            return
        self._complete = True
        self.reusable = self._parser.should_keep_alive()


class Transport:
    """Blocking connections to one origin, shared by any number of threads; a forked child makes its own.

    Args:
        url: ``http(s)://host[:port][/path]``.
        headers: sent with every request.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str]) -> None:
        self._origin = Origin(url, headers)
        self._idle: deque[tuple[socket.socket, float]] = deque()
        self._closed = False
        _ALL.add(self)

    def send(self, request: Request, *, timeout: float) -> Response:
        """Return the response.

        Raises:
            ConnectionFailed: there was none.
            TimeoutError: it was not there, whole, within so many seconds.
            StoreError: the transport is closed.
        """
        if self._closed:
            raise StoreError(CLOSED)
        deadline = time.monotonic() + timeout
        data = self._origin.encode(request)
        connection = self._take() or self._connect(deadline)
        try:
            exchange = Exchange(self._origin)
            connection.settimeout(_left(deadline))
            connection.sendall(data)
            response = None
            while response is None:
                connection.settimeout(_left(deadline))
                response = exchange.feed(connection.recv(_CHUNK))
        except TimeoutError:
            connection.close()
            raise
        except ConnectionFailed:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            raise self._origin.failed(f"the connection broke: {error.strerror or error}") from error
        except BaseException:
            connection.close()
            raise
        if exchange.reusable and len(self._idle) < MAX_IDLE:
            self._idle.append((connection, time.monotonic()))
            if self._closed:
                self._close_idle()
        else:
            connection.close()
        return response

    def close(self) -> None:
        """Close the idle connections now, and the others when their exchange is over."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._idle.pop()[0].close()

    def _take(self) -> socket.socket | None:
        """Return an idle connection that the server has not closed meanwhile."""
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                break
            if time.monotonic() - since < IDLE_SECONDS and not _readable(connection):
                return connection
            connection.close()
        return None

    def _connect(self, deadline: float) -> socket.socket:
        origin = self._origin
        try:
            connection = socket.create_connection((origin.host, origin.port), timeout=_left(deadline))
        except TimeoutError:
            raise
        except OSError as error:
            raise origin.failed(f"cannot connect: {error.strerror or error}") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if origin.tls is None:
            return connection
        try:
            connection.settimeout(_left(deadline))
            return origin.tls.wrap_socket(connection, server_hostname=origin.host)
        except TimeoutError:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            raise origin.failed(f"no TLS: {error}") from error

    def abandon(self) -> None:
        """Leave the idle connections to the process that this one was forked from."""
        while self._idle:
            os.close(self._idle.pop()[0].detach())


_ALL: weakref.WeakSet[Transport] = weakref.WeakSet()


def _abandon_all() -> None:
    for transport in list(_ALL):
        transport.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class AsyncTransport:
    """The same on event loops; each loop has connections of its own, which are closed when it ends."""

    def __init__(self, url: str, *, headers: Mapping[str, str]) -> None:
        self._origin = Origin(url, headers)
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = weakref.WeakKeyDictionary()
        self._closed = False

    async def send(self, request: Request, *, timeout: float) -> Response:
        """As `Transport.send`. Cancelled, it closes the connection."""
        if self._closed:
            raise StoreError(CLOSED)
        data = self._origin.encode(request)
        pool = self._pools.get(asyncio.get_running_loop()) or await self._open_pool()
        async with asyncio.timeout(timeout):
            wire = pool.take() or await self._connect()
            try:
                response, reusable = await wire.exchange(data)
            except BaseException:
                wire.close()
                raise
        if reusable and not self._closed:
            pool.give(wire)
        else:
            wire.close()
        return response

    def close(self) -> None:
        """Close the idle connections soon, each on its loop, and the others when their exchange is over."""
        self._closed = True
        for loop, pool in list(self._pools.items()):
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
                loop.call_soon_threadsafe(pool.close)

    async def _open_pool(self) -> _LoopPool:
        pool = self._pools[asyncio.get_running_loop()] = _LoopPool()
        await pool.open()
        return pool

    async def _connect(self) -> _Wire:
        origin = self._origin
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(lambda: _Wire(origin), origin.host, origin.port, ssl=origin.tls)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise origin.failed(f"cannot connect: {error.strerror or error}") from error
        return wire


class _LoopPool:
    """The idle connections of an event loop.

    An event loop that ends closes its asynchronous generators first (``loop.shutdown_asyncgens``, PEP 525), and tells nobody
    else. So a generator that waits for exactly that keeps watch: whoever uses one ``asyncio.run`` after
    another leaves no open connections behind.
    """

    def __init__(self) -> None:
        self._idle: deque[_Wire] = deque()
        self._watch = _close_at_the_end(self._idle)

    async def open(self) -> None:
        """Begin to watch for the end of the loop."""
        await anext(self._watch, None)

    def take(self) -> _Wire | None:
        """Return an idle connection that is still good."""
        while self._idle:
            wire = self._idle.pop()
            if wire.alive and time.monotonic() - wire.idle_since < IDLE_SECONDS:
                return wire
            wire.close()
        return None

    def give(self, wire: _Wire) -> None:
        """Keep a connection for the next exchange, if there are not many already."""
        if len(self._idle) >= MAX_IDLE:
            wire.close()
            return
        wire.idle_since = time.monotonic()
        self._idle.append(wire)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()


async def _close_at_the_end(idle: deque[_Wire]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        while idle:
            idle.pop().close()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn


class _Wire(asyncio.Protocol):
    """One connection of an event loop."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._answer: asyncio.Future[Response] | None = None
        self.alive = False
        self.idle_since = 0.0

    async def exchange(self, data: bytes) -> tuple[Response, bool]:
        assert self._transport is not None
        self._exchange = exchange = Exchange(self._origin)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        response = await self._answer
        self._answer = self._exchange = None
        return response, exchange.reusable and self.alive

    def close(self) -> None:
        self.alive = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's only behaves like one
        self.alive = True

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        self._feed(b"")
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self._feed(b"")

    def _feed(self, data: bytes) -> None:
        if not data:
            self.alive = False
        if self._exchange is None or self._answer is None or self._answer.done():
            return
        try:
            response = self._exchange.feed(data)
        except ConnectionFailed as error:
            self._answer.set_exception(error)
        else:
            if response is not None:
                self._answer.set_result(response)
