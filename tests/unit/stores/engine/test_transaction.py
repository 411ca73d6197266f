"""How much one transaction does for what others left."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

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
