"""Change feeds of a namespace in a database: read the new changes, then wait until there are more.

A feed polls. In a SQLite file a poll takes some microseconds, so it runs every few milliseconds. No file system event is as
cheap and as sure: the modification time of a write-ahead log can lag by several milliseconds. A database that announces
changes has a `ChangeSignal` of its own. An announcement only wakes the feed, which then reads the journal. The feeds of an
event loop share one poller.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from ...bridge import blocking
from ...errors import BotWireError
from ...operations import Expire
from ...queries import GetProgress, ListChanges
from ...records import Changes, Progress
from ...store import AsyncStore, Reader, Store

MIN_PAUSE, MAX_PAUSE = 0.002, 0.02
"""Seconds between two polls: right after a change, and when nothing has changed for a second."""
FULL_POLL = 0.25
"""Seconds after which every namespace is polled although nothing was written: entries may have expired."""
REST = 20
"""A poll is followed by a rest of 20 times its own duration, so that polling takes 5 % of an event loop's time."""
EXPIRY_RETRY = 1.0
"""Seconds until expired entries are removed again after a failed attempt."""
_MAX_TIMER = 3_600.0
"""Seconds until the expiry of an entry that get a timer; FULL_POLL finds later ones."""


class ChangeSignal:
    """Decides how long to wait between two polls, and can announce a change earlier. This one announces nothing."""

    def pause(self, idle: float) -> float:
        """Return the seconds until the next poll, when nothing has changed for `idle` seconds."""
        return adaptive_pause(idle, MIN_PAUSE, MAX_PAUSE)

    def waiting(self, namespace: str, wake: Callable[[], object]) -> contextlib.AbstractContextManager[object]:
        """Call `wake`, from any thread, whenever the namespace may have changed, until the context ends."""
        del namespace, wake
        return contextlib.nullcontext()


class _FeedLogic(ABC):
    """The logic of both feeds. The `after` of its query is the version of the last delivered change."""

    def __init__(self, namespace: str, query: ListChanges, signal: ChangeSignal) -> None:
        self._namespace = namespace
        self._query = query
        self._signal = signal
        self._closed = False

    @abstractmethod
    async def _read(self, query: ListChanges) -> Changes: ...

    @abstractmethod
    async def _wait(self, version: int, seconds: float, woken: Any) -> None: ...

    async def _begin(self) -> int:
        if self._query.after is None:
            self._advance((await self._read(self._query)).version)
        assert self._query.after is not None
        return self._query.after

    async def _follow(self, seconds: float | None, woken: threading.Event | _LoopWakeup) -> Changes:
        """Return the next changes, as `Feed.next`. Setting `woken` ends a wait early."""
        end = math.inf if seconds is None else time.monotonic() + seconds
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


class Feed(_FeedLogic):
    """A `store.Feed` over a `Store` that is a database."""

    def __init__(self, store: Store, namespace: str, query: ListChanges, signal: ChangeSignal | None = None) -> None:
        super().__init__(namespace, query, signal or ChangeSignal())
        self._store = store
        self._woken = threading.Event()

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

    async def _next(self, seconds: float | None) -> Changes:
        return await self._follow(seconds, self._woken)

    begin = blocking(_FeedLogic._begin)
    next = blocking(_next)

    def close(self) -> None:
        self._closed = True
        self._woken.set()


class _LoopWakeup:
    """An event on the running event loop, which any thread may set. A call has its own: a feed may be used on several loops."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.clear()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(finish, self.future)

    def clear(self) -> None:
        self.future: asyncio.Future[None] = self._loop.create_future()


class AsyncFeed(_FeedLogic):
    """A `store.AsyncFeed`, which shares the poller of its event loop with all others. `reader` reads the changes."""

    def __init__(self, reader: Reader, poller: Poller, namespace: str, query: ListChanges) -> None:
        super().__init__(namespace, query, poller.signal)
        self._reader = reader
        self._poller = poller
        self._waiting: weakref.WeakSet[_LoopWakeup] = weakref.WeakSet()  # a loop that is closed must be freed

    async def _read(self, query: ListChanges) -> Changes:
        return await self._reader.read(self._namespace, query)

    async def _wait(self, version: int, seconds: float, woken: _LoopWakeup) -> None:
        await self._poller.wait(self._namespace, version, seconds, woken.future)

    begin = _FeedLogic._begin

    async def next(self, seconds: float | None) -> Changes:
        woken = _LoopWakeup()
        self._waiting.add(woken)
        try:
            return await self._follow(seconds, woken)
        finally:
            self._waiting.discard(woken)

    async def close(self) -> None:
        self._closed = True
        for woken in tuple(self._waiting):
            woken.set()


class Poller:
    """Polls all namespaces that the tasks of an event loop wait for.

    Args:
        store: the store of the namespaces.
        peek_version: returns the progress of a namespace and a mark of the whole store, which differs after any commit.
            Without it, every namespace is read in each round.
        signal: decides when to poll.
    """

    def __init__(
        self,
        store: AsyncStore,
        *,
        peek_version: Callable[[str], tuple[Progress, object]] | None = None,
        signal: ChangeSignal | None = None,
    ) -> None:
        self.signal = signal or ChangeSignal()
        self._store = store
        self._peek_version = peek_version
        # A loop's poller refers to its task, and the task to the loop. A strong reference here would keep every loop alive.
        self._loops = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_LoopPoller]]()

    async def wait(self, namespace: str, version: int, seconds: float, woken: asyncio.Future[None]) -> None:
        """Return when the namespace has another version, `woken` is done, or after `seconds`."""
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        poller = None if known is None else known()
        if poller is None:
            poller = _LoopPoller(self)
            self._loops[loop] = weakref.ref(poller)
        await poller.wait(namespace, version, seconds, woken)

    async def peek(self, namespace: str) -> tuple[Progress, object]:
        """Return the progress of a namespace, and the mark of the store, None if it has none."""
        if self._peek_version is not None:
            return self._peek_version(namespace)
        return await self._store.read(namespace, GetProgress()), None

    async def expire(self, namespace: str) -> None:
        """Remove expired entries."""
        await self._store.write(namespace, (Expire(),))


class _LoopPoller:
    """The waiting tasks of one event loop, and the task that polls for them.

    A round polls all namespaces. Between rounds a namespace is polled alone when a task starts to wait for it, or when one
    of its entries expires. The polling task and the waiting tasks keep this object alive.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._waiting: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}
        self._expiring: dict[str, Expiring] = {}
        self._requested: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._rested_at = 0.0
        self._mark: object = None
        self._changed_at = self._full_poll_at = 0.0

    async def wait(self, namespace: str, version: int, seconds: float, done: asyncio.Future[None]) -> None:
        if done.done():
            return
        waiter = version, done
        self._waiting.setdefault(namespace, []).append(waiter)
        self._request(namespace)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._on_end)
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await done
        except TimeoutError:
            pass
        finally:
            self._waiting[namespace].remove(waiter)
            if not self._waiting[namespace]:
                del self._waiting[namespace]
                if (expiring := self._expiring.pop(namespace, None)) is not None:
                    expiring.cancel()

    def _request(self, namespace: str) -> None:
        """Have a namespace polled before the next round, as soon as the loop has rested from the last poll."""
        if not self._requested and self._alarm is not None:
            rest = max(self._rested_at - time.monotonic(), 0)
            self._alarm.get_loop().call_later(rest, finish, self._alarm)
        self._requested.add(namespace)

    async def _run(self) -> None:
        self._mark = None
        next_round = self._changed_at = self._full_poll_at = time.monotonic()
        while self._waiting:
            start = time.monotonic()
            requested, self._requested = self._requested, set()
            if requested and self._mark is None:
                self._changed_at = start  # without marks, the return of a waiting task is the only sign of a change
            is_round = start >= next_round
            if is_round:
                await self._poll_all(start, fully=bool(requested) or start - self._full_poll_at > FULL_POLL)
            else:
                for namespace in requested & self._waiting.keys():
                    await self._poll(namespace)
            now = time.monotonic()
            self._rested_at = now + (now - start) * REST
            pause_ends = now + self._poller.signal.pause(now - self._changed_at)
            next_round = max(pause_ends if is_round else min(pause_ends, next_round), self._rested_at)
            # Requests that arrived during the poll do not wait for the round.
            await self._sleep_until(self._rested_at if self._requested else next_round)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Pass an unexpected error on: the tasks that wait would wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            for namespace in self._waiting:
                self._fail(namespace, error)

    async def _poll_all(self, start: float, *, fully: bool) -> None:
        """Poll every namespace; only the first if the mark says that nothing was committed, unless `fully`."""
        mark: object = None
        for namespace in list(self._waiting):
            seen = await self._poll(namespace)
            if mark is None and seen is not None:
                mark = seen  # the first one: a commit after it, during this round, must be seen by the next round
                if mark != self._mark:
                    self._mark, self._changed_at, fully = mark, start, True
                if not fully:
                    return
        if fully:
            self._full_poll_at = start

    async def _sleep_until(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = loop.create_future()
        timer = loop.call_later(until - time.monotonic(), finish, self._alarm)
        try:
            await self._alarm
        finally:
            timer.cancel()
            self._alarm = None

    async def _poll(self, namespace: str) -> object:
        """Wake the tasks that wait for another version of a namespace, and remove what has expired in it.

        Returns the mark of the store; None if it has none, or after an error. An error goes to the tasks that wait for this
        namespace: they decide whether to continue.
        """
        try:
            progress, mark = await self._poller.peek(namespace)
        except BotWireError as error:
            self._fail(namespace, error)
            return None
        for version, done in self._waiting.get(namespace, ()):
            if version != progress.version:
                finish(done)
        if namespace in self._waiting:
            await self._remove_expired(namespace, progress)
        return mark

    def _fail(self, namespace: str, error: BaseException) -> None:
        for _, done in self._waiting.get(namespace, ()):
            if not done.done():
                done.set_exception(error)

    async def _remove_expired(self, namespace: str, progress: Progress) -> None:
        expiring = self._expiring.setdefault(namespace, Expiring())
        if expiring.is_due(progress):
            with expiring:
                await self._poller.expire(namespace)
        elif progress.due_in > 0:
            expiring.call_later(progress.due_in, partial(self._request, namespace))


def finish(done: asyncio.Future[None]) -> None:
    """Finish a future unless it is finished."""
    if not done.done():
        done.set_result(None)


class Expiring(contextlib.AbstractContextManager[None]):
    """Removes expired entries, so that watchers see the deletion although no one writes.

    The removal runs inside this context. If it fails, as on a full disk, the error is suppressed and it is retried later.
    """

    def __init__(self) -> None:
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def is_due(self, progress: Progress) -> bool:
        """Whether there are expired entries to remove now."""
        return progress.due_in <= 0 and time.monotonic() >= self._not_before

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call something on the running event loop after `seconds`, instead of the previous call."""
        self.cancel()
        if seconds <= _MAX_TIMER:
            self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def cancel(self) -> None:
        """Cancel the call, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is not None:
            self._not_before = time.monotonic() + EXPIRY_RETRY
        return isinstance(error, BotWireError)


def adaptive_pause(idle: float, shortest: float, longest: float) -> float:
    """Return a pause that grows with the idle time, from `shortest` to `longest` after one second. All in seconds."""
    return min(longest, max(shortest, longest * idle))
