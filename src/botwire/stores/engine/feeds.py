"""Following the changes of a namespace in a database: read what is new, and look now and then whether there is more.

In a file a look costs some microseconds, so it is made every few milliseconds. No file tells as cheaply, and surely, that
another process has written: the time of a write-ahead log stands still for several milliseconds. A database that tells of
changes itself has a `Waker` that does; what is told wakes up, and what is there is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from abc import ABC, abstractmethod

import msgspec

from ...bridge import blocking
from ...operations import Expire
from ...queries import GetProgress, ListChanges
from ...records import Changes
from ...store import Reader, Store
from .poller import Expiring, Hub, Waker, _finish


class _Following(ABC):
    """The logic of both feeds: what was asked for, and how far it was told."""

    def __init__(self, namespace: str, query: ListChanges, waker: Waker) -> None:
        self._namespace = namespace
        self._query = query
        self._waker = waker
        self._closed = False

    @abstractmethod
    def _rest(self) -> None:
        """Forget that it was woken."""

    @abstractmethod
    def _wake(self) -> None: ...

    @abstractmethod
    async def _read(self, query: ListChanges) -> Changes: ...

    @abstractmethod
    async def _wait(self, version: int, seconds: float) -> None: ...

    async def _begin(self) -> int:
        if self._query.after is None:
            self._go_on((await self._read(self._query)).version)
        assert self._query.after is not None
        return self._query.after

    async def _next(self, seconds: float | None) -> Changes:
        end = math.inf if seconds is None else time.monotonic() + seconds
        self._rest()
        with self._waker.waiting(self._namespace, self._wake):
            while True:
                after = await self._begin()
                found = await self._read(self._query)
                self._go_on(found.version)
                left = end - time.monotonic()
                if found.changes or self._closed or (found.version == after and left <= 0):
                    return found
                if found.version == after:
                    await self._wait(after, left)
                self._rest()

    def _go_on(self, version: int) -> None:
        self._query = msgspec.structs.replace(self._query, after=version)


class Feed(_Following):
    """A `store.Feed` over a `Store` that is a database.

    Args:
        store: the store.
        namespace: whose changes.
        query: which, and where to begin.
        waker: what says when to look.
    """

    def __init__(self, store: Store, namespace: str, query: ListChanges, waker: Waker | None = None) -> None:
        super().__init__(namespace, query, waker or Waker())
        self._store = store
        self._woken = threading.Event()

    def _rest(self) -> None:
        self._woken.clear()

    def _wake(self) -> None:
        self._woken.set()

    async def _read(self, query: ListChanges) -> Changes:
        return self._store.read(self._namespace, query)

    async def _wait(self, version: int, seconds: float) -> None:
        start = time.monotonic()
        expiring = Expiring()
        while not self._closed:
            now = time.monotonic()
            progress = self._store.read(self._namespace, GetProgress())
            if progress.version != version or now >= start + seconds:
                return
            if expiring.is_to_be_tried(progress):
                with expiring:
                    self._store.write(self._namespace, (Expire(),))
                continue
            pause = min(self._waker.pause(now - start), start + seconds - now)
            if self._woken.wait(min(pause, progress.due_in) if progress.due_in > 0 else pause):
                return

    begin = blocking(_Following._begin)
    next = blocking(_Following._next)

    def close(self) -> None:
        """As `Feed.close`."""
        self._closed = True
        self._woken.set()


class AsyncFeed(_Following):
    """A `store.AsyncFeed`, whose event loop looks for all at once.

    Args:
        reader: what is read from.
        hub: what looks.
        namespace: whose changes.
        query: which, and where to begin.
    """

    def __init__(self, reader: Reader, hub: Hub, namespace: str, query: ListChanges) -> None:
        super().__init__(namespace, query, hub.waker)
        self._reader = reader
        self._hub = hub
        self._woken: asyncio.Future[None]

    def _rest(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()

    def _wake(self) -> None:
        woken = self._woken
        with contextlib.suppress(RuntimeError):  # the loop is closed
            woken.get_loop().call_soon_threadsafe(_finish, woken)

    async def _read(self, query: ListChanges) -> Changes:
        return await self._reader.read(self._namespace, query)

    async def _wait(self, version: int, seconds: float) -> None:
        await self._hub.wait(self._namespace, version, seconds, self._woken)

    begin = _Following._begin
    next = _Following._next

    async def close(self) -> None:
        """As `AsyncFeed.close`: there is nothing to let go of."""
