"""Responses without an end, read as they come: one connection for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

from ...deadline import Deadline
from .dial import connect, connect_async, handshake_failed
from .exchange import CHUNK, Exchange
from .messages import ConnectionFailed, Request, Response
from .origin import Origin
from .transport import send_all
from .waiting import is_deadline, seconds_left


class _Piecewise(Exchange):
    """An exchange whose body is taken as it comes."""

    @property
    def headed(self) -> bool:
        """Whether the header is complete."""
        return self._headed

    @property
    def status(self) -> int:
        """The status, once the header is complete."""
        return self._status

    def take(self) -> bytes:
        """Return the part of the body that has come since the last call."""
        body = b"".join(self._parts)
        self._parts, self._length = [], 0
        return body


class Stream:
    """A response under way.

    Args:
        origin: the server.
        request: the request.
        deadline: when the header must be complete.

    Raises:
        ConnectionFailed: there was no answer.
        TimeoutError: the deadline has passed.
    """

    def __init__(self, origin: Origin, request: Request, deadline: Deadline) -> None:
        self._process = os.getpid()
        self._exchange = _Piecewise(origin)
        self._origin = origin
        self.response: Response | None = None
        """The complete response, if it is not one to be read as it comes."""
        self._socket = connect(origin, deadline)
        try:
            self._send(origin.encode(request), deadline)
            while not self._exchange.headed or (self._exchange.status != 200 and self.response is None):
                self.response = self._receive(deadline)
        except BaseException:
            self.close()
            raise

    @property
    def is_own(self) -> bool:
        """Whether this process opened it: a forked child must not read from its parent's connection."""
        return self._process == os.getpid()

    def read(self, deadline: Deadline) -> bytes:
        """Return what has come, at least one byte; nothing at the end.

        Raises:
            ConnectionFailed: the connection broke.
            TimeoutError: nothing came before the deadline.
        """
        while not (data := self._exchange.take()) and self.response is None:
            self.response = self._receive(deadline)
        return data

    def _send(self, data: bytes, deadline: Deadline) -> None:
        with _translated(self._origin):
            send_all(self._socket, data, deadline)

    def _receive(self, deadline: Deadline) -> Response | None:
        with _translated(self._origin):
            self._socket.settimeout(seconds_left(deadline))
            return self._exchange.feed(self._socket.recv(CHUNK))

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def close(self) -> None:
        """Close the connection; a read under way in another thread fails."""
        with contextlib.suppress(OSError):
            if self.is_own:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class AsyncStream:
    """`Stream` on an event loop, made by `open_stream`."""

    def __init__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._origin = origin
        self._exchange = _Piecewise(origin)
        self._reader = reader
        self._writer = writer
        self.response: Response | None = None

    @property
    def is_own(self) -> bool:
        """Whether this event loop opened it: no other one can read from it."""
        return self._process == os.getpid() and self._loop is asyncio.get_running_loop()

    async def begin(self, request: Request) -> None:
        """Send the request and read the header."""
        self._writer.write(self._origin.encode(request))
        while not self._exchange.headed or (self._exchange.status != 200 and self.response is None):
            self.response = await self._receive()

    async def read(self, deadline: Deadline) -> bytes:
        async with asyncio.timeout(deadline.left()):
            while not (data := self._exchange.take()) and self.response is None:
                self.response = await self._receive()
        return data

    async def _receive(self) -> Response | None:
        with _translated(self._origin):
            return self._exchange.feed(await self._reader.read(CHUNK))

    def close(self) -> None:
        """Close the connection, unless it is the one of a parent process."""
        if self.is_own:
            self._writer.transport.abort()
        elif self._process == os.getpid():
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
                self._loop.call_soon_threadsafe(self._writer.transport.abort)


async def open_stream(origin: Origin, request: Request, deadline: Deadline) -> AsyncStream:
    """Return a response under way. The rest as for `Stream`."""
    async with asyncio.timeout(deadline.left()):
        connection = await connect_async(origin)
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection,
                ssl=origin.tls,
                server_hostname=origin.host if origin.is_secure else None,
                limit=CHUNK,
            )
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise handshake_failed(origin, error) from error
            raise
        stream = AsyncStream(origin, reader, writer)
        try:
            await stream.begin(request)
        except BaseException:
            stream.close()
            raise
    return stream


@contextlib.contextmanager
def _translated(origin: Origin) -> Iterator[None]:
    try:
        yield
    except ConnectionFailed:
        raise
    except OSError as error:
        if is_deadline(error):
            raise
        raise origin.failed(f"the connection broke: {error.strerror or error}") from error
