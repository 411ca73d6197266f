"""The connections of a store that calls in threads share: a limited number, for which callers wait."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import time
import weakref
from collections import deque

from ...deadline import Deadline
from .waiting import seconds_left

IDLE_SECONDS = 30.0
"""How long an unused connection is kept. Proxies and servers close theirs after a minute or more."""
MAX_CONNECTIONS = 64
"""Connections of one store at once. A server serves 1,000 by default, and at most half of them to one client."""
ALL_IN_USE = f"all {MAX_CONNECTIONS} connections were in use"


class Permit:
    """The right to have one connection open.

    A KeyboardInterrupt can strike between any two steps of a caller, so a ``finally`` alone would lose some. A permit that
    is lost returns by itself. That takes no lock: the garbage collector may do it anywhere.
    """

    __slots__ = ("_permits",)

    def __init__(self, permits: weakref.ref[queue.SimpleQueue[Permit]]) -> None:
        self._permits = permits

    def __del__(self) -> None:
        permits = self._permits()
        if permits is not None:
            permits.put(Permit(self._permits))


class Pool:
    """Connections that wait for the next request, and the permits to open more."""

    def __init__(self) -> None:
        self._permits: queue.SimpleQueue[Permit] = queue.SimpleQueue()
        permits = weakref.ref(self._permits)
        for _ in range(MAX_CONNECTIONS):
            self._permits.put(Permit(permits))
        self._idle: deque[tuple[socket.socket, float]] = deque()

    def acquire(self, deadline: Deadline) -> Permit:
        """Wait for a permit; first come, first served.

        Raises:
            TimeoutError: the deadline has passed.
        """
        try:
            return self._permits.get(timeout=seconds_left(deadline))
        except queue.Empty:
            raise TimeoutError(ALL_IN_USE) from None

    def release(self, permit: Permit) -> None:
        """Return a permit."""
        self._permits.put(permit)

    def take(self) -> socket.socket | None:
        """Return an idle connection that the server has not closed in the meantime."""
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread took it
                break
            if time.monotonic() - since < IDLE_SECONDS and not _is_readable(connection):
                return connection
            connection.close()
        return None

    def give(self, connection: socket.socket) -> None:
        """Keep a connection for the next request."""
        self._idle.append((connection, time.monotonic()))

    def close_idle(self) -> None:
        """Close the connections that no call uses."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took it
                self._idle.pop()[0].close()

    def abandon(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        while self._idle:
            os.close(self._idle.pop()[0].detach())


def _is_readable(connection: socket.socket) -> bool:
    """Whether there is something to read: between two requests that can only be the end."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
