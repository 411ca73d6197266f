"""How many reads of a kind run at once for an event loop, and for one namespace."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
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
_BUSY = "too many searches, or reads of long values, at once; try again"


LARGE_WORK = threading.Lock()
"""Held by a thread that works through something large for an event loop. Two at once would pass Python's lock to and fro, and a
transaction of thousands of statements, each of which gives it up, would take several times as long."""


class ReadingTurns:
    """Lets few reads run at once, by default heavy ones, so that others always find a thread.

    A namespace has a share of them. The next turn goes to the namespace that has the fewest, and there to who came first.
    """

    def __init__(self, at_once: int = AT_ONCE, share: int = SHARE) -> None:
        self._limits = at_once, share
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()

    async def run(self, namespace: str, stop: Stop, start: Callable[[], asyncio.Future[T]]) -> T:
        """Start a read in its turn and return its result; raises `Unavailable` if its turn does not come in time."""
        turns = self.here()
        await turns.enter(namespace, stop)
        try:
            reading = start()
        except BaseException:
            turns.leave(namespace)
            raise
        reading.add_done_callback(lambda _: turns.leave(namespace))
        return await until_cancelled(reading, stop)

    def here(self) -> Turns:
        """Return the turns of the running event loop."""
        return self._of_loop.setdefault(asyncio.get_running_loop(), Turns(*self._limits))


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


class Turns:
    """The turns of one event loop."""

    def __init__(self, at_once: int, share: int) -> None:
        self._at_once, self._share = at_once, share
        self._running: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    async def enter(self, namespace: str, stop: Stop) -> None:
        """Wait for a turn, which `leave` ends. Raises `Unavailable` if it does not come in time."""
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
        self._waiting = [(other, turn) for other, turn in self._waiting if not turn.done()]
        while self._running.total() < self._at_once:
            waiting = ((self._running[other], number) for number, (other, _) in enumerate(self._waiting))
            fewest, number = min(waiting, default=(self._share, 0))
            if fewest >= self._share:
                return
            other, turn = self._waiting[number]
            del self._waiting[number]
            self._running[other] += 1
            turn.set_result(None)

    def _has_room(self, namespace: str) -> bool:
        return self._running.total() < self._at_once and self._running[namespace] < self._share
