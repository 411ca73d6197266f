"""The transport of a connection: it joins small writes, and knows how much of them the client has taken."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios


class JoiningTransport(asyncio.Transport):
    """A transport that sends all data of one turn of the event loop in one system call.

    uvicorn writes the header and the body of an answer separately, and uvloop sends each at once. These two packets wake
    the client twice.

    Args:
        loop: the event loop.
        transport: the transport that sends.
        below: with TLS, the transport of the connection below it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, *below: asyncio.Transport
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._buffers = (transport, *below)
        self._parts: list[bytes] = []
        self._written = 0
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

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait in this process, because the system takes no more."""
        return sum(transport.get_write_buffer_size() for transport in self._buffers)

    def taken(self) -> int:
        """Return about how many bytes the client's system has received."""
        return self._written - self.get_write_buffer_size() - _unreceived(self.get_extra_info("socket"))

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            data = b"".join(parts)
            self._written += len(data)
            self._transport.write(data)


def _unreceived(connection: socket.socket) -> int:
    """Return how many bytes wait in the system. It frees room in steps of up to a megabyte, so that room alone says little."""
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # it is closed
        return 0
