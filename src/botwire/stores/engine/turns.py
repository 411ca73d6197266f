"""How many heavy reads run at once for an event loop, and for one namespace."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ...errors import Unavailable
from .stop import Stop

T = TypeVar("T")

AT_ONCE = 3
"""Heavy reads at once. The threads for reads, five or more, and the connections to PostgreSQL, eight, are enough for others then."""
SHARE = 2
"""Heavy reads of one namespace at once."""
_BUSY = "too many searches at once; try again"


LARGE_WORK = threading.Lock()
"""Held by a thread that works through something large for an event loop. Two at once would pass Python's lock to and fro, and a
transaction of thousands of statements, each of which gives it up, would take several times as long."""


class ReadingTurns:
    """Lets few heavy reads run at once, first come, first served, so that plain reads always find a thread."""

    def __init__(self) -> None:
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()

    async def run(self, namespace: str, stop: Stop, start: Callable[[], asyncio.Future[T]]) -> T:
        """Start a read in its turn and return its result; raises `Unavailable` if its turn does not come in time."""
        turns = self._of_loop.setdefault(asyncio.get_running_loop(), _Turns())
        await turns.enter(namespace, stop)
        try:
            reading = start()
        except BaseException:
            turns.leave(namespace)
            raise
        reading.add_done_callback(lambda _: turns.leave(namespace))
        return await until_cancelled(reading, stop)


async def until_cancelled(reading: asyncio.Future[T], stop: Stop) -> T:
    """Wait for a read in a thread. If the caller is cancelled, the read stops soon: a thread cannot be ended."""
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        stop.ask()
        reading.add_done_callback(_ignore_error)
        raise


def _ignore_error(reading: asyncio.Future[Any]) -> None:
    """Take the error of a read for which no one waits, which asyncio would log with a traceback."""
    if not reading.cancelled():
        reading.exception()


class _Turns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    async def enter(self, namespace: str, stop: Stop) -> None:
        if self._has_room(namespace):
            self._running[namespace] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((namespace, turn))
        try:
            async with asyncio.timeout(stop.at - time.monotonic()):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn came at the same moment
                self.leave(namespace)
            if isinstance(error, TimeoutError):
                raise Unavailable(_BUSY) from None
            raise

    def leave(self, namespace: str) -> None:
        self._running[namespace] -= 1
        self._running += Counter()  # forget namespaces that have none
        waiting, self._waiting = self._waiting, deque()
        for other, turn in waiting:
            if turn.done():
                continue
            if self._has_room(other):
                self._running[other] += 1
                turn.set_result(None)
            else:
                self._waiting.append((other, turn))

    def _has_room(self, namespace: str) -> bool:
        return self._running.total() < AT_ONCE and self._running[namespace] < SHARE
