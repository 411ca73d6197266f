"""Clears and ends of sessions with more rows than one transaction removes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from botwire.operations import Append, Clear, Forget, Put
from botwire.queries import CountEntries, CountMessages, GetProgress, ListChanges, Search
from botwire.stores.engine import removal, transaction
from botwire.testing.strategies import messages_of, put
from botwire.testing.watch import Copy

ROWS, STEP = 40, 10


@pytest.fixture
def small(monkeypatch):
    """Smaller steps, and expired entries that other writes leave alone."""
    monkeypatch.setattr(transaction, "PURGE", 0)
    monkeypatch.setattr(removal, "ROWS", ROWS)
    monkeypatch.setattr(removal, "STEP", STEP)


@pytest.fixture
def steps(small, monkeypatch):
    """Return the list of what each transaction has removed so far."""
    found = []

    def noted(remove):
        def run(*args, in_steps=False):
            result = remove(*args, in_steps=in_steps)
            if in_steps:
                found.append(result)
            return result

        return run

    monkeypatch.setattr(removal, "clear", noted(removal.clear))
    monkeypatch.setattr(removal, "forget", noted(removal.forget))
    return found


def fill(store, count=100):
    store.write(
        "n",
        [Put(f"k/{number:03}", f'"cat {number}"', ttl=0.001 if number % 3 == 0 else None) for number in range(count)],
    )
    store.write(
        "n",
        [put("k", 1), put("kept", "cat"), Append("s", messages_of(*["dog"] * count)), Append("t", messages_of("dog"))],
    )


def removed_at_once(count):
    """Of a removal of so many rows: how many each transaction removes."""
    return [STEP] * -(-(count - ROWS) // STEP) + [count - STEP * -(-(count - ROWS) // STEP)]


class TestSteps:
    def test_a_large_clear(self, opened, steps):
        store, _ = opened
        fill(store)
        live = sum(number % 3 > 0 for number in range(100))
        assert store.write("n", [Clear("k/")]) == [live]
        assert len(steps) == len(removed_at_once(100)) == 7
        assert sum(steps) == live
        assert store.read("n", CountEntries("")) == 2
        assert store.recount("n") == []

    def test_a_long_session(self, opened, steps):
        store, _ = opened
        fill(store)
        assert store.write("n", [Forget("s")]) == [100]
        assert steps == removed_at_once(100)
        assert store.read("n", CountMessages("s")) == 0
        assert store.read("n", CountMessages("t")) == 1
        assert store.recount("n") == []

    def test_at_the_limit_it_is_one_transaction(self, opened, steps):
        store, _ = opened
        fill(store, ROWS)
        store.write("n", [Clear("k/")]), store.write("n", [Forget("s")])
        assert len(steps) == 2
        fill(store, ROWS + 1)
        store.write("n", [Clear("k/")]), store.write("n", [Forget("s")])
        assert len(steps) == 2 + 2 + 2

    def test_beside_other_operations_it_is_one_transaction(self, opened, steps):
        store, _ = opened
        fill(store)
        before = store.read("n", GetProgress()).version
        store.write("n", [Clear("k/"), Forget("s")])
        assert steps == []
        assert store.read("n", GetProgress()).version == before + 2

    def test_bytes_count_too(self, opened, steps, monkeypatch):
        store, _ = opened
        monkeypatch.setattr(removal, "BYTES", 2_000)
        store.write("n", [put(f"k{number}", "x" * 900) for number in range(5)])
        store.write("n", [put("large", "x" * 9_000), Append("s", messages_of(*["x" * 900] * 5))])
        assert store.write("n", [Clear()]) == [6]
        assert steps == [2, 2, 1, 1, 0]
        steps.clear()
        assert store.write("n", [Forget("s")]) == [5]
        assert steps == [2, 2, 1]

    def test_watchers_follow(self, opened, small):
        store, _ = opened
        copy, feed = Copy(store, "n"), store.changes("n", ListChanges(after=0))
        fill(store)
        copy.follow(feed)
        store.write("n", [Clear("k/")]), store.write("n", [Forget("s")])
        copy.follow(feed)
        assert set(copy.entries) == {"k", "kept"}
        assert {name: len(log) for name, log in copy.sessions.items()} == {"s": 0, "t": 1}

    def test_nothing_removed_is_found(self, opened, small):
        store, _ = opened
        fill(store)
        assert len(store.read("n", Search(text="cat dog", limit=200))) > 100
        store.write("n", [Clear("k/")]), store.write("n", [Forget("s")])
        found = store.read("n", Search(text="cat dog", limit=200))
        assert sorted(hit.session or hit.entry.key for hit in found) == ["kept", "t"]

    def test_a_repeat_has_the_same_result(self, opened, small):
        store, _ = opened
        fill(store)
        for _ in range(2):
            assert store.write("n", [Forget("s")], idempotency_key="once") == [100]
            store.write("n", [Append("s", messages_of("new"))])
        assert store.read("n", CountMessages("s")) == 2

    def test_an_event_loop(self, opened, steps):
        store, _ = opened
        fill(store)

        async def run():
            return await store.to_async().write("n", [Forget("s")])

        assert asyncio.run(run()) == [100]
        assert steps == removed_at_once(100)


class TestTurns:
    def test_others_write_between_the_steps(self, opened, steps, monkeypatch):
        """Each step waits until another write is in the queue, which is then applied before the next step."""
        store, _ = opened
        fill(store)
        forget, seen = removal.forget, []

        def after_another_waits(*args, in_steps):
            if args[2] == "s" and len(steps) < 4:
                waits = threading.Thread(target=note)
                waits.start()
                writers.append(waits)
                queue = store.commits if hasattr(store, "commits") else store.queue("n")
                while not queue._waiting:
                    time.sleep(0.001)
            return forget(*args, in_steps=in_steps)

        def note():
            store.write("n", [put("other", 1)])
            seen.append(len(steps))

        writers = []
        monkeypatch.setattr(removal, "forget", after_another_waits)
        assert store.write("n", [Forget("s")]) == [100]
        for writer in writers:
            writer.join()
        assert len(steps) == 7
        assert len(seen) == 4
        assert min(seen) < 7
