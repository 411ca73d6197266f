"""Change feeds of a namespace in a database: read the new changes, then wait until there are more.

A feed polls. In a SQLite file a poll takes some microseconds, so it runs every few milliseconds. No file system event is as
cheap and as sure: the modification time of a write-ahead log can lag by several milliseconds. A database that announces
changes has a `ChangeSignal` of its own. An announcement only wakes the feed, which then reads the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import msgspec

from ...bridge import blocking
from ...operations import Expire
from ...queries import GetProgress, ListChanges
from ...records import Changes
from ...store import Reader, Store
from .poller import ChangeSignal, Expiring, Poller, finish


class _Wakeup(Protocol):
    """What ends the wait of a feed early; `set` may be called from any thread."""

    def set(self) -> None: ...

    def clear(self) -> None: ...


W = TypeVar("W", bound=_Wakeup)


class _FeedLogic(ABC, Generic[W]):
    """The logic of both feeds. The `after` of its query is the version of the last delivered change."""

    def __init__(self, namespace: str, query: ListChanges, signal: ChangeSignal) -> None:
        self._namespace = namespace
        self._query = query
        self._signal = signal
        self._closed = False

    @abstractmethod
    def _wakeup(self) -> W: ...

    @abstractmethod
    async def _read(self, query: ListChanges) -> Changes: ...

    @abstractmethod
    async def _wait(self, version: int, seconds: float, woken: W) -> None: ...

    async def _begin(self) -> int:
        if self._query.after is None:
            self._advance((await self._read(self._query)).version)
        assert self._query.after is not None
        return self._query.after

    async def _next(self, seconds: float | None) -> Changes:
        end = math.inf if seconds is None else time.monotonic() + seconds
        woken = self._wakeup()
        with self._signal.waiting(self._namespace, woken.set):
            while True:
                # Cleared before the read: an announcement during the read ends the wait at once.
                woken.clear()
                after = await self._begin()
                found = await self._read(self._query)
                self._advance(found.version)
                left = end - time.monotonic()
                if found.changes or self._closed or (found.version == after and left <= 0):
                    return found
                if found.version == after:
                    await self._wait(after, left, woken)

    def _advance(self, version: int) -> None:
        self._query = msgspec.structs.replace(self._query, after=version)


class Feed(_FeedLogic[threading.Event]):
    """A `store.Feed` over a `Store` that is a database.

    Args:
        store: the store.
        namespace: the namespace to follow.
        query: which changes, and after which version.
        signal: decides when to poll.
    """

    def __init__(self, store: Store, namespace: str, query: ListChanges, signal: ChangeSignal | None = None) -> None:
        super().__init__(namespace, query, signal or ChangeSignal())
        self._store = store
        self._woken = threading.Event()

    def _wakeup(self) -> threading.Event:
        return self._woken

    async def _read(self, query: ListChanges) -> Changes:
        return self._store.read(self._namespace, query)

    async def _wait(self, version: int, seconds: float, woken: threading.Event) -> None:
        start = time.monotonic()
        expiring = Expiring()
        while not self._closed:
            now = time.monotonic()
            progress = self._store.read(self._namespace, GetProgress())
            if progress.version != version or now >= start + seconds:
                return
            if expiring.is_due(progress):
                with expiring:
                    self._store.write(self._namespace, (Expire(),))
                continue
            pause = min(self._signal.pause(now - start), start + seconds - now)
            if woken.wait(min(pause, progress.due_in) if progress.due_in > 0 else pause):
                return

    begin = blocking(_FeedLogic._begin)
    next = blocking(_FeedLogic._next)

    def close(self) -> None:
        self._closed = True
        self._woken.set()


class _LoopWakeup:
    """A `_Wakeup` on the running event loop. It lives only as long as one call: a feed may be used on several loops."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.clear()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(finish, self.future)

    def clear(self) -> None:
        self.future: asyncio.Future[None] = self._loop.create_future()


class AsyncFeed(_FeedLogic[_LoopWakeup]):
    """A `store.AsyncFeed`, which shares the poller of its event loop with all others.

    Args:
        reader: reads the changes.
        poller: waits for a change.
        namespace: the namespace to follow.
        query: which changes, and after which version.
    """

    def __init__(self, reader: Reader, poller: Poller, namespace: str, query: ListChanges) -> None:
        super().__init__(namespace, query, poller.signal)
        self._reader = reader
        self._poller = poller

    def _wakeup(self) -> _LoopWakeup:
        return _LoopWakeup()

    async def _read(self, query: ListChanges) -> Changes:
        return await self._reader.read(self._namespace, query)

    async def _wait(self, version: int, seconds: float, woken: _LoopWakeup) -> None:
        await self._poller.wait(self._namespace, version, seconds, woken.future)

    begin = _FeedLogic._begin
    next = _FeedLogic._next

    async def close(self) -> None:
        """As `AsyncFeed.close`: it holds nothing to release."""
