"""How much one transaction does for what others left."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

import pytest

from botwire import Conflict, Memory
from botwire.operations import Put
from botwire.plans import Plan, Plans
from botwire.queries import CountEntries, GetUsage
from botwire.stores.engine import transaction
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_a_write_makes_no_more_room_than_it_needs(kind, tmp_path, request, monkeypatch):
    """100,000 expired entries took a small write 3 s, under the lock of the database. Now it removes a part of them."""
    monkeypatch.setattr(transaction, "PURGE_FOR_ROOM", 50)
    plans = Plans("small", {"small": Plan(max_bytes=30_000)})
    address = tmp_path / "botwire.db" if kind == "file" else request.getfixturevalue("postgres")
    made = SqliteStore if kind == "file" else PostgresStore
    removed = []
    delete = transaction.Transaction._delete_entry

    def counted(self, *arguments):
        removed.append(arguments[1])
        delete(self, *arguments)

    with closing(made(address, plans=plans)) as store:
        store.write("n", [Put(f"k{number:03}", '"' + "x" * 90 + '"', ttl=0.05) for number in range(300)])
        assert store.read("n", GetUsage()).bytes > 28_000
        time.sleep(0.1)
        monkeypatch.setattr(transaction.Transaction, "_delete_entry", counted)
        store.write("n", [Put("small", '"' + "y" * 3_000 + '"')])
        assert 0 < len(removed) <= 50 + transaction.PURGE
        store.write("n", [Put("large", '"' + "y" * 25_000 + '"')])  # which needs the bytes of all
        assert len(removed) == 300
        assert store.read("n", CountEntries("")) == 2
        assert store.read("n", GetUsage()).bytes == 3_002 + 25_002 + len("small" + "large")


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_a_refused_write_leaves_no_record_of_a_change(kind, tmp_path, request):
    """Its records are moved to blocks before it is refused, in a group with writes that are applied."""
    address = tmp_path / "botwire.db" if kind == "file" else request.getfixturevalue("postgres")
    made = SqliteStore if kind == "file" else PostgresStore
    refused = [*(Put(f"refused{number:04}", "1") for number in range(300)), Put("k", "1", if_version=77)]

    def key(n):
        return f"{n} {'x' * 100}"  # so long that these records are moved to blocks too

    async def write_all(store):
        writes = ([Put(key(n), "1")] if n % 2 else refused for n in range(40))
        return await asyncio.gather(*(store.write("n", write) for write in writes), return_exceptions=True)

    with closing(made(address)) as store:
        results = asyncio.run(write_all(store.to_async()))
        assert sum(isinstance(result, Conflict) for result in results) == 20
        with Memory("n", store=store) as memory, memory.watch(after=0, wait=0) as changes:
            versions = [(change.version, change.key) for change in changes]
    assert sorted(key for _, key in versions) == sorted(key(n) for n in range(1, 40, 2))
    assert [version for version, _ in versions] == list(range(1, 21))


def test_the_time_of_a_large_write_grows_with_its_size(tmp_path):
    """Each record of a change copied all before it: 9,000 long keys took 8 s, on the event loop of a server."""

    def seconds(store, namespace, count):
        write = [Put(f"{'x' * 500}{number:05}", "1") for number in range(count)]
        begun = time.process_time()
        store.write(namespace, write)
        return time.process_time() - begun

    with closing(SqliteStore(tmp_path / "botwire.db")) as store:
        few = min(seconds(store, f"few{n}", 1_000) for n in range(3))
        many = min(seconds(store, f"many{n}", 8_000) for n in range(2))
    assert many < 24 * few  # it was more than 60
