"""The turns of heavy reads on an event loop."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time

import pytest

from botwire import Unavailable
from botwire.stores.engine.stop import Stop
from botwire.stores.engine.turns import AT_ONCE, SHARE, ReadingTurns, until_cancelled


class Reads:
    """Reads in threads, which end when they are told to stop, or when all are released."""

    def __init__(self) -> None:
        self.turns = ReadingTurns()
        self.running: list[str] = []
        self.release = threading.Event()

    async def read(self, namespace: str, seconds: float = 30) -> str:
        stop = Stop.after(seconds)

        def run() -> str:
            self.running.append(namespace)
            while not (stop.is_asked or self.release.wait(0.01)):
                pass
            self.running.remove(namespace)
            return namespace

        return await self.turns.run(namespace, stop, lambda: asyncio.ensure_future(asyncio.to_thread(run)))

    async def until(self, running: list[str]) -> None:
        end = time.monotonic() + 20
        while sorted(self.running) != sorted(running):
            assert time.monotonic() < end, self.running
            await asyncio.sleep(0.01)


def test_one_namespace_leaves_room_for_others() -> None:
    async def main() -> None:
        reads = Reads()
        many = [asyncio.create_task(reads.read("many")) for _ in range(10)]
        await reads.until(["many"] * SHARE)
        one, two = (asyncio.create_task(reads.read(name)) for name in ("one", "two"))
        await reads.until(["many"] * SHARE + ["one"])
        assert len(reads.running) == AT_ONCE
        reads.release.set()
        assert await asyncio.gather(*many, one, two) == ["many"] * 10 + ["one", "two"]

    asyncio.run(main())


def test_the_next_turn_goes_to_who_has_the_fewest() -> None:
    async def main() -> None:
        turns, entered = ReadingTurns(3, 3).here(), []

        async def read(namespace: str) -> None:
            await turns.enter(namespace, Stop.after(30))
            entered.append(namespace)

        reads = [asyncio.create_task(read(name)) for name in ("many", "many", "many", "many", "other", "last")]
        await asyncio.sleep(0.01)
        assert entered == ["many"] * 3
        for name in ("many", "many", "other", "last", "many"):
            turns.leave(name)
            await asyncio.sleep(0.01)
        assert entered == ["many"] * 3 + ["other", "last", "many"]
        await asyncio.gather(*reads)

    asyncio.run(main())


def test_a_turn_is_given_back() -> None:
    """By whoever is cancelled before its turn, at that moment, or in it."""

    async def main() -> None:
        reads = Reads()
        first = [asyncio.create_task(reads.read("n")) for _ in range(SHARE)]
        await reads.until(["n"] * SHARE)
        waiting = [asyncio.create_task(reads.read("n")) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        first[0].cancel()
        await reads.until(["n"] * SHARE)
        with pytest.raises(Unavailable, match="too many searches"):
            await reads.read("n", 0.05)
        for task in (*first, *waiting):
            task.cancel()
        await reads.until([])
        reads.release.set()
        assert await reads.read("n") == "n"
        assert not reads.turns._of_loop[asyncio.get_running_loop()]._running.total()

    asyncio.run(main())


def test_the_end_of_a_read_that_was_cancelled_is_not_logged() -> None:
    """Each client that leaves its search would add a traceback to the log."""
    logged: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        stop, stopped = Stop.after(math.inf), asyncio.Event()

        async def read() -> None:
            await stopped.wait()
            raise Unavailable("the search was stopped")

        waiting = asyncio.ensure_future(until_cancelled(asyncio.ensure_future(read()), stop))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        stopped.set()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()

    asyncio.run(main())
    assert logged == []
