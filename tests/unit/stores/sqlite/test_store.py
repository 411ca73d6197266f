"""What is particular to the file: its owner, its version, its faults."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from botwire import InvalidArgument, Memory, StoreError, Timeout, Unavailable
from botwire.operations import Append, Expire, Increment, NewMessage, Put, Write
from botwire.queries import GetEntries, GetEntry, ListEntries, ListKeys, Search
from botwire.stores.sqlite.connection import APPLICATION_ID, Connection, schema_version
from botwire.stores.sqlite.store import SqliteStore

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="drops root's rights in a child")


def open_file(path):
    return Memory("n", f"sqlite:///{path}")


def test_pragmas(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    connection = store._connections.take()
    found = {
        name: connection.pragma(name) for name in ("journal_mode", "synchronous", "application_id", "user_version")
    }
    store._connections.give(connection)
    store.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "application_id": APPLICATION_ID, "user_version": 8}


def test_a_newer_file_is_refused(tmp_path):
    open_file(tmp_path / "a.db").close()
    connection = apsw.Connection(str(tmp_path / "a.db"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99, from a newer botwire"):
        open_file(tmp_path / "a.db")


def test_a_read_that_ends_early_keeps_no_snapshot(tmp_path):
    """A snapshot would keep the log from being emptied."""
    with contextlib.closing(SqliteStore(tmp_path / "a.db")) as store:
        store.write("n", [Put(key, '"x"') for key in "abc"])
        assert len(store.read("n", ListEntries(room=1))) == 1
        other = apsw.Connection(str(tmp_path / "a.db"))
        ((busy, *_),) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        other.close()
        assert busy == 0


def test_a_foreign_database_is_refused_and_left_alone(tmp_path):
    connection = apsw.Connection(str(tmp_path / "a.db"))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(StoreError, match="not a botwire file"):
        open_file(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    (tmp_path / "a.db").write_text("Dear diary, " * 1000)
    with pytest.raises(StoreError, match="not a SQLite database"):
        open_file(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_text() == "Dear diary, " * 1000


def test_a_damaged_file(tmp_path):
    with open_file(tmp_path / "a.db") as memory:
        memory.set_many({f"k{number}": "x" * 500 for number in range(1000)})
    data = bytearray((tmp_path / "a.db").read_bytes())
    data[8192:400_000] = os.urandom(400_000 - 8192)
    (tmp_path / "a.db").write_bytes(data)
    with pytest.raises(StoreError, match="damaged|failed"), open_file(tmp_path / "a.db") as memory:
        memory.items()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="No such file or directory"):
        open_file(tmp_path / "none" / "a.db")


def test_a_folder_as_a_file(tmp_path):
    with pytest.raises(StoreError, match="directory"):
        open_file(tmp_path)


@as_root
def test_no_permission(tmp_path):
    open_file(tmp_path / "a.db").close()
    code = f"import os; from botwire import Memory; Memory('n', 'sqlite:///:memory:'); os.setuid(65534); Memory('n', 'sqlite:///{tmp_path}/a.db')"
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "StoreError" in done.stderr
    assert "Permission denied" in done.stderr


def test_the_file_is_for_its_owner_only(tmp_path):
    memory = open_file(tmp_path / "a.db")
    memory.set("k", 1)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()}
    assert modes == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm", "a.db-lock"], 0o600)


def test_a_full_disk(tmp_path):
    """A real one: SQLite's page limit is where the disk ends."""
    store = SqliteStore(tmp_path / "a.db")
    store.write("n", [Put("before", '"x"')])
    for _ in range(2):  # the connection of whoever writes next
        connection = store._connections.take()
        connection.execute("PRAGMA max_page_count = 40")
        store._connections.give(connection)
    with pytest.raises(StoreError, match="disk is full; nothing was written"):
        store.write("n", [Put("a", '"y"'), Put("big", '"' + "x" * 1_000_000 + '"')])
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        assert memory.list_keys() == ["before"]
    connection = store._connections.take()
    connection.execute("PRAGMA max_page_count = 1000000")
    store._connections.give(connection)
    store.write("n", [Put("big", '"' + "x" * 1_000_000 + '"')])
    store.close()


def test_expired_entries_are_purged_by_later_writes(tmp_path):
    with open_file(tmp_path / "a.db") as memory:
        memory.set_many({f"k{number}": "x" for number in range(200)}, ttl=0.05)
        time.sleep(0.1)
        for number in range(5):
            memory.set("other", number)
        assert memory.usage().bytes == len("other") + 1
    connection = apsw.Connection(str(tmp_path / "a.db"))
    assert connection.execute("SELECT count(*) FROM entries").get == 1
    connection.close()


def test_deleted_values_are_erased_from_the_file(tmp_path):
    memory = open_file(tmp_path / "a.db")
    memory.set("k", "find-me-" * 50)
    memory.delete("k")
    memory.close()
    assert b"find-me-" not in (tmp_path / "a.db").read_bytes()


def test_a_file_put_in_the_place_of_another_is_another_store(tmp_path):
    first = open_file(tmp_path / "a.db")
    first.set("k", 1)
    first.close()
    for path in tmp_path.glob("a.db*"):
        path.unlink()
    second = open_file(tmp_path / "a.db")
    assert "k" not in second


def test_reads_use_an_index(tmp_path):
    """No statement on a hot path scans a table."""
    from botwire.stores.engine.statements import load_queries
    from botwire.stores.sqlite.connection import SQL_FOLDER

    store = SqliteStore(tmp_path / "a.db")
    connection = store._connections.take()
    connection.load_vectors()
    once = {
        "release_expired",
        "delete_expired",
        "expect_expiries",
        "end_sessions",
        "end_ruled_sessions",
        "expect_ended_sessions",
        "redate_responses",
        "redate_popped",
        "wrong_sessions",
    }
    # when the clock goes back, or for a recount
    queries = load_queries(SQL_FOLDER / "queries.sql") | load_queries(SQL_FOLDER / "search.sql")
    for name, text in queries.items():
        if name in once:
            continue
        plan = " ".join(
            row[3]
            for row in connection.execute(
                "EXPLAIN QUERY PLAN " + text, (None,) * len(set(re.findall(r"\?(\d+)", text)))
            )
        )
        # These sort what they were asked for, or what has a prefix.
        sorting = {"get_entries", "nearest_messages", "nearest_entries", "sessions_named", "sessions_by_age_named"}
        if name not in sorting | {"idle_sessions", "old_sessions"}:  # which sort the rules
            assert "TEMP B-TREE" not in plan, name
        for part in plan.split("SCAN ")[1:]:
            assert part.startswith(
                (
                    "wanted",
                    "(subquery-",
                    "rules",
                    "longer",
                    "all_named",
                    "answers",
                    "popped",
                    "sqlite_sequence",
                    "CONSTANT",
                    "json_each",
                    "texts VIRTUAL",
                    "terms VIRTUAL",
                )
            ), (
                name,
                plan,
            )
    store._connections.give(connection)
    store.close()


def test_reads_touch_what_they_return_and_no_more(tmp_path):
    """A page late in a list, and a few keys of many."""
    store = SqliteStore(tmp_path / "a.db")
    store.write("n", [Put(f"k{number:04}", "1") for number in range(5000)])
    connection = store._connections.take()
    steps = []
    connection.set_progress_handler(lambda: bool(steps.append(1)), 100)
    store._connections.give(connection)
    for query, count in (
        (ListKeys("k", "k4000", 10), 10),
        (ListEntries("k", "k4000", 10), 10),
        (ListKeys("", "k4000", 10), 10),
        (ListKeys("k4", "k1", 10), 10),
        (GetEntries(("k4000", "k0001", "none")), 2),
    ):
        steps.clear()
        assert len(store.read("n", query)) == count
        assert len(steps) < 10, query
    store.close()


def test_importing_is_quick():
    """A generous bound, for a machine that does other things as well; the benchmark measures it properly."""
    code = "import time; t = time.perf_counter(); import botwire; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.15


def test_no_module_unpickles_or_evaluates_data():
    for path in Path(__file__).parents[4].glob("src/botwire/**/*.py"):
        text = path.read_text()
        for word in ("import pickle", "from pickle", "pickle.load", "Unpickler", "eval(", "exec(", "marshal", "yaml"):
            assert word not in text, (path, word)


def test_unavailable_is_its_own_class():
    assert not issubclass(Unavailable, StoreError)
    assert issubclass(InvalidArgument, ValueError)


def test_messages_of_a_group_see_each_other(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    assert store.write("n", [Append("s", (NewMessage("a", "1"),)), Append("s", (NewMessage("b", "2"),))]) == [[1], [2]]
    store.close()


# One queue for all transactions


def descriptors(path):
    """How many open files of this process are the lock file."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was the listing's own
            found.append(str(link.readlink()))
    return found.count(f"{path}-lock")


CHANGES = {
    "set_plan": lambda store: store.set_plan("n", "free"),
    "index": lambda store: store.index("n", timeout=5),
    "set_index": lambda store: store.set_index("n", on=False),
    "search": lambda store: store.read("n", Search(text="x")),
    "expire": lambda store: store.write("n", [Expire()]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_write_and_another_change_wait_for_another_process_together(tmp_path, change):
    """They share one lock file. When each waited on its own, a descriptor leaked, and with it the lock."""
    path = tmp_path / "a.db"
    store = SqliteStore(path, timeout=5)
    store.write("n", [Put("k", '"x"')])
    for turn in range(3):
        other = os.open(f"{path}-lock", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        errors = []

        def run(act):
            try:
                act()
            except BaseException as error:
                errors.append(error)

        acts = [lambda turn=turn: store.write("n", [Put("k", f'"{turn}"')]), lambda: change(store)]
        threads = [threading.Thread(target=run, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        fcntl.flock(other, fcntl.LOCK_UN)
        os.close(other)
        for thread in threads:
            thread.join(10)
        assert errors == []
        assert descriptors(path) == 1
    fresh = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it
    os.close(fresh)
    store.close()


def test_the_first_write_and_the_first_search_at_once(tmp_path):
    """Neither has opened the lock file yet."""
    for turn in range(40):
        path = tmp_path / f"{turn}.db"
        with contextlib.closing(SqliteStore(path)) as store:
            store.write("n", [Put("k", '"x"')])
        with contextlib.closing(SqliteStore(path, timeout=3)) as store:
            barrier = threading.Barrier(2)

            def at_once(act, barrier=barrier):
                barrier.wait()
                act()

            with ThreadPoolExecutor(2) as pool:
                acts = [lambda: store.write("n", [Put("k", '"y"')]), lambda: store.index("n", timeout=3)]
                for future in [pool.submit(at_once, act) for act in acts]:
                    future.result(10)
            assert descriptors(path) == 1
            fresh = os.open(f"{path}-lock", os.O_RDWR)
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fresh)


@pytest.mark.parametrize(
    "change", [*CHANGES.values(), lambda store: store.write("n", [Put("k", "1")])], ids=[*CHANGES, "write"]
)
def test_a_timeout_is_a_deadline(tmp_path, change):
    """Three calls in a row wait for the queue and then for another process: each for its timeout in all, not for each wait."""
    path = tmp_path / "a.db"
    store = SqliteStore(path, timeout=1.0)
    store.write("n", [Put("k", '"x"')])
    other = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    took = []

    def run(delay):
        time.sleep(delay)
        start = time.monotonic()
        with pytest.raises((Timeout, Unavailable)):
            change(store)
        took.append(time.monotonic() - start)

    threads = [threading.Thread(target=run, args=(0.45 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    os.close(other)
    assert len(took) == 3
    assert max(took) < 1.4
    store.close()


def test_a_late_write_does_not_take_others_of_its_group_with_it(tmp_path):
    path = tmp_path / "a.db"
    patient, hasty = SqliteStore(path, timeout=5), []
    patient.write("n", [Put("k", "1")])
    other = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    write = Write("n", (Increment("k"),))

    def run(seconds):
        try:
            hasty.append(patient.commits.write(write, time.monotonic() + seconds))
        except Timeout:
            hasty.append("late")

    threads = [threading.Thread(target=run, args=(seconds,)) for seconds in (0.2, 5, 0.3, 5)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    assert hasty == ["late", "late"]
    os.close(other)
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, hasty)) == ["[2]", "[3]", "late", "late"]
    patient.close()


# Errors


def test_a_mistake_of_the_caller_is_not_damage(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    store.write("n", [Put("k", "1")])
    with pytest.raises(TypeError):
        store.write("n", [Increment("k", "1")])
    with pytest.raises(TypeError):
        store.read("n", GetEntry({}))
    store.write("n", [Put("k", "2")])
    store.close()


def test_a_row_of_another_type_is_damage(tmp_path):
    store = SqliteStore(tmp_path / "a.db")
    store.write("n", [Put("k", "1"), Put("expires", "1", ttl=60.0)])
    with contextlib.closing(apsw.Connection(str(tmp_path / "a.db"))) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'entries'")
    with contextlib.closing(apsw.Connection(str(tmp_path / "a.db"))) as connection:
        connection.execute("UPDATE entries SET expires = 'never' WHERE key = 'expires'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = sql || ' STRICT' WHERE name = 'entries'")
    store.close()
    store = SqliteStore(tmp_path / "a.db")
    with pytest.raises(StoreError, match="damaged"):
        store.write("n", [Put("expires", "2")])
    store.close()


# Writes that interrupt a write of the same thread


def test_a_signal_handler_that_writes_during_a_write(tmp_path):
    """It would wait for the write that it has interrupted."""
    store = SqliteStore(tmp_path / "a.db", timeout=20)
    store.write("n", [Put("k", "0")])
    outcomes = []

    def handler(*_):
        try:
            outcomes.append(store.write("n", [Put("signal", "1")]))
        except Unavailable as error:
            outcomes.append(error)

    before = signal.signal(signal.SIGUSR1, handler)
    real = store.apply

    def apply(tables, writes):
        if not outcomes:
            signal.raise_signal(signal.SIGUSR1)
        return real(tables, writes)

    store.apply = apply
    try:
        start = time.monotonic()
        store.write("n", [Put("k", "1")])
        assert time.monotonic() - start < 10
    finally:
        signal.signal(signal.SIGUSR1, before)
        store.apply = real
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Unavailable)
    assert "interrupted" in str(outcomes[0])
    assert store.write("n", [Put("k", "2")])
    store.close()


def test_a_finalizer_that_writes_wherever_the_collector_runs(tmp_path):
    """It is collected in a write, at each place in turn."""
    store = SqliteStore(tmp_path / "a.db", timeout=2)
    outcomes = []

    class Writes:
        def __init__(self):
            self.me = self

        def __del__(self):
            try:
                outcomes.append(store.write("n", [Increment("finalized")]))
            except Unavailable as error:
                outcomes.append(error)

    threshold = gc.get_threshold()
    gc.disable()
    try:
        for number in range(60):
            Writes()
            gc.set_threshold(1 + number % 30, 1, 1)
            gc.enable()
            store.write("n", [Put("k", str(number)), Append("s", (NewMessage(str(number), "1"),))])
            gc.disable()
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    gc.collect()
    assert outcomes
    assert store.read("n", GetEntry("k")).stored == "59"
    store.close()


def test_a_file_that_another_process_creates_at_the_same_moment(tmp_path):
    connection = Connection(str(tmp_path / "a.db"))

    def create(_, statement, __):
        if "sqlite_schema" in statement:
            connection.set_exec_trace(None)
            SqliteStore(tmp_path / "a.db").close()
        return True

    connection.set_exec_trace(create)
    schema_version(connection, "a.db")
    assert schema_version(connection, "a.db") == 8
    connection.close()
