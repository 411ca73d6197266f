"""HTTP/1.1 over kept connections: requests out, responses in, one deadline for each exchange.

The parser is httptools'. The usual clients cost more than the server they talk to: on the machine where this was decided a
round trip took a bare socket 190 µs, this 200, pyreqwest and libcurl 290, urllib3 510 and httpx 770.

Redirects are not followed and proxies in the environment are not used: nothing goes to a host that the user did not name.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
import weakref
from collections import deque
from collections.abc import Mapping

from ...errors import StoreError
from .exchange import _CHUNK, CLOSED, ConnectionFailed, Exchange, Origin, Request, Response

IDLE_SECONDS = 30.0
"""How long a connection is kept that nobody uses."""
MAX_IDLE = 32


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
