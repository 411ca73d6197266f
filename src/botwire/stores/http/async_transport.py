"""HTTP/1.1 over kept connections, for callers on event loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from typing import cast

from ...deadline import Deadline
from ...errors import StoreError
from .dial import connect_async, handshake_failed
from .exchange import Exchange
from .messages import ConnectionFailed, Request, Response
from .origin import Origin
from .pool import ALL_IN_USE, IDLE_SECONDS, MAX_CONNECTIONS
from .transport import CLOSED


class AsyncTransport:
    """Connections to one origin for callers on event loops. Each loop has its own, which are closed when it ends."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        # A pool refers to its loop. If this referred to the pool, no loop would ever be freed, not even a closed one. So a
        # pool is held by the calls that use it, and by its loop while it has idle connections.
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_LoopPool]] = (
            weakref.WeakKeyDictionary()
        )
        self._closed = False
        _ALL.add(self)

    async def send(self, request: Request, deadline: Deadline) -> Response:
        """As `Transport.send`. A call that is cancelled closes its connection."""
        data = self.origin.encode(request)
        reference = self._pools.get(asyncio.get_running_loop())
        pool = (reference and reference()) or await self._open_pool()
        has_permit = False
        try:
            async with asyncio.timeout(deadline.left()), pool.permits:
                has_permit = True
                if self._closed:
                    raise StoreError(CLOSED)
                # A kept connection may just be closed by the server. Then it is unknown whether the request arrived.
                wire = (pool.take() if request.may_repeat else None) or await self._connect()
                try:
                    response, is_reusable = await wire.exchange(data)
                except BaseException:
                    wire.close()
                    raise
                if is_reusable and not self._closed:
                    pool.give(wire)
                else:
                    wire.close()
        except TimeoutError:
            if has_permit:
                raise
            raise TimeoutError(ALL_IN_USE) from None
        return response

    def close(self) -> None:
        """Close the idle connections soon, each on its loop, and the others when their exchange has ended."""
        self._closed = True
        for loop, reference in list(self._pools.items()):
            pool = reference()
            if pool is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
                    loop.call_soon_threadsafe(pool.close_idle)

    def abandon(self) -> None:
        """Forget all connections, in a process that was forked: they belong to the parent's loops."""
        self._pools = weakref.WeakKeyDictionary()

    async def _open_pool(self) -> _LoopPool:
        pool = _LoopPool()
        self._pools[asyncio.get_running_loop()] = weakref.ref(pool)
        await pool.open()
        return pool

    async def _connect(self) -> _Wire:
        origin = self.origin
        connection = await connect_async(origin)
        try:
            _, wire = await asyncio.get_running_loop().create_connection(
                lambda: _Wire(origin),
                sock=connection,
                ssl=origin.tls,
                server_hostname=origin.host if origin.is_secure else None,
            )
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise handshake_failed(origin, error) from error
            raise
        return wire


class _LoopPool:
    """The idle connections of an event loop, and the permits to open more.

    An event loop that ends closes its asynchronous generators first (``loop.shutdown_asyncgens``, PEP 525), and notifies
    nothing else. So a generator waits for exactly that, to close what is idle.
    """

    def __init__(self) -> None:
        self.permits = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: deque[_Wire] = deque()
        self._end_of_loop = _close_at_the_end(self._idle)
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Wait for the end of the loop from now on."""
        await anext(self._end_of_loop, None)

    def take(self) -> _Wire | None:
        """Return an idle connection that is still usable."""
        while self._idle:
            wire = self._idle.pop()
            if wire.alive and time.monotonic() - wire.idle_since < IDLE_SECONDS:
                return wire
            wire.close()
        return None

    def give(self, wire: _Wire) -> None:
        """Keep a connection for the next exchange."""
        wire.idle_since = time.monotonic()
        self._idle.append(wire)
        if self._timer is None:
            # The timer is also what keeps this pool alive.
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_old)

    def _close_old(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._idle and now - self._idle[0].idle_since >= IDLE_SECONDS:
            self._idle.popleft().close()
        if self._idle:
            wait = self._idle[0].idle_since + IDLE_SECONDS - now
            self._timer = asyncio.get_running_loop().call_later(wait, self._close_old)

    def close_idle(self) -> None:
        """Close the connections that no call uses."""
        while self._idle:
            self._idle.pop().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


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
        """Return the response to a request, and whether the connection can be used for another one."""
        assert self._transport is not None
        self._exchange = exchange = Exchange(self._origin)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        response = await self._answer
        self._answer = self._exchange = None
        return response, exchange.reusable and self.alive

    def close(self) -> None:
        """Close the connection."""
        self.alive = False
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's only behaves like one
        self.alive = True

    def data_received(self, data: bytes) -> None:
        """Take bytes; between two exchanges there should be none."""
        if self._exchange is None:
            self.close()
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """Take the end of the stream."""
        self._feed(b"")
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Take the end of the connection."""
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


_ALL: weakref.WeakSet[AsyncTransport] = weakref.WeakSet()


def _abandon_all() -> None:
    for transport in list(_ALL):
        transport.abandon()


os.register_at_fork(after_in_child=_abandon_all)
