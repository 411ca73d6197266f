"""Connect to an origin: directly or through a proxy's tunnel, at the first of its addresses that answers."""

from __future__ import annotations

import _thread
import errno
import math
import os
import selectors
import socket
import ssl
from collections import Counter, deque
from typing import Any, TypeAlias, cast

from ...deadline import Deadline
from .connection import Connection, Kind, is_deadline, seconds_left
from .messages import ConnectionFailed
from .origin import Origin

HEAD_START = 0.25
"""Seconds for which an address is tried before the next one is tried as well."""
Address: TypeAlias = tuple[int, Any]
"""The family of an address, and what a socket of the family connects to."""
_MAX_HEADER = 16 * 1024
"""Bytes of a proxy's answer."""


async def connect(origin: Origin, kind: Kind, deadline: Deadline) -> Connection:
    """Return a connection that is ready for a request, or raise `ConnectionFailed`, or TimeoutError at the deadline."""
    try:
        connected = await _Race(await _addresses_of(origin, kind, deadline)).run(kind, deadline)
    except OSError as error:
        if is_deadline(error):
            raise
        by = " to the proxy {}:{}".format(*origin.endpoint) if origin.proxy else ""
        raise origin.failed(f"cannot connect{by}: {error.strerror or error}", was_sent=False) from error
    connection: Connection | None = None
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = await kind.over(connected)
        if origin.proxy is not None and origin.is_secure:
            await _open_tunnel(origin, connection, deadline)
        if origin.tls is not None:
            await connection.start_tls(origin.tls, origin.host, deadline)
    except BaseException as error:
        (connection or connected).close()
        if not isinstance(error, OSError) or isinstance(error, ConnectionFailed) or is_deadline(error):
            raise
        what = f"no TLS: {error}" if origin.is_secure else f"cannot connect: {error.strerror or error}"
        is_final = isinstance(error, ssl.SSLCertVerificationError)
        raise origin.failed(what, was_sent=False, is_final=is_final) from error
    return connection


async def _addresses_of(origin: Origin, kind: Kind, deadline: Deadline) -> list[Address]:
    """Return the addresses to connect to, and read the certificates to trust."""
    if origin.is_prepared:
        try:
            return _resolve(*origin.endpoint, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name
    # A resolver takes no timeout, and may take half a minute when the network is down. So it runs in a thread that no call
    # has to wait for, and that does not delay the end of the program. It closes its end of a socket pair when it is done.
    ours, theirs = socket.socketpair()
    outcome: list[list[Address] | BaseException] = []

    def run() -> None:
        with theirs:
            try:
                origin.load_tls()
                outcome.append(_resolve(*origin.endpoint, 0))
            except BaseException as error:  # noqa: BLE001 - raised below
                outcome.append(error)

    with ours:
        _thread.start_new_thread(run, ())
        while not outcome:
            await kind.wait_readable(ours.fileno(), seconds_left(deadline))
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _resolve(host: str, port: int, flags: int) -> list[Address]:
    """Return the addresses of a host, alternating between IPv6 and IPv4 as RFC 8305 asks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    seen: Counter[int] = Counter()

    def turn(address: Address) -> int:
        seen[address[0]] += 1
        return seen[address[0]]

    return sorted(((family, sockaddr) for family, _, _, _, sockaddr in found), key=turn)


class _Race:
    """Connect to the first of several addresses that answers ("happy eyeballs", RFC 8305).

    A host with several addresses often has one that does not work, such as IPv6 in a network that does not route it. The next
    address is tried as soon as one fails, or has not answered for a quarter of a second.
    """

    def __init__(self, addresses: list[Address]) -> None:
        self._waiting = deque(addresses)
        self._selector = selectors.DefaultSelector()
        self._failures: list[tuple[str, int]] = []

    async def run(self, kind: Kind, deadline: Deadline) -> socket.socket:
        """Return a connected socket, or raise OSError, whose message says for each address why it does not answer."""
        try:
            while True:
                self._begin_next()
                patience = min(seconds_left(deadline), HEAD_START if self._waiting else math.inf)
                # A selector has a file descriptor of its own, so one wait is enough for all sockets.
                await kind.wait_readable(self._selector.fileno(), patience)
                if (connected := self._winner()) is not None:
                    return connected
        finally:
            for key in self._selector.get_map().values():
                key.fileobj.close()  # type: ignore[union-attr]
            self._selector.close()

    def _begin_next(self) -> None:
        while self._waiting:
            family, sockaddr = self._waiting.popleft()
            try:
                connecting = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # the machine has no IPv6
                self._failures.append((sockaddr[0], error.errno or errno.EIO))
                continue
            connecting.settimeout(0)
            code = connecting.connect_ex(sockaddr)
            if code in {0, errno.EINPROGRESS}:
                self._selector.register(connecting, selectors.EVENT_WRITE, sockaddr[0])
                return
            connecting.close()
            self._failures.append((sockaddr[0], code))
        if not self._selector.get_map():
            reasons = [f"{host}: {os.strerror(code)}" for host, code in self._failures]
            raise OSError("; ".join(reasons) if len(reasons) > 1 else os.strerror(self._failures[0][1]))

    def _winner(self) -> socket.socket | None:
        for key, _ in self._selector.select(0):
            connected = cast("socket.socket", key.fileobj)
            self._selector.unregister(connected)
            code = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return connected
            connected.close()
            self._failures.append((key.data, code))
        return None


async def _open_tunnel(origin: Origin, connection: Connection, deadline: Deadline) -> None:
    """Let the proxy pass bytes on unread, because they are encrypted (RFC 9110, section 9.3.6)."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    fields = f"Host: {host}:{origin.port}\r\n"
    if origin.proxy is not None and origin.proxy.authorization:
        fields += f"Proxy-Authorization: {origin.proxy.authorization}\r\n"
    await connection.send(f"CONNECT {host}:{origin.port} HTTP/1.1\r\n{fields}\r\n".encode("ascii"), deadline)
    answer = b""
    while not _is_tunnel_open(origin, answer):
        data = await connection.receive(deadline)
        if not data:
            raise origin.failed("the proxy closed the connection", was_sent=False)
        answer += data


def _is_tunnel_open(origin: Origin, answer: bytes) -> bool:
    """Whether the proxy has agreed. The server sends nothing before the client does."""
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
