"""A disk that fails, is full or becomes read-only causes a clear error and no partial write. Writes work again afterwards."""

from __future__ import annotations

import asyncio
import collections
import errno
import random

import pytest

from botwire import BotWireError, StoreError, Timeout
from botwire.operations import Increment
from botwire.queries import GetEntry, ListEntries
from botwire.stores.sqlite.served import ServedSqliteStore
from botwire.stores.sqlite.store import SqliteStore
from tests.faults.disk import FailingSync
from tests.faults.load import Writer, check, check_file
from tests.faults.scale import rounds
from tests.faults.system import BROKEN, FULL, READ_ONLY, SystemCalls

WRITES = 12
EVERY = rounds(9, 1)
"""Every n-th call fails, each in a round of its own."""


class Store(SqliteStore):
    _checkpoint = 4


def run(kind: type[Store], path, attempts: int) -> tuple[list[BotWireError], Writer]:
    """Open, write, read and close. Retries each step that fails, and checks that a failed write changed nothing."""
    writer, errors = Writer("a"), []

    def insist(action, *arguments):
        for _ in range(attempts):
            try:
                return action(*arguments)
            except BotWireError as error:
                assert isinstance(error, StoreError | Timeout), error
                assert error.message.startswith(str(path)), error
                errors.append(error)
        raise AssertionError("the disk is repaired, but the call still fails")

    store = insist(lambda: kind(path, timeout=0.2))
    for _ in range(WRITES):
        before = len(errors)
        while True:
            try:
                store.write("n", writer.operations())
                break
            except BotWireError as error:
                errors.append(error)
                assert len(errors) - before <= attempts
                insist(check, store, "n", [writer])
        writer.advance()
        insist(check, store, "n", [writer])
    store.close()
    return errors, writer


def check_stored(path, writer: Writer) -> None:
    """Check on a healthy disk that every write exists."""
    clean = SqliteStore(path)
    check(clean, "n", [writer])
    clean.close()
    check_file(path)


@pytest.mark.parametrize("many", [1, 6])
@pytest.mark.parametrize("errors", [BROKEN, FULL, READ_ONLY], ids=["broken", "full", "read-only"])
def test_a_failing_system_call_raises_an_error_and_writes_nothing(tmp_path, errors, many, figures):
    """Fails each of SQLite's system calls in turn, alone or with the calls after it."""
    with SystemCalls(errors) as system:
        run(Store, tmp_path / "calm.db", 1)
    raised, failed, count = collections.Counter(), collections.Counter(), 0
    for first in range(1 + random.Random(many).randrange(EVERY), system.calls, EVERY):
        path = tmp_path / f"{first}.db"
        with SystemCalls(errors) as fails:
            fails.first, fails.many = first, many
            found, writer = run(Store, path, many + 3)
        check_stored(path, writer)
        raised += collections.Counter(error.message.removeprefix(f"{path}: ").split(";")[0] for error in found)
        failed += fails.failed
        count += 1
    figures(rounds=count, calls_failed=dict(failed), errors=raised.total())
    print(dict(raised))
    assert raised


@pytest.mark.usefixtures("disks_may_fail")
@pytest.mark.parametrize("many", [1, 6])
def test_a_failing_sync_raises_an_error_and_writes_nothing(tmp_path, many, figures):
    """Runs without checkpoints, so that each sync belongs to a commit."""
    raised, first = 0, 0
    while True:
        first += 1
        disk = FailingSync()
        disk.first, disk.many = first, many
        kind = type("On", (Store,), {"_vfs": disk.name, "_checkpoint": 0})
        path = tmp_path / f"{first}.db"
        errors, writer = run(kind, path, many + 3)
        disk.unregister()
        check_stored(path, writer)
        raised += len(errors)
        if disk.syncs < first:
            break
    figures(syncs_failed_each_in_turn=first, errors=raised)
    assert raised >= first / 2


@pytest.mark.parametrize("errors", [BROKEN, FULL, READ_ONLY], ids=["broken", "full", "read-only"])
def test_a_server_answers_reads_while_writes_fail(tmp_path, errors, figures):
    """Uses the store of a server, which commits on its event loop and a thread."""
    errors = {name: error for name, error in errors.items() if name in {"pwrite64", "ftruncate"}}

    async def work():
        store = ServedSqliteStore(Store(tmp_path / "a.db"))
        await store.write("n", [Increment("k")])
        refused = 0
        with SystemCalls(errors) as system:
            for _ in range(rounds(5, 100)):
                system.fail()
                writes = await asyncio.gather(
                    *(store.write("n", [Increment("k")]) for _ in range(10)), return_exceptions=True
                )
                assert all(isinstance(error, StoreError) for error in writes), writes
                refused += len(writes)
                assert (await store.read("n", GetEntry("k"))).value == 1
                assert len(await store.read("n", ListEntries())) == 1
                system.fail(0)
                assert await store.write("n", [Increment("k"), Increment("k", -1)]) == [2, 1]
        await store.close()
        return refused

    figures(writes_refused_while_reads_continued=asyncio.run(work()))
    check_file(tmp_path / "a.db")


def test_a_read_only_connection_is_not_reused(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    store.write("n", [Increment("k")])
    taken = store._connections.take()
    with SystemCalls({"open": errno.EACCES}) as system:
        system.fail(1)  # SQLite then opens the file for reading
        with pytest.raises(StoreError, match="read-only; nothing was written"):
            store.write("n", [Increment("k")])
        assert system.failed == {"open": 1}
    assert store.write("n", [Increment("k")]) == [2]
    store._connections.give(taken)
    store.close()
