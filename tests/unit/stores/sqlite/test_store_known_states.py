"""The states that a connection remembers from its last commit: never used when the file has others."""

from __future__ import annotations

import apsw
import pytest

from botwire import QuotaExceeded, StoreError
from botwire.operations import Delete, Increment, Put
from botwire.plans import Plan, Plans
from botwire.queries import GetEntry, GetUsage
from botwire.stores.sqlite.store import SqliteStore

PLANS = Plans("large", {"large": Plan(), "small": Plan(writes_per_day=5)})


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "a.db", plans=PLANS)
    yield store
    store.close()


def statements_of(store, *operations):
    """Return the SQL that a write runs."""
    seen = []
    connection = store._connections.take()
    connection.exec_trace = lambda _, sql, __: seen.append(sql) or True
    store._connections.give(connection)
    store.write("n", operations)
    connection.exec_trace = None
    return seen


def test_a_lone_writer_does_not_read_its_state_again(store):
    reads = lambda: [sql for sql in statements_of(store, Put("k", "1")) if "words, vectors" in sql]  # noqa: E731
    assert len(reads()) == 1
    assert reads() == []


def test_commits_of_another_store(store, tmp_path):
    other = SqliteStore(tmp_path / "a.db", plans=PLANS)
    versions = [writer.write("n", [Put("k", '"' + "x" * n + '"')])[0] for n in range(10) for writer in (store, other)]
    assert versions == list(range(1, 21))
    assert store.read("n", GetUsage()).bytes == other.read("n", GetUsage()).bytes == 12
    other.close()


def test_a_plan_set_in_between(store):
    for number in range(5):
        store.write("n", [Put("k", str(number))])
    store.set_plan("n", "small")
    with pytest.raises(QuotaExceeded):
        store.write("n", [Put("k", "6")])
    store.set_plan("n", None)
    assert store.write("n", [Put("k", "6")]) == [6]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_fails(store, monkeypatch, when):
    store.write("n", [Put("k", "1")])
    save = SqliteStore._save

    def failing(store, connection):
        if when == "after":
            save(store, connection)
        raise apsw.IOError("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "_save", failing)
        with pytest.raises(StoreError):
            store.write("n", [Put("other", '"xxx"')])
    kept = when == "after"
    assert store.read("n", GetUsage()).bytes == (2 + 10 if kept else 2)
    assert store.write("n", [Increment("k", 1)]) == [2]
    assert store.write("n", [Put("k", "1")]) == [4 if kept else 3]
    assert store.write("n", [Delete("other")]) == [kept]
    assert store.read("n", GetUsage()).bytes == 2


def test_a_refused_write_leaves_nothing_behind(store):
    store.set_plan("n", "small")
    for _ in range(4):
        store.write("n", [Put("k", "1")])
    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            store.write("n", [Put("a", "1"), Put("b", "1")])
    assert store.write("n", [Put("k", "1")]) == [5]
    assert store.read("n", GetUsage()).bytes == 2


def test_a_clock_that_is_set_back(store):
    """The whole file follows, and with it the states: what had expired is gone."""
    wall = store._wall_ns()
    store._wall_ns = store._clock._wall_ns = lambda: wall
    store.write("n", [Put("k", "1"), Put("gone", '"xxx"', ttl=5)])
    wall += 10 * 10**9
    assert store.read("n", GetEntry("gone")) is None
    wall -= 3600 * 10**9
    store.write("n", [Put("k", "1")])
    assert store.read("n", GetUsage()).bytes == 2
