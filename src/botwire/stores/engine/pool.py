"""Connections to one SQLite database, lent to whoever needs one, and closed while the process forks.

SQLite must not be carried through a fork: the child would inherit locks in memory that the kernel never gave it
(https://www.sqlite.org/howtocorrupt.html, section 2.6). So every idle connection is closed before a fork, and parent and
child open new ones when they next need them.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ...errors import StoreError

_FORK_WAIT = 5.0
"""Seconds that a fork waits for connections in use by other threads."""


class Closable(Protocol):
    """All that a pool has to know of a connection."""

    def close(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


class Connections(Generic[C]):
    """A pool that grows to as many connections as are ever in use at once.

    Args:
        connect: opens a connection.
        private: the database is in memory, so that there is one connection for all, kept through a fork.
        on_fork: called in a child that was forked. The parent goes on with what it has: to begin anew there too would
            leave those who wait in one queue, let others begin a second, and both lead.
    """

    def __init__(self, connect: Callable[[], C], *, private: bool, on_fork: Callable[[], None]) -> None:
        self._connect = connect
        self._private = private
        self._on_fork = on_fork
        self.idle: deque[C] = deque()
        """The connections that are not in use. While `is_simple`, a hot path may pop from and append to it directly."""
        self.is_simple = not private
        self._open = 0
        self._gate = threading.RLock()
        self._waiting: deque[_Waiter[C]] = deque()
        self._closed = False
        self.give(self._new())
        _ALL.add(self)

    def take(self) -> C:
        """Borrow a connection."""
        if self._private:
            return self._take_turn()
        try:
            return self.idle.pop()
        except IndexError:
            return self._new()

    def give(self, connection: C) -> None:
        """Give a connection back."""
        if self._private:
            self._hand_on(connection)
        else:
            self.idle.append(connection)
        if self._closed:
            self._close_idle()

    def drop(self, connection: C) -> None:
        """Close a connection that is good for nothing any more."""
        with self._gate:
            connection.close()
            self._open -= 1

    def close(self) -> None:
        """Close what is idle now, and the others when they come back."""
        with self._gate:
            self._closed = True
            self._close_idle()
            while self._waiting:
                self._waiting.popleft().called.release()

    def _new(self) -> C:
        with self._gate:
            self._check_open()
            connection = self._connect()
            self._open += 1
            return connection

    def _take_turn(self) -> C:
        """Take the only connection, first come, first served: else a thread that reads in a loop starves one that writes."""
        with self._gate:
            self._check_open()
            if self.idle:
                return self.idle.pop()
            waiter: _Waiter[C] = _Waiter()
            self._waiting.append(waiter)
        waiter.called.acquire()
        if waiter.connection is None:
            self._check_open()
        assert waiter.connection is not None
        return waiter.connection

    def _hand_on(self, connection: C) -> None:
        with self._gate:
            if self._waiting:
                waiter = self._waiting.popleft()
                waiter.connection = connection
                waiter.called.release()
            else:
                self.idle.append(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed; open a new one")

    def _close_idle(self) -> None:
        with self._gate:
            while self.idle:
                self.idle.pop().close()
                self._open -= 1

    # A fork

    def before_fork(self) -> None:
        """Shut the gate and close everything."""
        self._gate.acquire()
        if self._private:
            return
        deadline = time.monotonic() + _FORK_WAIT
        self._close_idle()
        while self._open and time.monotonic() < deadline:
            time.sleep(0.001)
            self._close_idle()

    def after_fork(self) -> None:
        """Open the gate again."""
        self._gate.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: whoever held a connection or waited for one is not in this process."""
        self._gate = threading.RLock()
        self._waiting = deque()
        if not self._private:
            self.idle = deque()
            self._open = 0
        self._on_fork()


class _Waiter(Generic[C]):
    def __init__(self) -> None:
        self.called = threading.Lock()
        self.called.acquire()
        self.connection: C | None = None


_ALL: weakref.WeakSet[Connections[Any]] = weakref.WeakSet()


def _each(action: Callable[[Connections[Any]], None]) -> Callable[[], None]:
    def run() -> None:
        for connections in list(_ALL):
            action(connections)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_each(Connections.before_fork),
        after_in_parent=_each(Connections.after_fork),
        after_in_child=_each(Connections.after_fork_in_child),
    )
