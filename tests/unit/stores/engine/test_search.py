"""Search in a SQLite file: the index, files from before there was one, and turning it off."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from botwire import AsyncMemory, InvalidArgument, InvalidName, Memory, Timeout, Unavailable, generate_key, values
from botwire.cli import app
from botwire.operations import Append, NewMessage, Put
from botwire.queries import Search
from botwire.stores.engine import search, word_index
from botwire.stores.engine.stop import Stop
from botwire.stores.engine.tables import ReadTables
from botwire.stores.sqlite import connection as connection_module
from botwire.stores.sqlite.store import SqliteStore
from tests.contract.stores import InAFile, InPostgres


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/botwire.db"


@pytest.fixture
def memory(address):
    with Memory("n", address) as memory:
        yield memory


def keys(hits):
    return sorted(hit.entry.key for hit in hits if hit.entry)


def raw(memory, statement, *values):
    store = getattr(
        memory.bridge.store, "store", memory.bridge.store
    )  # its calls are spans once a test has imported OpenTelemetry
    connection = store._connections.take()
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        store._connections.give(connection)


def test_arguments(memory):
    memory["k"] = "blue"
    for wrong in (
        {"query": 1},
        {"query": b"blue"},
        {"limit": -1},
        {"limit": None},
        {"limit": 1001},
        {"limit": True},
        {"kinds": []},
        {"kinds": "people"},
        {"neighbours": 11},
        {"neighbours": -1},
        {"half_life": 0},
        {"where": ["a"]},
        {"where": {1: 2}},
        {"where": {"a": float("nan")}},
        {"since": 17},
        {"until": datetime(2026, 1, 1)},
        {"query": "a" * 8_001},
        {"kinds": ["x" * 100] * 1_000},
        {"where": dict.fromkeys(map(str, range(33)), 1)},
        {"where": {"a" + ".a" * 100: 1}},
        {"where": {"a": "é" * 5_000}},
        {"where": {"a" * 9_000: 1}},
    ):
        with pytest.raises((InvalidArgument, ValueError), match=".") as refused:
            memory.search(**{"query": "blue", **wrong})
        assert len(str(refused.value)) < 300
    for wrong in ({"session": ""}, {"prefix": "\n"}):
        with pytest.raises(InvalidName):
            memory.search("blue", **wrong)
    most = {"a" + ".a" * 99: 1, **dict.fromkeys(map(str, range(31)), 1)}
    assert memory.search("blue " * 1_600, where=most) == []
    assert keys(memory.search("blue", kinds="entries", half_life=timedelta(days=1), until=datetime.now(UTC))) == ["k"]


def test_a_session_or_a_prefix_says_what_is_wanted(memory):
    memory["a/1"] = memory["b/1"] = "blue"
    memory.history("s").append(["blue"])
    assert keys(memory.search("blue", prefix="a/")) == ["a/1"]
    assert len(memory.search("blue", prefix="a/")) == 1
    assert [hit.session for hit in memory.search("blue", session="s")] == ["s"]
    assert len(memory.search("blue", session="s", prefix="a/")) == 2
    assert memory.history("s").search("blue")[0].value == "blue"
    assert memory.history("t").search("blue") == []


def test_awaited(address):
    async def main():
        async with AsyncMemory("n", address) as memory:
            await memory.set("k", "blue bicycle")
            await memory.history("s").append(["a bicycle"])
            assert len(await memory.search("bicycles")) == 2
            assert len(await memory.history("s").search("bicycles")) == 1

    asyncio.run(main())


def begin_index(memory):
    memory["k"] = "bicycle"
    assert memory.search("bicycle")
    del memory["k"]


def test_a_namespace_has_no_index_until_it_is_searched(memory):
    memory.history("s").append([f"message {number}" for number in range(200)])
    memory.set_many({f"key-{number}": f"value {number}" for number in range(200)})
    memory.delete_many(["key-7"])
    counts = "SELECT count(*) FROM texts_docsize"
    assert raw(memory, counts) == [(0,)]
    assert raw(memory, "SELECT pending FROM namespaces WHERE name = 'n'") == [("",)]
    assert keys(memory.search("199", kinds="entries")) == ["key-199"]
    assert raw(memory, counts) == [(399,)]
    memory.history("s").append([f"message {number}" for number in range(100)])
    assert raw(memory, counts) > [(399,)]


def test_the_list_of_what_is_not_indexed_stays_short(memory):
    begin_index(memory)
    for number in range(200):
        memory[f"key-{number}"] = f"value {number}"
        memory.history("s").append([f"message {number}"])
        ((pending,),) = raw(memory, "SELECT pending FROM namespaces WHERE name = 'n'")
        assert pending.count("\n") < word_index.DUE
        assert len(pending) <= word_index.DUE_CHARS
    for number in range(100):
        memory["k" * 500 + str(number)] = "long key"
        ((pending,),) = raw(memory, "SELECT pending FROM namespaces WHERE name = 'n'")
        assert len(pending) <= word_index.DUE_CHARS
    for _ in range(300):
        memory["hot"] = "the same key"
    ((pending, held),) = raw(memory, "SELECT pending, texts FROM namespaces WHERE name = 'n'")
    assert pending.count("\n") <= 2 + word_index.DUE
    assert 400 <= held <= 501
    assert raw(memory, "SELECT count(*) FROM texts_docsize") == [(held,)]


def test_nothing_is_left_in_the_index(memory):
    begin_index(memory)
    for round_ in range(3):
        memory.set_many({f"k{number}": f"text {number} {round_}" for number in range(100)})
        memory.history("s").append([f"message {number}" for number in range(100)])
    memory.delete_many([f"k{number}" for number in range(50)])
    memory.history("s").pop(150)
    memory.history("t").append(["x y"] * 100)
    assert raw(memory, "SELECT count(*) FROM texts_docsize") == [(300,)]
    assert raw(memory, "SELECT texts FROM namespaces") == [(300,)]
    memory.clear()
    memory.history("s").clear()
    memory.history("t").clear()
    assert raw(memory, "SELECT count(*) FROM texts_docsize") == [(0,)]
    assert raw(memory, "SELECT count(*) FROM entry_texts") == [(0,)]
    assert raw(memory, "SELECT texts, words FROM namespaces") == [(0, 0)]
    raw(memory, "INSERT INTO texts (texts) VALUES ('integrity-check')")


def test_common_words_are_followed_in_part(memory, monkeypatch):
    """Beyond the budget, what has a rarer word too is found wherever it is, and of the rest the newest."""
    monkeypatch.setattr(search, "BUDGET", 20)
    monkeypatch.setattr(search, "SOME", 10)
    monkeypatch.setattr(search, "READ", 5)
    chat = memory.history("s")
    chat.append(["common rare first", "common medium first", "common medium uncommon first"])
    chat.append([f"common medium {number}" for number in range(50)])
    chat.append([f"common {number}" for number in range(100)])
    find = lambda text: [hit.value for hit in memory.search(text, neighbours=0, limit=5)]  # noqa: E731
    assert find("common rare") == ["common rare first"] + [f"common {99 - number}" for number in range(4)]
    assert find("common medium uncommon")[0] == "common medium uncommon first"
    assert all("medium" in text for text in find("common medium"))
    assert find("common") == [f"common {99 - number}" for number in range(5)]


def fill_old_file(path, monkeypatch):
    """Write a file as it was before there was an index."""
    with monkeypatch.context() as patch:
        patch.setattr(connection_module, "MIGRATIONS", connection_module.MIGRATIONS)
        with Memory("n", f"sqlite:///{path}") as memory:
            memory.set_many({f"k{number:04}": f"entry {number} blue" for number in range(700)})
            for name in ("s", "t"):
                memory.history(name).append([f"message {number} of {name}" for number in range(800)])
            memory.history("s").pop(10)
        store = SqliteStore(path)
        store.set_index("n", on=False)
        store.close()
        old = SqliteStore(path)
        connection = old._connections.take()
        connection.execute(
            "DROP TRIGGER session_deleted; DROP TABLE details; DROP INDEX sessions_by_activity; DROP INDEX sessions_by_owner;"
            "DROP INDEX sessions_by_creation; DROP INDEX sessions_by_expiry; ALTER TABLE sessions DROP COLUMN version; ALTER TABLE sessions DROP COLUMN active;"
            "ALTER TABLE sessions DROP COLUMN expires; ALTER TABLE sessions DROP COLUMN owner;"
            "ALTER TABLE messages DROP COLUMN edited; ALTER TABLE messages DROP COLUMN redacted;"
            "ALTER TABLE namespaces DROP COLUMN retention; ALTER TABLE namespaces DROP COLUMN sessions_due;"
            "ALTER TABLE namespaces DROP COLUMN destroyed;"
            "DROP TRIGGER message_edited; DROP TRIGGER entry_deleted; DROP TRIGGER entry_replaced; DROP TRIGGER message_deleted;"
            "DROP TABLE message_vectors; DROP TABLE entry_vectors; ALTER TABLE namespaces DROP COLUMN vectors;"
            "DROP TABLE terms; DROP TABLE texts; DROP TABLE entry_texts;"
            "ALTER TABLE namespaces DROP COLUMN pending; ALTER TABLE namespaces DROP COLUMN behind;"
            "ALTER TABLE namespaces DROP COLUMN texts; ALTER TABLE namespaces DROP COLUMN words;"
            "DROP TABLE popped; DROP TABLE changes; ALTER TABLE namespaces DROP COLUMN recent;"
            "PRAGMA user_version = 2"
        ).fetchall()
        old._connections.give(connection)
        old.close()


def test_an_old_file_is_indexed_when_it_is_searched(tmp_path, monkeypatch):
    path = tmp_path / "old.db"
    fill_old_file(path, monkeypatch)
    with Memory("n", f"sqlite:///{path}") as memory:
        memory["k0001"] = "changed"
        memory["new"] = "blue"
        memory.history("s").append(["message blue"])
        assert keys(memory.search("699")) == ["k0699"]
        assert len(memory.search("blue", limit=1000, neighbours=0)) == 701
        assert keys(memory.search("changed")) == ["k0001"]
        assert len(memory.search("789", neighbours=0)) == 1 + 1
        assert len(memory.search("799", kinds="messages", neighbours=0)) == 1
        assert raw(memory, "SELECT behind FROM namespaces") == [(None,)]
        raw(memory, "INSERT INTO texts (texts) VALUES ('integrity-check')")


def test_indexing_resumes_while_others_write(tmp_path, monkeypatch):
    path = tmp_path / "old.db"
    fill_old_file(path, monkeypatch)
    monkeypatch.setattr(word_index, "STEP", 37)
    store = SqliteStore(path)
    with Memory("n", f"sqlite:///{path}") as memory:
        done = threading.Event()

        def write():
            number = 0
            while not done.is_set():
                memory[f"k{number % 700:04}"] = f"fresh {number}"
                memory.history("t").append([f"fresh {number}"])
                number += 1

        writing = threading.Thread(target=write)
        writing.start()
        try:
            while not store.index("n", timeout=0.01):
                pass
        finally:
            done.set()
            writing.join()
        count = len(memory) + len(memory.history("s")) + len(memory.history("t"))
        found = memory.search("fresh blue message", limit=1000, neighbours=0)
        assert len(found) == 1000
        every = [hit for word in ("fresh", "blue", "message") for hit in memory.search(word, limit=1000, neighbours=0)]
        assert len({(hit.entry or hit.message, hit.session) for hit in every}) == len(every) or count > 3000
        raw(memory, "INSERT INTO texts (texts) VALUES ('integrity-check')")
    store.close()


def test_a_search_that_would_wait_too_long_says_so(tmp_path, monkeypatch):
    path = tmp_path / "old.db"
    fill_old_file(path, monkeypatch)
    monkeypatch.setattr(word_index, "STEP", 1)
    store = SqliteStore(path, timeout=0.01)
    with pytest.raises(Unavailable, match="is being built"):
        store.read("n", Search(text="blue"))
    store.close()


def test_off_and_on(address, memory):
    memory["k"] = "blue"
    chat = memory.history("s")
    chat.append([f"blue {number}" for number in range(100)])
    run = CliRunner().invoke
    path = address.removeprefix("sqlite:///")
    assert run(app, ["index", "off", "n", "--db", path]).output == "n is not indexed\n"
    with pytest.raises(InvalidArgument, match="its index is off"):
        memory.search("blue")
    assert raw(memory, "SELECT count(*) FROM texts_docsize") == [(0,)]
    memory["l"] = "blue"
    memory.delete("k")
    chat.append(["blue"])
    chat.pop(2)
    assert raw(memory, "SELECT pending, texts FROM namespaces") == [("", 0)]
    for _ in range(2):
        assert run(app, ["index", "on", "n", "--db", path]).output == "n is indexed\n"
        assert keys(memory.search("blue", kinds="entries")) == ["l"]
        assert len(memory.search("blue", limit=1000)) == 100
    run(app, ["index", "off", "empty", "--db", path])
    with Memory("empty", address) as other:
        other["k"] = "blue"
        with pytest.raises(InvalidArgument):
            other.search("blue")


def test_on_the_command_line(address, memory):
    memory["user/1"] = "a blue bicycle"
    memory.history("s").append(["my bicycle"])
    run = CliRunner().invoke
    lines = run(app, ["search", "n", "bicycles", "--url", address]).output.splitlines()
    assert [line.split()[1] for line in lines] == ["s#1", "user/1"]
    assert run(app, ["search", "n", "blue", "--url", address, "--prefix", "user/"]).output.endswith("a blue bicycle\n")
    assert run(app, ["search", "n", "zebra", "--url", address]).output == ""


def test_encrypted_values_are_not_searched(address):
    with Memory("n", address, encryption_key=generate_key()) as memory:
        memory["k"] = "blue"
        with pytest.raises(InvalidArgument, match="encrypted"):
            memory.search("blue")
    with Memory("n", address) as memory:
        assert memory.search("blue") == []


def test_other_namespaces_change_nothing(memory, address):
    memory["a"], memory["b"] = "red blue", "red"
    before = memory.search("red blue")
    with Memory("other", address) as other:
        other.set_many({f"k{number}": "red red red and many more words" for number in range(500)})
    assert memory.search("red blue") == before


def filled(store, count, *, size=0):
    """Fill a namespace with entries and messages that a search for ``word`` finds."""
    text = '"word ' + "text " * size + '"'
    store.write("n", [Put(f"k{number}", text) for number in range(count)])
    store.write("n", [Append("s", tuple(NewMessage(f"m{number}", text) for number in range(count)))])
    return store


class Bounded:
    def test_values_are_read_some_at_a_time(self, store, monkeypatch):
        """Candidates may be a thousand values of 16 MB. None of them is kept, and a statement reads few."""
        monkeypatch.setattr(search, "READ_BYTES", 3_000)
        held = []
        for name in ("messages_at", "entries_at", "entries_named"):
            read = getattr(ReadTables, name)

            def counted(*arguments, read=read):
                rows = read(*arguments)
                records = [row[-1] if isinstance(row, tuple) else row for row in rows]
                held.append(sum(len(record.stored) for record in records))
                return rows

            monkeypatch.setattr(ReadTables, name, counted)
        filled(store, 20, size=200)
        hits = store.read("n", Search(text="word", limit=100, neighbours=0))
        assert len(hits) == 40
        assert {hit.snippet[:9] for hit in hits if hit.message} == {"word text"}
        assert {hit.entry.key for hit in hits if hit.entry} == {f"k{number}" for number in range(20)}
        assert max(held) < 3_000 + 1_100
        store.write("n", [Put("new", '"word"'), Append("s", (NewMessage("new", '"word"'),))])
        assert len(store.read("n", Search(text="word", limit=100, neighbours=0))) == 42

    def test_hits_have_some_megabytes(self, store, monkeypatch):
        monkeypatch.setattr(search, "HIT_BYTES", 5_500)
        filled(store, 20, size=200)
        store.write("n", [Put("best", '"word word"')])
        hits = store.read("n", Search(text="word", limit=100, neighbours=0))
        assert hits[0].entry
        assert (hits[0].entry.key, len(hits)) == ("best", 1 + 5)
        monkeypatch.setattr(search, "HIT_BYTES", 1)
        assert len(store.read("n", Search(text="text", limit=100))) == 1

    def test_a_search_ends_at_its_deadline(self, store, monkeypatch):
        filled(store, 40)
        assert len(store.read("n", Search(text="word", limit=100))) == 80
        decoded = []

        def decode(stored):
            decoded.append(stored)
            time.sleep(0.05)
            return values.decode(stored)

        monkeypatch.setattr(search, "decode", decode)
        monkeypatch.setattr(store, "timeout", 0.4)
        with pytest.raises(Timeout, match="longer than it may"):
            store.read("n", Search(text="word", where={"x": 1}))
        assert len(decoded) < 40
        monkeypatch.undo()
        assert len(store.read("n", Search(text="word", limit=100))) == 80

    def test_a_search_ends_when_its_caller_is_cancelled(self, store, monkeypatch):
        filled(store, 40)
        begun = threading.Event()
        decoded = []

        def decode(stored):
            decoded.append(stored)
            begun.set()
            time.sleep(0.02)
            return values.decode(stored)

        async def main():
            waiting = store.to_async()
            assert len(await waiting.read("n", Search(text="word", limit=100))) == 80
            monkeypatch.setattr(search, "decode", decode)
            task = asyncio.create_task(waiting.read("n", Search(text="word", where={"x": 1})))
            await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(time.sleep, 0.2)
            count = len(decoded)
            await asyncio.to_thread(time.sleep, 0.2)
            assert len(decoded) == count < 80

        asyncio.run(main())


class TestBoundedInAFile(InAFile, Bounded):
    def test_a_statement_ends_at_its_deadline(self, store):
        """As one that compares a question with a million vectors."""
        connection = store._connections.take()
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
        with pytest.raises(Timeout), connection.stopping(Stop.after(0.1)):
            connection.execute(endless).fetchall()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        store._connections.give(connection)


class TestBoundedInPostgres(InPostgres, Bounded):
    pass
