"""HTTP/1.1 for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import cast

from ...errors import StoreError
from .exchange import CLOSED, ConnectionFailed, Exchange, Origin, Request, Response
from .transport import IDLE_SECONDS, MAX_IDLE


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
