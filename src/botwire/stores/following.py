"""Following the changes of a namespace in a database: read what is new, and look every few milliseconds whether there is more.

A look costs some microseconds. No file tells as cheaply, and surely, that another process has written: the time of a
write-ahead log stands still for several milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import msgspec

from ..bridge import blocking
from ..errors import BotWireError
from ..records import Changes, Expire, GetProgress, ListChanges, Progress
from ..store import AsyncStore, Reader, Store

SHORTEST, LONGEST = 0.002, 0.02
"""Seconds between two looks, while something happens and when nothing has for a second."""
ALL = 0.25
"""Seconds after which every namespace is looked at, although nothing was written: entries may have expired."""
SHARE = 20
"""Looking takes one part in so many of an event loop's time, at the most."""
AGAIN = 1.0
"""Seconds after which what has expired is removed again, when that has failed."""


class _Following(ABC):
    """The logic of both feeds: what was asked for, and how far it was told."""

    def __init__(self, namespace: str, query: ListChanges) -> None:
        self._namespace = namespace
        self._query = query
        self._closed = False

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
        while True:
            after = await self._begin()
            found = await self._read(self._query)
            self._go_on(found.version)
            left = end - time.monotonic()
            if found.changes or self._closed or (found.version == after and left <= 0):
                return found
            if found.version == after:
                await self._wait(after, left)

    def _go_on(self, version: int) -> None:
        self._query = msgspec.structs.replace(self._query, after=version)


class Feed(_Following):
    """A `store.Feed` over a `Store` that is a database.

    Args:
        store: the store.
        namespace: whose changes.
        query: which, and where to begin.
        pauses: seconds between two looks: the shortest and the longest time.
    """

    def __init__(
        self, store: Store, namespace: str, query: ListChanges, *, pauses: tuple[float, float] = (SHORTEST, LONGEST)
    ) -> None:
        super().__init__(namespace, query)
        self._store = store
        self._pauses = pauses

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
            time.sleep(min(pause_after(now - start, *self._pauses), start + seconds - now))

    begin = blocking(_Following._begin)
    next = blocking(_Following._next)

    def close(self) -> None:
        """As `Feed.close`."""
        self._closed = True


class AsyncFeed(_Following):
    """A `store.AsyncFeed`, whose event loop looks for all at once.

    Args:
        reader: what is read from.
        hub: what looks.
        namespace: whose changes.
        query: which, and where to begin.
    """

    def __init__(self, reader: Reader, hub: Hub, namespace: str, query: ListChanges) -> None:
        super().__init__(namespace, query)
        self._reader = reader
        self._hub = hub

    async def _read(self, query: ListChanges) -> Changes:
        return await self._reader.read(self._namespace, query)

    async def _wait(self, version: int, seconds: float) -> None:
        await self._hub.wait(self._namespace, version, seconds)

    begin = _Following._begin
    next = _Following._next

    async def close(self) -> None:
        """As `AsyncFeed.close`: there is nothing to let go of."""


class Hub:
    """Looks at all namespaces that an event loop waits for.

    Args:
        store: where the namespaces are.
        glance: returns how far a namespace is and a mark that is another one when anything was written since, whatever it
            was; without it every namespace is looked at each time.
        pauses: as for `Feed`.
    """

    def __init__(
        self,
        store: AsyncStore,
        *,
        glance: Callable[[str], tuple[Progress, object]] | None = None,
        pauses: tuple[float, float] = (SHORTEST, LONGEST),
    ) -> None:
        self._store = store
        self._glance = glance
        self._pauses = pauses
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Looking] = weakref.WeakKeyDictionary()

    async def wait(self, namespace: str, version: int, seconds: float) -> None:
        """Return when a namespace is not at this version any more, or so many seconds have passed."""
        loop = asyncio.get_running_loop()
        looking = self._loops.get(loop)
        if looking is None:
            looking = self._loops[loop] = _Looking(self._look, self._expire, self._pauses)
        await looking.wait(namespace, version, seconds)

    async def _look(self, namespace: str) -> tuple[Progress, object]:
        if self._glance is not None:
            return self._glance(namespace)
        return await self._store.read(namespace, GetProgress()), object()

    async def _expire(self, namespace: str) -> None:
        await self._store.write(namespace, (Expire(),))


class _Looking:
    """The waiting of one event loop, and the task that looks while anybody waits."""

    def __init__(
        self,
        look: Callable[[str], Awaitable[tuple[Progress, object]]],
        expire: Callable[[str], Awaitable[None]],
        pauses: tuple[float, float],
    ) -> None:
        self._look = look
        self._expire = expire
        self._pauses = pauses
        self._waiting: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}
        self._expiring: dict[str, Expiring] = {}
        self._task: asyncio.Task[None] | None = None
        self._new = False

    async def wait(self, namespace: str, version: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        waiter = version, done
        self._waiting.setdefault(namespace, []).append(waiter)
        self._new = True
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await done
        except TimeoutError:
            pass
        finally:
            self._waiting[namespace].remove(waiter)
            if not self._waiting[namespace]:
                del self._waiting[namespace]
                self._expiring.pop(namespace, None)

    async def _run(self) -> None:
        mark: object = None
        since = looked = time.monotonic()
        while self._waiting:
            start = time.monotonic()
            everything, self._new = self._new or start - looked > ALL, False
            for namespace in list(self._waiting):
                seen = await self._see(namespace)
                if seen is None:
                    continue
                if seen != mark:
                    mark, since, everything = seen, start, True
                if not everything:
                    break
            if everything:
                looked = start
            now = time.monotonic()
            await asyncio.sleep(max(pause_after(now - since, *self._pauses), (now - start) * SHARE))

    async def _see(self, namespace: str) -> object:
        """Look at a namespace, and wake those who wait for it; return the mark, or None if there was none to get."""
        try:
            progress, mark = await self._look(namespace)
        except BotWireError as error:
            for _, done in self._waiting.get(namespace, ()):
                if not done.done():
                    done.set_exception(error)
            return None
        for version, done in self._waiting.get(namespace, ()):
            if version != progress.version and not done.done():
                done.set_result(None)
        expiring = self._expiring.setdefault(namespace, Expiring())
        if expiring.is_to_be_tried(progress):
            with expiring:
                await self._expire(namespace)
        return mark


class Expiring(contextlib.AbstractContextManager[None]):
    """Removing what has expired, for a watcher to see it go. Where that fails, as on a full disk, it is tried again later."""

    def __init__(self) -> None:
        self._not_before = 0.0

    def is_to_be_tried(self, progress: Progress) -> bool:
        """Whether there is something to remove."""
        return progress.due and time.monotonic() >= self._not_before

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is not None:
            self._not_before = time.monotonic() + AGAIN
        return isinstance(error, BotWireError)


def pause_after(idle: float, shortest: float, longest: float) -> float:
    """Return how long to wait for the next look, when nothing has happened for so long."""
    return min(longest, max(shortest, longest * idle))
