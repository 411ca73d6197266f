"""The log grows ahead of the commits, and nothing depends on it."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise

import pytest

from botwire.operations import Increment, Put
from botwire.queries import ListEntries
from botwire.stores.sqlite import wal
from botwire.stores.sqlite.store import SqliteStore

FRAME = 4096 + 24


def size(tmp_path):
    return (tmp_path / "a.db-wal").stat().st_size


def test_few_commits_lengthen_the_log(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    sizes = []
    for number in range(100):
        store.write("n", [Put("k", str(number))])
        sizes.append(size(tmp_path))
    grown = [after - before for before, after in pairwise(sizes) if after > before]
    store.close()
    assert 3 <= len(grown) <= 20
    assert set(grown) == {wal.CHUNK}


def test_two_stores_share_the_room(tmp_path):
    stores = [SqliteStore(tmp_path / "a.db") for _ in range(2)]
    for number in range(200):
        assert stores[number % 2].write("n", [Increment("k")]) == [number + 1]
    written = 200 * 3 * FRAME
    assert size(tmp_path) < written + 3 * wal.CHUNK
    for store in stores:
        store.close()


def test_checkpoints_still_come(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    for number in range(1500):
        store.write("n", [Put(f"k{number}", '"' + "x" * 2000 + '"')])
    assert size(tmp_path) < 1.2 * wal.CHECKPOINT * FRAME
    assert (tmp_path / "a.db").stat().st_size > 1000 * 2000
    store.close()
    assert not (tmp_path / "a.db-wal").exists()


def test_the_zeros_are_no_data_after_a_crash(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    (tmp_path / "copy").mkdir()
    for number in range(40):
        store.write("n", [Put(f"k{number:02}", str(number))])
        for name in "a.db", "a.db-wal":
            shutil.copy(tmp_path / name, tmp_path / "copy")
        crashed = SqliteStore(tmp_path / "copy" / "a.db")
        assert [entry.value for entry in crashed.read("n", ListEntries())] == list(range(number + 1))
        crashed.close()
    store.close()


@pytest.mark.parametrize("fails", ["open", "write", "fstat"])
def test_a_log_that_cannot_grow_ahead(tmp_path, monkeypatch, fails):
    real = getattr(os, fails)

    def fail(*arguments):
        if fails == "open" and not str(arguments[0]).endswith("-wal"):
            return real(*arguments)
        raise OSError(28, "No space left on device")

    store = SqliteStore(tmp_path / "a.db")
    monkeypatch.setattr(wal.os, fails, fail)
    assert [store.write("n", [Increment("k")]) for _ in range(20)] == [[number] for number in range(1, 21)]
    monkeypatch.undo()
    store.close()
