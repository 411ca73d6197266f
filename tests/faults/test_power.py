"""Acknowledged writes survive power cuts at random moments, on a disk that loses, tears and reorders unsynced data."""

from __future__ import annotations

import collections
import random
import threading
from functools import partial
from pathlib import Path

import apsw
import pytest

from botwire import BotWireError
from botwire.operations import Increment
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.sqlite.wal import Log
from tests.faults.disk import PowerCut
from tests.faults.load import Writer, check, check_file
from tests.faults.scale import rounds

pytestmark = pytest.mark.usefixtures("disks_may_fail")

MOMENTS = rounds(400, 4_000)
PARTS = rounds(2, 4)
WRITES = 6
"""Writes of each writer in each of two phases."""
CALLS = 500
"""About the number of calls of one run."""


class _Log(Log):
    """Shows the simulated disk what is appended beside SQLite."""

    def __init__(self, disk: PowerCut, paths: tuple[str, str, str], checkpoint: int):
        super().__init__(paths, checkpoint)
        self.disk = disk
        self.path = self.paths[1]

    def grow(self, end):
        with self.disk.mutex:
            self.disk.touch("grow", self.path)
            size = Path(self.path).stat().st_size
            after = super().grow(end)
            if after > size:
                self.disk.names[self.path].pending.append((size, bytes(after - size)))
        return after


def store_on(disk: PowerCut, checkpoint: int, synchronous: str) -> type[SqliteStore]:
    class Store(SqliteStore):
        _vfs = disk.name
        _checkpoint = checkpoint
        _log = partial(_Log, disk)

        def _connect(self):
            connection = super()._connect()
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            return connection

    return Store


def write(store: SqliteStore, writer: Writer, rng: random.Random) -> None:
    try:
        for _ in range(WRITES):
            store.write("n", writer.operations())
            writer.advance()
            if rng.random() < 0.2:
                checkpoint(store, rng)
    except BotWireError as error:
        writer.error = error


def checkpoint(store: SqliteStore, rng: random.Random) -> None:
    modes = [apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_RESTART, apsw.SQLITE_CHECKPOINT_TRUNCATE]
    connection = store._connections.take()
    try:
        connection.wal_checkpoint(mode=rng.choice(modes))
    except (apsw.BusyError, apsw.LockedError, apsw.IOError):
        pass
    finally:
        store._connections.give(connection)


def work(disk: PowerCut, path, writers: list[Writer], rng: random.Random, synchronous: str) -> None:
    """Run two phases. Each opens stores, writes to them from several threads, and closes them."""
    kind = store_on(disk, rng.choice([2, 8, 1000]), synchronous)
    for phase in range(2):
        stores = []
        try:
            stores = [kind(path) for _ in range(2)]
            threads = [
                threading.Thread(target=write, args=(stores[number % 2], writer, random.Random(rng.random())))
                for number, writer in enumerate(writers)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            if phase:
                disk.cut()
        except BotWireError:
            pass
        for store in stores:
            try:
                store.close()
            except apsw.Error:
                pass
        if disk.image is not None:
            return


def cut_once(folder, rng: random.Random, *, kept: float, synchronous: str = "FULL") -> tuple[PowerCut, int]:
    """Cut the power once and check the remaining data."""
    (folder / "before").mkdir(parents=True)
    disk = PowerCut(folder / "before", rng, kept=kept, moment=rng.randrange(1, CALLS))
    writers = [Writer(name) for name in "abc"[: rng.choice([1, 3])]]
    work(disk, folder / "before" / "a.db", writers, rng, synchronous)
    disk.unregister()
    acknowledged = sum(writer.acknowledged for writer in writers)
    disk.restore(folder / "after")
    store = SqliteStore(folder / "after" / "a.db")
    check(store, "n", writers, in_doubt=True)
    assert store.write("n", [Increment("again")]) == [1]
    store.close()
    check_file(folder / "after" / "a.db")
    return disk, acknowledged


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["loses", "tears"])
def test_acknowledged_writes_survive_power_cuts(tmp_path, kind, part, figures):
    rng = random.Random(f"{kind} {part}")
    counts = collections.Counter()
    for attempt in range(MOMENTS // PARTS // 2):
        kept = 0 if kind == "loses" else rng.choice([0.1, 0.5, 0.9])
        disk, acknowledged = cut_once(tmp_path / str(attempt), rng, kept=kept)
        counts["moments"] += 1
        counts["acknowledged"] += acknowledged
        counts[disk.cut_at] += 1
    moments, acknowledged = counts["moments"], counts["acknowledged"]
    cut = {name: count for name, count in counts.most_common() if name not in {"moments", "acknowledged"}}
    figures(moments=moments, acknowledged=acknowledged, cut_at=cut)
    assert counts["acknowledged"] > 3 * counts["moments"]
    assert counts["write of the WAL"]
    assert counts["write of the database"]
    assert counts["sync of the WAL"]


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_missing_sync_is_detected(tmp_path, synchronous, figures):
    """Validates the test above: with fewer syncs, acknowledged writes are lost."""
    rng = random.Random(synchronous)
    lost = attempts = 0
    while lost <= 5 and attempts < 100:  # the number of attempts depends on the timing of threads
        attempts += 1
        try:
            cut_once(tmp_path / str(attempts), rng, kept=0, synchronous=synchronous)
        except (AssertionError, BotWireError):
            lost += 1
    figures(**{f"lost or damaged with synchronous={synchronous}": f"{lost} of {attempts}"})
    assert lost > 5
