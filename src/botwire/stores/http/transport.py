"""HTTP/1.1 over kept connections, for callers in threads.

The parser is httptools'. General clients cost more than the server that they call: on the machine where this was decided, a
round trip took 190 µs with a bare socket, 200 with this, 290 with pyreqwest and libcurl, 510 with urllib3 and 770 with httpx.

Redirects are not followed: a request, and the token in it, reaches no host that the user did not name.
"""

from __future__ import annotations

import os
import socket
import weakref

from ...deadline import Deadline
from ...errors import StoreError
from .dial import connect
from .exchange import CHUNK, Exchange
from .messages import ConnectionFailed, Request, Response
from .origin import Origin
from .pool import Pool
from .waiting import is_deadline, seconds_left

CLOSED = "the store is closed; open a new one"


class Transport:
    """Blocking connections to one origin, shared by any number of threads; a forked child makes its own."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._pool = Pool()
        self._closed = False
        _ALL.add(self)

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the response.

        Raises:
            ConnectionFailed: there was none.
            TimeoutError: the response was not complete at the deadline.
            StoreError: the transport is closed.
        """
        data = self.origin.encode(request)
        pool = self._pool
        permit = pool.acquire(deadline)
        try:
            if self._closed:
                raise StoreError(CLOSED)
            # A kept connection may just be closed by the server. Then it is unknown whether the request arrived.
            connection = (pool.take() if request.may_repeat else None) or connect(self.origin, deadline)
            try:
                response, is_reusable = self._exchange(connection, data, deadline)
            except BaseException:
                connection.close()
                raise
            if is_reusable:
                pool.give(connection)
            else:
                connection.close()
        finally:
            pool.release(permit)
        if self._closed:
            pool.close_idle()
        return response

    def _exchange(self, connection: socket.socket, data: bytes, deadline: Deadline) -> tuple[Response, bool]:
        exchange = Exchange(self.origin)
        try:
            send_all(connection, data, deadline)
            response = None
            while response is None:
                connection.settimeout(seconds_left(deadline))
                response = exchange.feed(connection.recv(CHUNK))
        except ConnectionFailed:
            raise
        except OSError as error:
            if is_deadline(error):
                raise
            raise self.origin.failed(f"the connection broke: {error.strerror or error}") from error
        return response, exchange.reusable

    def close(self) -> None:
        """Close the idle connections now, and the others when their exchange has ended."""
        self._closed = True
        self._pool.close_idle()

    def abandon(self) -> None:
        """Begin with no connection, in a process that was forked: they belong to the parent."""
        self._pool.abandon()
        self._pool = Pool()


def send_all(connection: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Send all of the data. The ``sendall`` of a TLS socket grants the whole timeout to each 16 KiB."""
    sent = 0
    while sent < len(data):
        connection.settimeout(seconds_left(deadline))
        sent += connection.send(memoryview(data)[sent:])


_ALL: weakref.WeakSet[Transport] = weakref.WeakSet()


def _abandon_all() -> None:
    for transport in list(_ALL):
        transport.abandon()


os.register_at_fork(after_in_child=_abandon_all)
