"""Poll for new changes of namespaces: one poller for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import weakref
from collections.abc import Awaitable, Callable
from functools import partial

from ...errors import BotWireError
from ...operations import Expire
from ...queries import GetProgress
from ...records import Progress
from ...store import AsyncStore

SHORTEST, LONGEST = 0.002, 0.02
"""Seconds between two looks, while something happens and when nothing has for a second."""
ALL = 0.25
"""Seconds after which every namespace is looked at, although nothing was written: entries may have expired."""
SHARE = 20
"""Looking takes one part in so many of an event loop's time, at the most."""
AGAIN = 1.0
"""Seconds after which what has expired is removed again, when that has failed."""
_FARTHEST = 3_600.0
"""Seconds for which a timer is set, at the most."""


class Waker:
    """Says how long those who follow wait between two looks, and may wake them before. This one wakes nobody."""

    def pause(self, idle: float) -> float:
        """Return how long to wait for the next look, when nothing has happened for so many seconds."""
        return pause_after(idle, SHORTEST, LONGEST)

    def waiting(self, namespace: str, wake: Callable[[], object]) -> contextlib.AbstractContextManager[object]:
        """Call something, from any thread, when a namespace may have changed, until the context is left."""
        del namespace, wake
        return contextlib.nullcontext()


class Hub:
    """Looks at all namespaces that an event loop waits for.

    Args:
        store: where the namespaces are.
        glance: returns how far a namespace is and a mark that is another one when anything was written since, whatever it
            was; without it every namespace is looked at each time.
        waker: what says when to look.
    """

    def __init__(
        self,
        store: AsyncStore,
        *,
        glance: Callable[[str], tuple[Progress, object]] | None = None,
        waker: Waker | None = None,
    ) -> None:
        self.waker = waker or Waker()
        self._store = store
        self._glance = glance
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Looking] = weakref.WeakKeyDictionary()

    async def wait(self, namespace: str, version: int, seconds: float, woken: asyncio.Future[None]) -> None:
        """Return when a namespace is not at this version any more, or its waiter is woken, or so many seconds have passed."""
        loop = asyncio.get_running_loop()
        looking = self._loops.get(loop)
        if looking is None:
            looking = self._loops[loop] = _Looking(self._look, self._expire, self.waker)
        await looking.wait(namespace, version, seconds, woken)

    async def _look(self, namespace: str) -> tuple[Progress, object]:
        if self._glance is not None:
            return self._glance(namespace)
        return await self._store.read(namespace, GetProgress()), None

    async def _expire(self, namespace: str) -> None:
        await self._store.write(namespace, (Expire(),))


class _Looking:
    """The waiting of one event loop, and the task that looks while anybody waits.

    It goes round all namespaces after each pause, and looks at one alone when somebody begins to wait for it, or something in
    it expires.
    """

    def __init__(
        self,
        look: Callable[[str], Awaitable[tuple[Progress, object]]],
        expire: Callable[[str], Awaitable[None]],
        waker: Waker,
    ) -> None:
        self._look = look
        self._expire = expire
        self._waker = waker
        self._waiting: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}
        self._expiring: dict[str, Expiring] = {}
        self._task: asyncio.Task[None] | None = None
        self._called: set[str] = set()
        self._rested = 0.0
        self._alarm: asyncio.Future[None] | None = None

    async def wait(self, namespace: str, version: int, seconds: float, done: asyncio.Future[None]) -> None:
        if done.done():
            return
        waiter = version, done
        self._waiting.setdefault(namespace, []).append(waiter)
        self._call(namespace)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
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
                    expiring.call_at_its_time(None, math.inf)

    def _call(self, namespace: str) -> None:
        """Have a namespace looked at before the next round, as soon as the last look is paid for."""
        if not self._called and self._alarm is not None:
            pause = max(self._rested - time.monotonic(), 0)
            self._alarm.get_loop().call_later(pause, _finish, self._alarm)
        self._called.add(namespace)

    async def _run(self) -> None:
        mark: object = None
        since = looked = following = time.monotonic()
        while self._waiting:
            start = time.monotonic()
            called, self._called = self._called, set()
            is_round = start >= following
            everything = bool(called) or start - looked > ALL
            if called and mark is None:
                since = start
            for namespace in list(self._waiting) if is_round else called & self._waiting.keys():
                seen = await self._see(namespace)
                if seen is None or not is_round:
                    continue
                if seen != mark:
                    mark, since, everything = seen, start, True
                if not everything:
                    break
            if is_round and everything:
                looked = start
            now = time.monotonic()
            self._rested = now + (now - start) * SHARE
            pause = now + self._waker.pause(now - since)
            following = max(pause if is_round else min(pause, following), self._rested)
            await self._sleep(self._rested if self._called else following)

    async def _sleep(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = loop.create_future()
        timer = loop.call_later(until - time.monotonic(), _finish, self._alarm)
        try:
            await self._alarm
        finally:
            timer.cancel()
            self._alarm = None

    async def _see(self, namespace: str) -> object:
        """Look at a namespace, and wake those who wait for it; return the mark, or None if there is none to be had."""
        try:
            progress, mark = await self._look(namespace)
        except BotWireError as error:
            for _, done in self._waiting.get(namespace, ()):
                if not done.done():
                    done.set_exception(error)
            return None
        for version, done in self._waiting.get(namespace, ()):
            if version != progress.version:
                _finish(done)
        if namespace not in self._waiting:
            return mark
        expiring = self._expiring.setdefault(namespace, Expiring())
        if expiring.is_to_be_tried(progress):
            with expiring:
                await self._expire(namespace)
        elif progress.due_in > 0:
            expiring.call_at_its_time(partial(self._call, namespace), progress.due_in)
        return mark


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


class Expiring(contextlib.AbstractContextManager[None]):
    """Removing what has expired, for a watcher to see it go. Where that fails, as on a full disk, it is tried again later."""

    def __init__(self) -> None:
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def is_to_be_tried(self, progress: Progress) -> bool:
        """Whether there is something to remove."""
        return progress.due_in <= 0 and time.monotonic() >= self._not_before

    def call_at_its_time(self, call: Callable[[], object] | None, seconds: float) -> None:
        """Call something on the event loop when so many seconds have passed, instead of what was to be called before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if call is not None and seconds <= _FARTHEST:
            self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is not None:
            self._not_before = time.monotonic() + AGAIN
        return isinstance(error, BotWireError)


def pause_after(idle: float, shortest: float, longest: float) -> float:
    """Return how long to wait for the next look, when nothing has happened for so long."""
    return min(longest, max(shortest, longest * idle))
