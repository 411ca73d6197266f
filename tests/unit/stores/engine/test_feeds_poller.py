"""The poller of an event loop: it ends with its loop, and misses no change and no error."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from botwire.operations import Put
from botwire.queries import ListChanges
from botwire.records import Progress
from botwire.stores import async_store, open_store
from botwire.stores.engine import feeds as module
from botwire.stores.engine.feeds import Poller


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    address = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    store = open_store(address)
    yield store
    store.close()


def test_no_event_loop_outlives_its_run(store):
    """Neither the store nor a feed that is kept may hold the loop on which they waited."""
    shared = async_store(store)
    feed = shared.changes("n", ListChanges(0))
    loops = []

    async def follow(number):
        loops.append(weakref.ref(asyncio.get_running_loop()))
        waiting = [asyncio.create_task(shared.changes(f"m{other}", ListChanges(0)).next(0.05)) for other in range(3)]
        waiting.append(asyncio.create_task(feed.next(20)))
        await asyncio.sleep(0.01)
        await shared.write("n", [Put("k", str(number))])
        found = await asyncio.gather(*waiting)
        assert [change.key for change in found[-1].changes] == ["k"]

    for number in range(5):
        asyncio.run(follow(number))
    gc.collect()
    assert [loop() for loop in loops] == [None] * 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_while_tasks_wait_is_freed_too(tmp_path, caplog):
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    feed = async_store(store).changes("n", ListChanges(0))
    loop = asyncio.new_event_loop()
    loop.create_task(feed.next(20))  # noqa: RUF006 - it is destroyed with its loop
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    kept = weakref.ref(loop)
    del loop
    gc.collect()
    assert kept() is None
    caplog.clear()  # asyncio reports the tasks that were destroyed
    store.close()


class Versions:
    """A store whose namespaces have versions only; each commit changes its mark."""

    def __init__(self):
        self.versions, self.mark, self.peeked = {}, 1, lambda namespace: None

    def commit(self, namespace):
        self.versions[namespace] = self.versions.get(namespace, 0) + 1
        self.mark += 1

    def peek(self, namespace):
        self.peeked(namespace)
        return Progress(self.versions.get(namespace, 0), 3_600.0), self.mark


def run(versions, act):
    """Wait for a change of each of three namespaces, and do something once they are polled in rounds."""

    async def main():
        poller = Poller(None, peek_version=versions.peek)
        loop = asyncio.get_running_loop()
        names = ["a", "b", "c"]
        waiting = {name: asyncio.create_task(poller.wait(name, 0, 10, loop.create_future())) for name in names}
        await asyncio.sleep(0.1)
        await act(waiting)
        for task in waiting.values():
            task.cancel()
        await asyncio.gather(*waiting.values(), return_exceptions=True)

    asyncio.run(main())


def test_a_change_during_a_round_is_found_in_the_next_one(monkeypatch):
    monkeypatch.setattr(module, "FULL_POLL", 1_000.0)  # by which it would be found in the end
    versions = Versions()

    def peeked(namespace):
        if namespace == "c" and not versions.versions.get("b"):
            versions.commit("b")  # which this round has polled already

    async def act(waiting):
        versions.peeked = peeked
        versions.commit("another")
        await asyncio.wait_for(asyncio.shield(waiting["b"]), 5)

    run(versions, act)


def test_every_task_gets_an_error_that_nothing_expects():
    versions = Versions()

    def peeked(namespace):
        raise ZeroDivisionError

    async def act(waiting):
        versions.peeked = peeked
        for task in waiting.values():
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(asyncio.shield(task), 5)

    run(versions, act)
