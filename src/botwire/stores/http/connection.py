"""Connections, and the two ways to wait for them: a thread blocks, an event loop runs its other tasks.

The rest of the client is written once, as coroutines. Over a `ThreadConnection` they never suspend, so `bridge.blocking` can
run them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import select
import socket
import ssl
import time
from typing import Self, TypeAlias, cast

from ...deadline import Deadline

_CHUNK = 64 * 1024
"""Bytes received at once. Python allocates them for each call, and from 128 KiB on that takes a system call: 60 µs."""
_MAX_PARTS = 16
"""Parts that an event loop receives in advance, of up to 256 KiB each."""


class ThreadConnection:
    """A connection for callers in threads. All waits end at their deadline with a TimeoutError that has no errno."""

    def __init__(self, connected: socket.socket) -> None:
        self._process = os.getpid()
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    @classmethod
    async def over(cls, connected: socket.socket) -> Self:
        """Return a connection that uses a connected socket."""
        return cls(connected)

    @property
    def is_own(self) -> bool:
        """Whether it can be used here: a forked child must not read from its parent's connection."""
        return self._process == os.getpid()

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to read: between two requests that could only be the end."""
        return not self._poll.poll(0)

    async def start_tls(self, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Check the peer's certificate, and encrypt from now on."""
        self._socket.settimeout(seconds_left(deadline))
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    async def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of the data."""
        sent = 0
        while sent < len(data):  # the `sendall` of a TLS socket grants the whole timeout to each 16 KiB
            self._socket.settimeout(seconds_left(deadline))
            sent += self._socket.send(memoryview(data)[sent:])

    async def receive(self, deadline: Deadline) -> bytes:
        """Return what has come, at least one byte; nothing at the end."""
        self._socket.settimeout(seconds_left(deadline))
        return self._socket.recv(_CHUNK)

    def close(self) -> None:
        """Close the connection, from any thread. A caller that waits for it sees the end."""
        if self.is_own:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @staticmethod
    async def wait_readable(fd: int, seconds: float) -> None:
        """Wait until a file descriptor can be read, at most this many seconds."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(math.ceil(seconds * 1000))

    @staticmethod
    async def sleep(seconds: float) -> None:
        """Wait this many seconds."""
        time.sleep(seconds)


class LoopConnection(asyncio.Protocol):
    """A connection for callers on the event loop that opened it, with the methods of `ThreadConnection`."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parts: list[bytes] = []
        self._is_ended = False
        self._arrival: asyncio.Future[None] | None = None

    @classmethod
    async def over(cls, connected: socket.socket) -> Self:
        _, connection = await asyncio.get_running_loop().create_connection(cls, sock=connected)
        return connection

    @property
    def is_own(self) -> bool:
        return self._process == os.getpid() and self._loop is asyncio._get_running_loop()

    @property
    def is_silent(self) -> bool:
        return not self._parts and not self._is_ended

    async def start_tls(self, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        async with asyncio.timeout(seconds_left(deadline)):
            secure = await self._loop.start_tls(self._transport, self, context, server_hostname=host)
        self.connection_made(cast("asyncio.Transport", secure))

    async def send(self, data: bytes, _deadline: Deadline) -> None:
        if not self._is_ended:  # uvloop refuses to write to a connection that has ended
            self._transport.write(data)

    async def receive(self, deadline: Deadline) -> bytes:
        while self.is_silent:
            self._arrival = self._loop.create_future()
            await _settled(self._arrival, seconds_left(deadline))
        if len(self._parts) >= _MAX_PARTS and not self._is_ended:
            self._transport.resume_reading()
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def close(self) -> None:
        self._is_ended = True
        if self.is_own:
            self._transport.abort()
        elif self._process == os.getpid():
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
                self._loop.call_soon_threadsafe(self._transport.abort)

    @staticmethod
    async def wait_readable(fd: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, _settle, readable)
        try:
            await _settled(readable, seconds)
        finally:
            if not loop.is_closed():
                loop.remove_reader(fd)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's only behaves like one

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if len(self._parts) >= _MAX_PARTS:
            self._transport.pause_reading()
        _settle(self._arrival)

    def connection_lost(self, _: Exception | None) -> None:
        self._is_ended = True
        _settle(self._arrival)


Connection: TypeAlias = ThreadConnection | LoopConnection
Kind: TypeAlias = type[ThreadConnection] | type[LoopConnection]


def _settle(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


async def _settled(future: asyncio.Future[None], seconds: float) -> None:
    """Wait for a future, at most this many seconds."""
    timer = future.get_loop().call_later(seconds, _settle, future)
    try:
        await future
    finally:
        timer.cancel()


def seconds_left(deadline: Deadline) -> float:
    """Return how long to wait at most; raise TimeoutError if the deadline has passed."""
    left = deadline.left()
    if left <= 0:
        raise TimeoutError("timed out")
    return min(left, 1e6)  # the system accepts no longer timeout than some weeks


def is_deadline(error: OSError) -> bool:
    """Whether our own timeout ended a wait; the kernel's ETIMEDOUT is a broken connection and has a number."""
    return isinstance(error, TimeoutError) and error.errno is None
