"""The store as a server has it: writes applied on the event loop, commits on a thread."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from botwire import Conflict, Memory, StoreError, Timeout
from botwire.operations import Append, Clear, Delete, Increment, NewMessage, Pop, Put
from botwire.queries import CountEntries, GetEntry, ListEntries, Search
from botwire.stores.engine import word_index
from botwire.stores.engine.group_commit import COMMIT_THREAD
from botwire.stores.engine.transaction import Transaction
from botwire.stores.engine.turns import LARGE_WORK
from botwire.stores.sqlite import served
from botwire.stores.sqlite.served import ServedSqliteStore
from botwire.stores.sqlite.store import MOST_AT_ONCE, SqliteStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "served.db"


def served_store(path, timeout=5.0):
    return ServedSqliteStore(SqliteStore(path, timeout=timeout))


def hold(path):
    """Hold the turn to write as another process would; call what is returned to give it back."""
    other = SqliteStore(path)
    connection, _ = other.begin(())

    def give_back():
        other.commit(connection)
        other.close()

    return give_back


class Recording(SqliteStore):
    """A store that records which thread returned what."""

    def read(self, namespace, query, **options):
        found = super().read(namespace, query, **options)
        self.reads.append(threading.current_thread().name.rpartition("_")[0])
        return found


def test_a_long_value_is_read_in_a_thread(path):
    """Short ones are read on the event loop. A read that fails there fails in the thread too, with its reason."""
    store = ServedSqliteStore(Recording(path))
    store.store.reads = []
    long, longer = "x" * (served.LONGEST_HERE - 200), "x" * (served.LONGEST_HERE + 1)

    async def main():
        for key, text in (("long", long), ("longer", longer)):
            await store.write("n", [Put(key, f'"{text}"')])
        assert (await store.read("n", GetEntry("long"))).value == long
        assert store.store.reads == []
        assert (await store.read("n", GetEntry("longer"))).value == longer
        assert len(await store.read("n", ListEntries(limit=2))) == 2
        assert store.store.reads == ["botwire-read"] * 2
        assert store.store.read("n", GetEntry("longer")).value == longer  # whatever connection it takes

    asyncio.run(main())
    store.store.close()
    with pytest.raises(StoreError, match="the store is closed"):
        asyncio.run(store.read("n", GetEntry("long")))


def test_a_busy_event_loop_holds_up_reads(path):
    """Rows do not gather where the event loop has not taken them."""
    store = ServedSqliteStore(Recording(path))
    store.store.reads = []

    async def main():
        await store.write("n", [Put("k", '"v"')])
        reads = [asyncio.ensure_future(store.read("n", ListEntries())) for _ in range(20)]
        for _ in range(10):  # until they have begun
            await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - the event loop is busy
        assert len(store.store.reads) <= 2  # of 20; the event loop had not taken the rows of the second
        assert [len(found) for found in await asyncio.gather(*reads)] == [1] * 20

    asyncio.run(main())
    store.store.close()


def test_writes_that_come_together_are_committed_together(path):
    store = served_store(path)
    commits = []
    commit = store.store.commit
    store.store.commit = lambda connection: (commits.append(1), commit(connection))

    async def main():
        return await asyncio.gather(*(store.write("n", [Increment("k", 1)]) for _ in range(100)))

    assert sorted(asyncio.run(main())) == [[n] for n in range(1, 101)]
    assert len(commits) < 5
    store.store.close()


def test_a_refused_write_leaves_the_others_of_its_group_alone(path):
    store = served_store(path)

    async def main():
        async def write(*operations):
            try:
                return await store.write("n", operations)
            except Conflict as error:
                return type(error)

        return await asyncio.gather(
            write(Put("a", "1")),
            write(Put("b", "1"), Put("a", "2", None, 999)),
            write(Put("c", "1", None, 999)),
            write(Append("s", (NewMessage("1", "1"),))),
        )

    assert asyncio.run(main()) == [[1], Conflict, Conflict, [[1]]]
    with Memory("n", f"sqlite:///{path}") as memory:
        assert memory.keys() == ["a"]
        assert memory["a"] == 1
    store.store.close()


def test_it_waits_for_another_process(path):
    store = served_store(path)
    give_back = hold(path)
    threading.Timer(0.2, give_back).start()

    async def main():
        write = asyncio.create_task(store.write("n", [Put("k", "1")]))
        await asyncio.sleep(0.05)
        assert await store.read("n", GetEntry("k")) is None  # reads do not wait
        assert await write == [1]

    asyncio.run(main())
    store.store.close()


def test_it_does_not_wait_for_ever(path):
    store = served_store(path, timeout=0.2)
    give_back = hold(path)

    async def main():
        writes = [asyncio.create_task(store.write("n", [Put(f"k{n}", "1")])) for n in range(2)]
        await asyncio.sleep(0.05)
        writes.append(asyncio.create_task(store.write("n", [Put("k2", "1")])))
        for write in writes:
            with pytest.raises(Timeout):
                await write
        await asyncio.sleep(0.1)  # the thread stops waiting for the file in the same moment, or a little later
        await asyncio.to_thread(give_back)
        await asyncio.sleep(0.1)
        assert await store.write("n", [Put("after", "1")])
        assert await store.read("n", CountEntries("")) == 1

    asyncio.run(main())
    store.store.close()


def test_a_write_that_is_cancelled_while_it_waits_does_not_happen(path):
    store = served_store(path)
    give_back = hold(path)

    async def main():
        first = asyncio.create_task(store.write("n", [Put("first", "1")]))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(store.write("n", [Put("second", "1")]))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.to_thread(give_back)
        await first
        await store.write("n", [Put("third", "1")])
        assert await store.read("n", CountEntries("")) == 2
        assert await store.read("n", GetEntry("second")) is None

    asyncio.run(main())
    store.store.close()


def test_long_writes_run_on_the_thread(path, monkeypatch):
    store = served_store(path)
    applied = []
    apply = store.store.apply
    store.store.apply = lambda *arguments: (applied.append(threading.current_thread().name), apply(*arguments))[1]
    many = [Put(f"k{n}", "1") for n in range(served.MAX_HERE + 1)]

    async def main():
        await store.write("n", many)
        await store.write("n", [Put("large", '"' + "x" * served.MAX_HERE * 16_384 + '"')])
        assert await store.write("n", [Clear()]) == [len(many) + 1]
        await store.write("n", [Put("k", "1")])

    asyncio.run(main())
    threads = ["commit" in name for name in applied]
    assert threads == [True, True, True, False]
    store.store.close()


@pytest.mark.parametrize(
    "operation",
    [Delete("long"), Put("long", "1"), Pop("s"), Pop("s", 2, if_ids=("x",))],
    ids=["delete", "put", "pop", "refused pop"],
)
def test_small_writes_that_remove_much_run_on_the_thread(path, operation):
    store = served_store(path)
    applied = []
    finish = Transaction.finish
    text = '"' + "x" * MOST_AT_ONCE + '"'

    async def main():
        await store.write("n", [Put("long", text), Append("s", (NewMessage("1", text), NewMessage("2", text)))])
        with pytest.MonkeyPatch.context() as patch:
            name = lambda _: applied.append(threading.current_thread().name.rpartition("_")[0])  # noqa: E731
            patch.setattr(Transaction, "finish", lambda transaction: (name(transaction), finish(transaction)))
            await asyncio.gather(
                store.write("n", [operation]), store.write("m", [Put("k", "1")]), return_exceptions=True
            )
        assert await store.read("m", CountEntries("")) == 1

    asyncio.run(main())
    assert applied == [COMMIT_THREAD]
    store.store.close()


def test_little_is_indexed_on_the_event_loop(path, monkeypatch):
    """A write of a few bytes continues the index after large ones. Nobody else is answered meanwhile."""
    store = served_store(path)
    store.store.catch_up = lambda: None  # it would do the rest on another thread
    indexed = []
    terms_of = word_index.terms_of

    def counted(text):
        indexed.append((threading.current_thread().name, len(text)))
        return terms_of(text)

    async def main():
        await store.write("n", [Put("k", '"begun"')])
        await store.read("n", Search(text="begun"))
        monkeypatch.setattr(served, "MAX_HERE", 100)
        many = [Put(f"k{number}", f'"{"text " * 1_000}"') for number in range(250)]
        await store.write("n", many)
        monkeypatch.setattr(word_index, "terms_of", counted)
        for number in range(5):
            await store.write("n", [Put(f"small{number}", "1")])
            assert {name for name, _ in indexed} == {threading.main_thread().name}
            assert 0 < sum(length for _, length in indexed) < word_index.SHORT_STEP_BYTES + 5_000
            indexed.clear()
        assert len(await store.read("n", Search(text="text"))) == 10

    asyncio.run(main())
    store.store.close()


def test_a_large_write_is_not_applied_beside_other_large_work(path, monkeypatch):
    """Both would need Python's lock. A write that the event loop applies does not wait for such work."""
    store, applied = served_store(path), []
    apply = Transaction.apply

    def noted(self, write, **options):
        applied.append(len(write.operations))
        return apply(self, write, **options)

    monkeypatch.setattr(Transaction, "apply", noted)

    async def main():
        with LARGE_WORK:
            await store.write("n", [Put("k", "1")])
            large = asyncio.create_task(
                store.write("n", [Put(f"k{number}", "1") for number in range(served.MAX_HERE + 1)])
            )
            await asyncio.sleep(0.3)
            assert applied == [1]
        await large
        assert applied == [1, served.MAX_HERE + 1]
        await store.close()

    asyncio.run(main())
