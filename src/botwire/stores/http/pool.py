"""The connections of a store: a limited number, for which callers wait."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable
from functools import partial

from ...deadline import Deadline
from .connection import Connection

IDLE_SECONDS = 30.0
"""How long an unused connection is kept. Proxies and servers close theirs after a minute or more."""
MAX_CONNECTIONS = 64
"""Connections of one store at once. A server serves 1,000 by default, and at most half of them to one client."""
MIN_CONNECTIONS = 4
"""Connections that are tried at once even if the server refuses some."""
HELD_SECONDS = 0.5
"""How long a refused connection's permit is held back, after the one that was refused before it."""
ALL_IN_USE = f"all {MAX_CONNECTIONS} connections were in use"
_SLICE = 0.1
"""Seconds after which a thread that waits for a permit checks whether one was lost."""


class Pool(ABC):
    """Connections that wait for the next request, and the permits to have one open."""

    def __init__(self) -> None:
        self._idle: deque[tuple[Connection, float]] = deque()
        self._held: deque[tuple[float, Callable[[], object]]] = deque()

    @abstractmethod
    async def acquire(self, deadline: Deadline) -> Callable[[], object]:
        """Wait for a permit, and return what gives it back; raise TimeoutError if there is none at the deadline."""

    def hold_back(self, give_back: Callable[[], object]) -> None:
        """Give a permit back later, because the server has no room for its connection.

        So the store has as many connections as the server accepts, and tries one more from time to time. Otherwise, calls would
        spend their time with connections that the server refuses.
        """
        if len(self._held) >= MAX_CONNECTIONS - MIN_CONNECTIONS:
            give_back()
            return
        last = now = time.monotonic()
        with contextlib.suppress(IndexError):
            last = max(now, self._held[-1][0])
        self._held.append((last + HELD_SECONDS, give_back))

    def _give_back_held(self) -> None:
        now = time.monotonic()
        with contextlib.suppress(IndexError):  # there is none, or another thread took it
            while self._held[0][0] <= now:
                self._held.popleft()[1]()

    def take(self) -> Connection | None:
        """Return an idle connection that the server has not closed in the meantime."""
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # there is none, or another thread took it
                return None
            if time.monotonic() - since < IDLE_SECONDS and connection.is_silent:
                return connection
            connection.close()

    def give(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        self._idle.append((connection, time.monotonic()))

    def close_idle(self, seconds: float = 0.0) -> None:
        """Close the connections that no call has used for this long."""
        latest = time.monotonic() - seconds
        with contextlib.suppress(IndexError):  # there is none, or another thread took it
            while self._idle[0][1] <= latest:
                self._idle.popleft()[0].close()


class _Permit:
    __slots__ = ("__weakref__",)


class ThreadPool(Pool):
    """The pool of all threads.

    A KeyboardInterrupt can strike between any two steps of a caller, also in a ``finally`` and in a finalizer, and a permit is
    lost there. So every permit is tracked by a weak reference, and a lost one is replaced when a caller has to wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._free: queue.SimpleQueue[_Permit] = queue.SimpleQueue()
        self._permits: list[weakref.ref[_Permit]] = []
        self._mutex = threading.RLock()  # a signal handler may call the store again in the same thread
        self._is_replacing = False
        self._replace_lost()

    async def acquire(self, deadline: Deadline) -> Callable[[], object]:
        wait = 0.0
        while True:
            try:
                return partial(self._free.put, self._free.get(timeout=wait))
            except queue.Empty:
                if wait and deadline.is_over:
                    raise TimeoutError(ALL_IN_USE) from None
            self._give_back_held()
            self._replace_lost()
            wait = min(max(deadline.left(), 0.001), _SLICE)

    def _replace_lost(self) -> None:
        with self._mutex:
            if self._is_replacing:
                return
            try:
                self._is_replacing = True
                self._permits = [permit for permit in self._permits if permit() is not None]
                while len(self._permits) < MAX_CONNECTIONS:
                    permit = _Permit()
                    # Track it before others can take it: an interrupt between the two lines loses only this permit.
                    self._permits.append(weakref.ref(permit))
                    self._free.put(permit)
            finally:
                self._is_replacing = False


class LoopPool(Pool):
    """The pool of an event loop.

    An event loop that ends closes its asynchronous generators first (``loop.shutdown_asyncgens``, PEP 525), and notifies
    nothing else. So a generator waits for exactly that, to close what is idle.
    """

    def __init__(self) -> None:
        super().__init__()
        self._permits = asyncio.Semaphore(MAX_CONNECTIONS)
        self._end_of_loop: AsyncGenerator[None, None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, deadline: Deadline) -> Callable[[], object]:
        if self._end_of_loop is None:
            self._end_of_loop = _close_at_the_end(self._idle)
            await anext(self._end_of_loop)  # it waits from now on
        if not self._permits.locked():
            await self._permits.acquire()  # returns at once
            return self._permits.release
        try:
            async with asyncio.timeout(deadline.left()):
                await self._permits.acquire()
        except TimeoutError:
            raise TimeoutError(ALL_IN_USE) from None
        return self._permits.release

    def hold_back(self, give_back: Callable[[], object]) -> None:
        super().hold_back(give_back)
        if self._held:
            seconds = self._held[-1][0] - time.monotonic()
            asyncio.get_running_loop().call_later(seconds + 0.001, self._give_back_held)

    def give(self, connection: Connection) -> None:
        super().give(connection)
        if self._timer is None:
            # The timer is also what keeps this pool alive.
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_old)

    def _close_old(self) -> None:
        self._timer = None
        self.close_idle(IDLE_SECONDS)
        if self._idle:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_old)


async def _close_at_the_end(idle: deque[tuple[Connection, float]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        while idle:
            idle.pop()[0].close()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn
