"""Connections to an origin, directly or through a proxy's tunnel, and TLS on them."""

from __future__ import annotations

import asyncio
import socket
import ssl

from ...deadline import Deadline
from .addresses import addresses_of, addresses_of_async
from .messages import ConnectionFailed
from .origin import Origin
from .race import first_of, first_of_async
from .waiting import is_deadline, seconds_left

_MAX_HEADER = 16 * 1024
"""Bytes of a proxy's answer."""


def connect(origin: Origin, deadline: Deadline) -> socket.socket:
    """Return a connection that is ready for a request.

    Raises:
        ConnectionFailed: there is none.
        TimeoutError: the deadline has passed.
    """
    try:
        connection = first_of(addresses_of(origin, deadline), deadline)
    except OSError as error:
        if is_deadline(error):
            raise
        raise _cannot_connect(origin, error) from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if needs_tunnel(origin):
            _open_tunnel(origin, connection, deadline)
        if origin.tls is None:
            return connection
        connection.settimeout(seconds_left(deadline))
        return origin.tls.wrap_socket(connection, server_hostname=origin.host)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError) and not is_deadline(error):
            raise handshake_failed(origin, error) from error
        raise


async def connect_async(origin: Origin) -> socket.socket:
    """Return a connected socket that does not block, for asyncio to begin TLS on. The caller sets the timeout.

    Raises:
        ConnectionFailed: there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        connection = await first_of_async(await addresses_of_async(origin))
    except OSError as error:
        raise _cannot_connect(origin, error) from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if needs_tunnel(origin):
            await loop.sock_sendall(connection, _tunnel_request(origin))
            answer = b""
            while not _is_tunnel_open(origin, answer):
                answer += await _receive(origin, loop, connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError) and not is_deadline(error):
            raise handshake_failed(origin, error) from error
        raise
    return connection


def handshake_failed(origin: Origin, error: OSError) -> OSError:
    """Return the error for a connection on which the tunnel or TLS failed."""
    if isinstance(error, ConnectionFailed):
        return error
    what = f"no TLS: {error}" if origin.is_secure else f"cannot connect: {error.strerror or error}"
    return origin.failed(what, was_sent=False, is_final=isinstance(error, ssl.SSLCertVerificationError))


def _cannot_connect(origin: Origin, error: OSError) -> OSError:
    host, port = origin.endpoint
    by = f"to the proxy {host}:{port}" if origin.proxy else ""
    return origin.failed(f"cannot connect{by and ' '}{by}: {error.strerror or error}", was_sent=False)


# The tunnel through a proxy (RFC 9110, section 9.3.6)


def needs_tunnel(origin: Origin) -> bool:
    """Whether the proxy has to pass bytes on unread, because they are encrypted."""
    return origin.proxy is not None and origin.is_secure


def _open_tunnel(origin: Origin, connection: socket.socket, deadline: Deadline) -> None:
    connection.settimeout(seconds_left(deadline))
    connection.sendall(_tunnel_request(origin))
    answer = b""
    while not _is_tunnel_open(origin, answer):
        connection.settimeout(seconds_left(deadline))
        answer += _some(origin, connection.recv(_MAX_HEADER))


async def _receive(origin: Origin, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    return _some(origin, await loop.sock_recv(connection, _MAX_HEADER))


def _some(origin: Origin, data: bytes) -> bytes:
    if not data:
        raise origin.failed("the proxy closed the connection", was_sent=False)
    return data


def _tunnel_request(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    fields = f"Host: {host}:{origin.port}\r\n"
    if origin.proxy is not None and origin.proxy.authorization:
        fields += f"Proxy-Authorization: {origin.proxy.authorization}\r\n"
    return f"CONNECT {host}:{origin.port} HTTP/1.1\r\n{fields}\r\n".encode("ascii")


def _is_tunnel_open(origin: Origin, answer: bytes) -> bool:
    """Whether the proxy has agreed; the server behind it sends nothing before we do."""
    head, end, rest = answer.partition(b"\r\n\r\n")
    if not end and len(answer) < _MAX_HEADER:
        return False
    protocol, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    if not end or rest or not protocol.startswith("HTTP/1.") or not status[:3].isdigit():
        raise origin.failed("the proxy does not answer by HTTP", was_sent=False, is_final=True)
    if status.startswith("2"):
        return True
    # A proxy that is overloaded, or does not reach the server (5xx), may do so later.
    raise origin.failed(f"the proxy answered {status}", was_sent=False, is_final=not status.startswith("5"))
