"""Connect to the first of several addresses that answers.

A host with several addresses often has one that does not work, such as IPv6 in a network that does not route it. The next
address gets its turn as soon as one fails, or has not answered for a quarter of a second ("happy eyeballs", RFC 8305).
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
from collections import deque
from collections.abc import Sequence

from ...deadline import Deadline
from .addresses import Address
from .waiting import seconds_left

HEAD_START = 0.25
"""Seconds for which an address is tried before the next one is tried as well."""


def first_of(addresses: Sequence[Address], deadline: Deadline) -> socket.socket:
    """Return a connection to the first of the addresses that answers.

    Raises:
        OSError: none of them does; the message names the reason for each.
        TimeoutError: the deadline has passed.
    """
    return _Race(addresses).run(deadline)


class _Race:
    """Connect to addresses, a little later each, until one answers."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._waiting = deque(addresses)
        self._selector = selectors.DefaultSelector()
        self._failures: list[tuple[Address, OSError]] = []

    def run(self, deadline: Deadline) -> socket.socket:
        try:
            while True:
                self._begin_next()
                patience = seconds_left(deadline)
                if self._waiting:
                    patience = min(patience, HEAD_START)
                for key, _ in self._selector.select(patience):
                    connection, address = key.fileobj, key.data
                    assert isinstance(connection, socket.socket)
                    self._selector.unregister(connection)
                    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not code:
                        return connection
                    connection.close()
                    self._failures.append((address, OSError(code, os.strerror(code))))
        finally:
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
            self._selector.close()

    def _begin_next(self) -> None:
        while self._waiting:
            address = self._waiting.popleft()
            try:
                connection = socket.socket(address.family, socket.SOCK_STREAM)
            except OSError as error:  # the machine has no IPv6
                self._failures.append((address, error))
                continue
            connection.settimeout(0)
            code = connection.connect_ex(address.sockaddr)
            if code not in {0, errno.EINPROGRESS}:
                connection.close()
                self._failures.append((address, OSError(code, os.strerror(code))))
                continue
            self._selector.register(connection, selectors.EVENT_WRITE, address)
            return
        if not self._selector.get_map():
            raise _all_failed(self._failures)


async def first_of_async(addresses: Sequence[Address]) -> socket.socket:
    """As `first_of`, on an event loop."""
    waiting = deque(addresses)
    trying: dict[asyncio.Task[socket.socket], Address] = {}
    failures: list[tuple[Address, OSError]] = []
    try:
        while waiting or trying:
            if waiting:
                address = waiting.popleft()
                trying[asyncio.ensure_future(_connect_to(address))] = address
            patience = HEAD_START if waiting else None
            done, _ = await asyncio.wait(trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                address = trying.pop(task)
                if error is None:
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failures.append((address, error))
        raise _all_failed(failures)
    finally:
        for task in trying:
            # A task that has finished cannot be cancelled, and its connection has no owner.
            if not task.cancel() and task.exception() is None:
                task.result().close()


async def _connect_to(address: Address) -> socket.socket:
    connection = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connection.settimeout(0)
        await asyncio.get_running_loop().sock_connect(connection, address.sockaddr)
    except BaseException:
        connection.close()
        raise
    return connection


def _all_failed(failures: Sequence[tuple[Address, OSError]]) -> OSError:
    reasons = [(address.sockaddr[0], os.strerror(error.errno or errno.EIO)) for address, error in failures]
    if len(reasons) == 1:
        return OSError(reasons[0][1])
    return OSError("; ".join(f"{host}: {reason}" for host, reason in reasons))
