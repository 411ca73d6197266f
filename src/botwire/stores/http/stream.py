"""Answers that have no end, read piece by piece: one connection for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

from .async_transport import AsyncTransport
from .exchange import _CHUNK, ConnectionFailed, Exchange, Request, Response
from .transport import Transport


class _Piecewise(Exchange):
    """An exchange whose body is taken as it comes."""

    @property
    def headed(self) -> bool:
        """Whether the header is there."""
        return self._headed

    @property
    def status(self) -> int:
        """The status, once the header is there."""
        return self._status

    def take(self) -> bytes:
        """Return what has come of the body since."""
        body = b"".join(self._parts)
        self._parts, self._length = [], 0
        return body


class Stream:
    """An answer under way.

    Args:
        transport: where to ask.
        request: what to ask.
        timeout: seconds until the header has to be there.

    Raises:
        ConnectionFailed: there was no answer.
        TimeoutError: not in time.
    """

    def __init__(self, transport: Transport, request: Request, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._process = os.getpid()
        self._exchange = _Piecewise(transport._origin)
        self._origin = transport._origin
        self.response: Response | None = None
        """The whole answer, if it is none to be read piece by piece."""
        self._socket = transport._connect(deadline)
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(self._origin.encode(request))
            while not self._exchange.headed or (self._exchange.status != 200 and self.response is None):
                self.response = self._receive(max(deadline - time.monotonic(), 0.001))
        except BaseException:
            self.close()
            raise

    @property
    def is_own(self) -> bool:
        """Whether this process made it: one that was forked from that must not read from it."""
        return self._process == os.getpid()

    def read(self, timeout: float) -> bytes:
        """Return what has come, at least something; nothing at the end.

        Raises:
            ConnectionFailed: the connection broke.
            TimeoutError: nothing came for so many seconds.
        """
        while not (data := self._exchange.take()) and self.response is None:
            self.response = self._receive(timeout)
        return data

    def _receive(self, timeout: float) -> Response | None:
        try:
            self._socket.settimeout(max(timeout, 0.001))
            return self._exchange.feed(self._socket.recv(_CHUNK))
        except TimeoutError:
            raise
        except ConnectionFailed:
            raise
        except OSError as error:
            raise self._origin.failed(f"the connection broke: {error.strerror or error}") from error

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def close(self) -> None:
        """Close the connection; in another thread, a read under way fails."""
        with contextlib.suppress(OSError):
            if self.is_own:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class AsyncStream:
    """`Stream` on an event loop, made by `open_stream`."""

    def __init__(self, transport: AsyncTransport, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._origin = transport._origin
        self._exchange = _Piecewise(transport._origin)
        self._reader = reader
        self._writer = writer
        self.response: Response | None = None
        self.is_own = True

    async def begin(self, request: Request) -> None:
        """Send the request and read the header."""
        self._writer.write(self._origin.encode(request))
        while not self._exchange.headed or (self._exchange.status != 200 and self.response is None):
            self.response = await self._receive()

    async def read(self, timeout: float) -> bytes:
        """As `Stream.read`."""
        async with asyncio.timeout(timeout):
            while not (data := self._exchange.take()) and self.response is None:
                self.response = await self._receive()
        return data

    async def _receive(self) -> Response | None:
        try:
            return self._exchange.feed(await self._reader.read(_CHUNK))
        except ConnectionFailed:
            raise
        except OSError as error:
            raise self._origin.failed(f"the connection broke: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


async def open_stream(transport: AsyncTransport, request: Request, timeout: float) -> AsyncStream:
    """Return an answer under way. The rest as for `Stream`."""
    origin = transport._origin
    async with asyncio.timeout(timeout):
        try:
            reader, writer = await asyncio.open_connection(origin.host, origin.port, ssl=origin.tls, limit=_CHUNK)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise origin.failed(f"cannot connect: {error.strerror or error}") from error
        stream = AsyncStream(transport, reader, writer)
        try:
            await stream.begin(request)
        except BaseException:
            stream.close()
            raise
    return stream
