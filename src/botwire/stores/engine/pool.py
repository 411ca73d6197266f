"""A pool of connections to one database. Connections to a SQLite file are closed while the process forks.

SQLite must not be carried through a fork: the child would inherit locks in memory that the kernel never gave it
(https://www.sqlite.org/howtocorrupt.html, section 2.6). So every idle connection is closed before a fork, and parent and
child open new ones when they next need them.

Ctrl-C may strike between any two steps of a caller, which then never returns its connection. So the pool holds open connections
weakly: one that was lost is closed when it is collected, and is no longer in use. Before a fork, the pool collects it itself.

A signal handler, or a finalizer that the garbage collector runs, may interrupt any of these methods to use the same pool on the
same thread. So the lock of the pool is reentrant, and no method waits for something that only its own thread can release.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ...errors import StoreError, Unavailable
from ...forks import FORK_WAIT, ForkAware, register
from ...store import CLOSED

_REENTRY_WAIT = 0.5
"""Seconds that a thread waits for a connection that it has borrowed itself.

An event loop may begin a commit that another thread ends, so its thread may ask again and need not wait for long. A signal
handler that interrupted the borrower waits for itself.
"""
REENTERED = (
    "this thread is already using the store: a signal handler or a finalizer interrupted it to use the store too, and "
    "would wait for itself; nothing was read or written. Use the store from another thread"
)


_COLLECT_AFTER = 0.05
"""Seconds that a fork waits for connections before it collects lost ones. Most calls end sooner, and a collection costs more."""


class Closable(Protocol):
    """What the pool requires of a connection."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Connections(ForkAware, Generic[C]):
    """A pool that grows to the number of connections in use at once.

    Args:
        connect: opens a connection.
        on_fork: called in a forked child. The parent keeps its state: to reset it there too would leave its waiting threads in
            one queue while others start a second, and both queues would have a leader.
    """

    is_simple = True
    """Whether a hot path may append to `idle` directly. It may pop from it at any time."""

    def __init__(self, connect: Callable[[], C], *, on_fork: Callable[[], None]) -> None:
        self._connect = connect
        self._on_fork = on_fork
        self.idle: deque[C] = deque()
        """The connections that are not in use."""
        self._open: set[weakref.ref[C]] = set()
        """The connections that are not closed. Its methods are single steps for other threads and for finalizers."""
        self._gate = threading.RLock()
        self._closed = False
        self._reason = CLOSED

    def start(self) -> None:
        """Open the first connection. From now on forks concern the pool, so its owner must be ready for `on_fork`."""
        register(self)
        self.give(self._new())

    def take(self) -> C:
        """Borrow a connection; raises `StoreError` if the pool is closed, or no connection can be opened."""
        try:
            return self.idle.pop()
        except IndexError:
            return self._new()

    def adopt(self, connection: C) -> C:
        """Take over a connection that the caller opened, as if borrowed. `take` opens only one at a time, because of forks."""
        with self._gate:
            if self._closed:
                connection.close()
                raise StoreError(self._reason)
            self._count(connection)
            return connection

    def _count(self, connection: C) -> None:
        self._open.add(weakref.ref(connection, self._open.discard))

    def give(self, connection: C) -> None:
        """Return a connection."""
        self.idle.append(connection)
        if self._closed:
            self._close_idle()

    def hand_over(self, thread: str) -> None:
        """Note that a thread with such a name ends the use of the connection that this thread has borrowed last."""

    def drop(self, connection: C) -> None:
        """Close a borrowed connection that is of no more use. The only one of a store in memory is kept."""
        with self._gate:
            self._end(connection)

    def close(self, reason: str = CLOSED) -> None:
        """Close the idle connections now, and the others when they are returned. `reason`: the error of later calls."""
        self.is_simple = False
        with self._gate:
            if not self._closed:
                self._closed, self._reason = True, reason
            self._close_idle()

    def _new(self) -> C:
        with self._gate:
            if self._closed:
                raise StoreError(self._reason)
            connection = self._connect()
            self._count(connection)
            return connection

    def _close_idle(self) -> None:
        with self._gate:
            while True:
                try:
                    connection = self.idle.pop()
                except IndexError:
                    return
                self._end(connection)

    def _end(self, connection: C) -> None:
        connection.close()
        self._open.discard(weakref.ref(connection))

    def before_fork(self, deadline: float) -> None:
        """Wait until no connection is in use, and let no thread open one."""
        self._gate.acquire()
        self._wait_for_open(min(time.monotonic() + _COLLECT_AFTER, deadline))
        if self._open:
            gc.collect()  # of what Ctrl-C lost: a connection and its tables refer to each other
            self._wait_for_open(deadline)
        if count := len(self._open):
            _warn(f"{count} connection{'s'[: count > 1]} to the store")

    def _wait_for_open(self, deadline: float) -> None:
        self._close_idle()
        while self._open and time.monotonic() < deadline:
            time.sleep(0.001)
            self._close_idle()

    def after_fork(self) -> None:
        """Let threads open connections again."""
        self._gate.release()

    def after_fork_in_child(self) -> None:
        """Start again: the threads that borrowed a connection, or waited for one, do not exist in this process."""
        self._gate = threading.RLock()
        self.idle = deque()
        self._open = set()
        self._on_fork()


class SharedConnection(Connections[C]):
    """The one connection to a database in memory, which is kept through a fork.

    All threads share it, first come, first served: otherwise a thread that reads in a loop starves a writer.
    """

    is_simple = False

    def __init__(self, connect: Callable[[], C], *, on_fork: Callable[[], None]) -> None:
        self._free: C | None = None
        self._waiting: deque[_Waiter[C]] = deque()
        self._holder: int | None = None
        self._heir: str | None = None
        """The name of the thread to which the holder has handed the connection over, from its start."""
        self._forking: C | None = None
        super().__init__(connect, on_fork=on_fork)

    def take(self, timeout: float = -1) -> C:
        """As `Connections.take`; raises `Unavailable` after `timeout` seconds (-1: never), or if the thread waits for itself."""
        me = threading.get_ident()
        with self._gate:
            if self._free is not None and not self._closed:
                connection, self._free, self._holder = self._free, None, me
                if connection is not None:  # a finalizer may have closed the pool since
                    return connection
        waiter: _Waiter[C] = _Waiter(me)
        try:
            return self._wait(waiter, timeout)
        except BaseException:
            self._leave(waiter)
            raise

    def _wait(self, waiter: _Waiter[C], timeout: float) -> C:
        with self._gate:
            is_heir = self._heir is not None and threading.current_thread().name.startswith(self._heir)
            waiting = [other.thread for other in tuple(self._waiting)]
            if is_heir or waiter.thread == self._holder or waiter.thread in waiting:
                timeout = _REENTRY_WAIT
            self._waiting.append(waiter)
            self._serve_next()
        waiter.called.acquire(timeout=timeout)
        if waiter.connection is None:
            raise StoreError(self._reason) if self._closed else Unavailable(REENTERED)
        return waiter.connection

    def give(self, connection: C) -> None:
        with self._gate:
            self._free, self._holder, self._heir = connection, None, None
            self._serve_next()

    def hand_over(self, thread: str) -> None:
        self._heir = thread

    def drop(self, connection: C) -> None:
        self.give(connection)

    def close(self, reason: str = CLOSED) -> None:
        with self._gate:
            self._closed, self._reason = True, reason
            self._serve_next()

    def before_fork(self, deadline: float) -> None:
        """Borrow the connection, so that the child gets it between two statements."""
        try:
            self._forking = self.take(max(deadline - time.monotonic(), 0))
        except Unavailable:
            _warn("the connection to the store in memory")
        except StoreError:
            pass  # closed
        self._gate.acquire()

    def after_fork(self) -> None:
        self._gate.release()
        connection, self._forking = self._forking, None
        if connection is not None:
            self.give(connection)

    def after_fork_in_child(self) -> None:
        self._gate = threading.RLock()
        self._waiting = deque()
        connection, self._forking = self._forking, None
        if connection is not None:
            self.give(connection)
        elif self._free is None and self._holder != threading.get_ident():
            self._closed = True  # a thread that does not exist here is in the middle of a statement
        self._on_fork()

    def _serve_next(self) -> None:
        """Lend the connection to the next in line if it is free; once closed, close it and end every wait."""
        with self._gate:
            me = threading.get_ident()
            if self._closed:
                connection, self._free = self._free, None
                if connection is not None:
                    connection.close()
                waiting, self._waiting = self._waiting, deque()
                for waiter in waiting:
                    waiter.called.release()
            elif self._free is not None and self._waiting:
                # Lent to this thread first: a finalizer that runs in here must neither borrow it nor close it.
                connection, self._free, self._holder = self._free, None, me
                try:
                    waiter = self._waiting.popleft()
                except IndexError:  # a finalizer closed the pool
                    self._free = connection
                    self._serve_next()
                else:
                    waiter.connection, self._holder = connection, waiter.thread
                    waiter.called.release()

    def _leave(self, waiter: _Waiter[C]) -> None:
        """Stop waiting, and pass on the connection if it was lent at the last moment, as when Ctrl-C ends the wait."""
        with self._gate:
            connection, waiter.connection = waiter.connection, None
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if connection is not None:
                self.give(connection)


class _Waiter(Generic[C]):
    """A thread in line."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.called = threading.Lock()
        self.called.acquire()
        self.connection: C | None = None


def _warn(what: str) -> None:
    import logging  # which takes a while to import, and is hardly ever needed

    logging.getLogger("botwire").warning(
        "%s stayed in use for %g s while the process wanted to fork. The child may fail: fork while no thread uses a store",
        what,
        FORK_WAIT,
    )
