"""Backups of a file that is in use, put back; and what a check finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import apsw
import psycopg
import pytest

from botwire import ChangesLost, Conflict, InvalidArgument, Memory, StoreError
from botwire.stores.sqlite.backup import backup, restore
from botwire.stores.sqlite.check import check
from botwire.stores.sqlite.store import SqliteStore
from tests.waiting import until


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "memory.db"
    with Memory("n", f"sqlite:///{path}") as memory:
        fill(memory)
    return path


def fill(memory):
    memory.set_many({f"k{number}": "x" * 500 for number in range(2000)})
    memory.set("bytes", b"\x00\xff")
    memory.set("soon", 1, ttl=1000)
    for session in "abc":
        memory.history(session).append([[session, number] for number in range(100)])
    memory.delete("k7")


def contents(path):
    """Everything in the tables, but for the versions that namespaces are at: a restore lets them go on elsewhere."""
    connection = apsw.Connection(str(path))
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]
    found = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(namespaces)")]
    connection.close()
    at = columns.index("version")
    return found | {"namespaces": [(*row[:at], *row[at + 1 :]) for row in found["namespaces"]]}


def botwire(*arguments, **options):
    command = [sys.executable, "-m", "botwire", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("memory"))


# Backup


def test_a_backup_and_back(tmp_path, db):
    steps = []
    size = backup(db, tmp_path / "copy.db", progress=lambda done, total: steps.append((done, total)))
    assert names(tmp_path) == ["copy.db"]
    assert size == (tmp_path / "copy.db").stat().st_size
    assert steps == sorted(steps)
    assert steps[-1] == (size, size)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert contents(tmp_path / "copy.db") == contents(db)
    assert restore(tmp_path / "copy.db", tmp_path / "new.db") == size
    assert contents(tmp_path / "new.db") == contents(db)
    assert names(tmp_path) == ["copy.db", "new.db"]
    with Memory("n", f"sqlite:///{tmp_path}/new.db") as memory:
        assert memory.get("k8") == "x" * 500
        assert memory.history("a").append(["more"]) == [101]
    assert check(tmp_path / "new.db").problems == []


def test_what_is_in_the_wal_is_in_the_backup(tmp_path, db):
    with Memory("n", f"sqlite:///{db}") as memory:
        memory.set("late", 1)
        assert (tmp_path / "memory.db-wal").stat().st_size
        backup(db, tmp_path / "copy.db")
    with Memory("n", f"sqlite:///{tmp_path}/copy.db") as memory:
        assert memory.get("late") == 1


def test_a_backup_shows_one_moment_and_delays_no_writer(tmp_path, db):
    """Somebody writes two keys at once, again and again, while it is copied slowly."""
    stop, took = threading.Event(), []

    def write():
        with Memory("n", f"sqlite:///{db}") as memory:
            number = 0
            while not stop.is_set():
                begun = time.monotonic()
                memory.set_many({"first": number, "zlast": number, f"k{number % 2000}": "y" * 500})
                took.append(time.monotonic() - begun)
                number += 1

    def wait_for_a_write(*_):
        calls.append(count := len(took))
        until(lambda: len(took) > count, "write while it was copied")

    calls = []
    thread = threading.Thread(target=write)
    thread.start()
    try:
        until(lambda: len(took) >= 10, "writes")
        before = len(took)
        backup(db, tmp_path / "copy.db", progress=wait_for_a_write)
        during = len(took) - before
    finally:
        stop.set()
        thread.join()
    with Memory("n", f"sqlite:///{tmp_path}/copy.db") as memory:
        assert before - 1 <= memory.get("first") == memory.get("zlast") <= before + 5 + during // 2
    assert check(tmp_path / "copy.db").problems == []
    print({"writes while it was copied": during, "slowest": max(took)})
    assert during >= len(calls) > 1


def test_a_second_backup_takes_the_place_of_the_first(tmp_path, db):
    backup(db, tmp_path / "copy.db")
    with Memory("n", f"sqlite:///{db}") as memory:
        memory.set("late", 1)
    backup(db, tmp_path / "copy.db")
    assert contents(tmp_path / "copy.db") == contents(db)
    assert names(tmp_path) == ["copy.db"]


def test_unchanged_pages_are_identical_in_the_next_backup(tmp_path, db):
    """So that whatever copies it on moves only what is new."""
    backup(db, tmp_path / "copy.db")
    with Memory("n", f"sqlite:///{db}") as memory:
        memory.set("k100", "changed")
        memory.history("a").append(["late"])
        backup(db, tmp_path / "next.db")
    one, other = ((tmp_path / name).read_bytes() for name in ("copy.db", "next.db"))
    pages = range(0, len(one), 4096)
    changed = sum(one[begin : begin + 4096] != other[begin : begin + 4096] for begin in pages)
    print({"pages": len(pages), "changed": changed})
    assert 0 < changed <= 12


def test_a_damaged_file_does_not_replace_a_good_backup(tmp_path, db):
    backup(db, tmp_path / "copy.db")
    good = (tmp_path / "copy.db").read_bytes()
    with db.open("r+b") as file:
        file.seek(4096 * 40)  # behind the pages that say which tables there are
        file.write(os.urandom(4096 * 5))
    with pytest.raises(StoreError, match=r"memory\.db is damaged"):
        backup(db, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == good
    assert names(tmp_path) == ["copy.db"]


def test_an_interrupted_backup_keeps_the_old_one(tmp_path, db):
    backup(db, tmp_path / "copy.db")
    good = (tmp_path / "copy.db").read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(db, tmp_path / "copy.db", progress=fail)
    assert (tmp_path / "copy.db").read_bytes() == good
    assert names(tmp_path) == ["copy.db"]


def test_nothing_but_a_backup_is_replaced(tmp_path, db):
    (tmp_path / "diary.txt").write_text("Dear diary")
    for target in (tmp_path / "diary.txt", tmp_path, db):
        with pytest.raises(InvalidArgument, match="is not a backup: name another file"):
            backup(db, target)
    assert (tmp_path / "diary.txt").read_text() == "Dear diary"
    with pytest.raises(StoreError, match="No such file or directory"):
        backup(db, tmp_path / "none" / "copy.db")
    with pytest.raises(StoreError, match=r"there is no file .*none\.db"):
        backup(tmp_path / "none.db", tmp_path / "copy.db")
    assert names(tmp_path) == ["diary.txt"]
    with pytest.raises(InvalidArgument, match="in memory"):
        backup(":memory:", tmp_path / "copy.db")


# Restore


def test_what_is_there_is_replaced_only_by_force(tmp_path, db):
    backup(db, tmp_path / "copy.db")
    with Memory("other", f"sqlite:///{tmp_path}/new.db") as memory:
        memory.set("k", "theirs")
    before = contents(tmp_path / "new.db")
    with pytest.raises(InvalidArgument, match="holds 1 namespace: add --force"):
        restore(tmp_path / "copy.db", tmp_path / "new.db")
    assert contents(tmp_path / "new.db") == before
    restore(tmp_path / "copy.db", tmp_path / "new.db", force=True)
    assert contents(tmp_path / "new.db") == contents(db)


@pytest.mark.parametrize("target", ["the file", "a new one"])
def test_older_watchers_get_changes_lost_and_no_version_is_used_twice(tmp_path, target):
    path, copy = tmp_path / "a.db", tmp_path / "copy.db"

    def write(count):
        with Memory("n", f"sqlite:///{path}") as memory:
            versions = [memory.set("k", number) for number in range(count)]
            memory.history("s").append(["x"])
            return versions

    seen = write(3)
    backup(path, copy)
    for round_ in range(2):
        seen += write(5 + round_)
        if target == "a new one":
            path = tmp_path / f"{round_}.db"
        restore(copy, path, force=True)
        with Memory("n", f"sqlite:///{path}") as memory:
            with pytest.raises(Conflict):
                memory.set("k", 0, if_version=seen[-1])
        later = write(20)
        assert min(later) > max(seen)
        with Memory("n", f"sqlite:///{path}") as memory:
            for place in (1, *seen):
                with pytest.raises(ChangesLost):
                    list(memory.watch(after=place, wait=0))
            changes = list(memory.watch(after=later[0] - 1, wait=0))
            assert [change.kind for change in changes] == ["set", "append"]
            assert changes[0].version == later[-1]
        assert check(path).problems == []
        seen += later


def test_a_file_that_holds_nothing_needs_no_force(tmp_path, db):
    backup(db, tmp_path / "copy.db")
    SqliteStore(tmp_path / "new.db").close()
    (tmp_path / "empty.db").touch()
    for name in ("new.db", "empty.db"):
        restore(tmp_path / "copy.db", tmp_path / name)
        assert contents(tmp_path / name) == contents(db)


@pytest.mark.parametrize("where", ["here", "another process"])
def test_a_restore_refuses_a_file_in_use(tmp_path, db, where):
    backup(db, tmp_path / "copy.db")
    code = (
        f"import botwire, sys; m = botwire.Memory('n', 'sqlite:///{db}'); print(m.get('k1')[:1], flush=True); input()"
    )
    with Memory("n", f"sqlite:///{db}") as memory:
        memory.set("late", 1)
        if where == "another process":
            memory.close()
        holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout.readline() == b"x\n"
        if where == "here":
            holder.communicate(b"\n")
        with pytest.raises(StoreError, match="in use: stop the server"):
            restore(tmp_path / "copy.db", db, force=True)
        holder.communicate(b"\n" if where == "another process" else None)
    with Memory("n", f"sqlite:///{db}") as memory:
        assert memory.get("late") == 1
        memory.set("later", 1)


def test_what_is_no_backup_is_not_restored(tmp_path, db):
    (tmp_path / "diary.txt").write_text("Dear diary, " * 1000)
    with pytest.raises(StoreError, match="not a SQLite database"):
        restore(tmp_path / "diary.txt", tmp_path / "new.db")
    backup(db, tmp_path / "copy.db")
    with (tmp_path / "copy.db").open("r+b") as file:
        file.seek(4096 * 40)  # behind the pages that say which tables there are
        file.write(os.urandom(4096 * 5))
    with pytest.raises(StoreError, match=r"copy\.db is damaged"):
        restore(tmp_path / "copy.db", tmp_path / "new.db")
    (tmp_path / "copy.db").write_bytes(b"")
    with pytest.raises(StoreError, match="empty"):
        restore(tmp_path / "copy.db", tmp_path / "new.db")
    connection = apsw.Connection(str(tmp_path / "newer.db"))
    connection.execute(f"PRAGMA application_id = {0x424F5457}; PRAGMA user_version = 99; CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StoreError, match="from a newer botwire"):
        restore(tmp_path / "newer.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_a_damaged_file_is_not_overwritten(tmp_path, db):
    """What is left of it may still be worth something."""
    backup(db, tmp_path / "copy.db")
    for left in (b"Dear diary, " * 1000, db.read_bytes()[:5000]):
        db.write_bytes(left)
        with pytest.raises(StoreError, match=r"left alone: move it and what is beside it \(memory\.db-wal"):
            restore(tmp_path / "copy.db", db, force=True)
        assert db.read_bytes() == left
    db.unlink()
    (tmp_path / "memory.db-wal").write_bytes(b"of another file")
    with pytest.raises(StoreError, match="memory.db-wal belongs to an earlier file"):
        restore(tmp_path / "copy.db", db)


def test_a_killed_restore_leaves_the_file_unchanged(tmp_path, db):
    backup(db, tmp_path / "copy.db")
    with Memory("n", f"sqlite:///{db}") as memory:
        memory.set_many({f"z{number}": "late" * 100 for number in range(3000)})
    before = contents(db)
    code = f"""
import os, signal
from botwire.stores.sqlite import backup
backup.STEP = 10
def kill(done, total):
    if done > total / 2: os.kill(os.getpid(), signal.SIGKILL)
backup.restore({str(tmp_path / "copy.db")!r}, {str(db)!r}, force=True, progress=kill)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == -signal.SIGKILL
    with Memory("n", f"sqlite:///{db}") as memory:
        assert memory.get("z1") == "late" * 100
    assert contents(db) == before
    assert check(db).problems == []


# Check


DAMAGE = {
    "UPDATE namespaces SET bytes = bytes + 1": "namespace n: its state counts",
    "UPDATE sessions SET last_seq = 99 WHERE name = 'b'": "session b: it counts 99 messages",
    "UPDATE sessions SET bytes = bytes - 1 WHERE name = 'c'": "session c: it counts 100 messages with",
    "DELETE FROM messages WHERE place & 0xFFFFFFFF = 50 AND session = 1": "session a: it counts 100 messages",
    "INSERT INTO messages SELECT place + (1 << 40), session, id || 'x', created, data, NULL, NULL FROM messages LIMIT 1": "session does not exist",
    "INSERT INTO entries SELECT 77, key, version, created, updated, expires, value FROM entries LIMIT 1": "namespace 77 does not exist",
    "INSERT INTO sessions (namespace, name, created, updated) VALUES (77, 's', 1, 1)": "session s: its namespace 77 does not exist",
    "UPDATE entries SET version = 1000000 WHERE key = 'k1'": "entry k1: its version 1000000",
    "UPDATE namespaces SET expires = NULL": "an entry expires at",
    "UPDATE entries SET value = '[1' WHERE key = 'k1'": "entry k1: the value is not JSON",
    "UPDATE entries SET value = 1 WHERE key = 'k1'": "entry k1: the value is not JSON",
    "INSERT INTO entry_vectors VALUES (1, 1, 'none', 'm', x'00')": "vector of entry none: the entry does not exist",
    "INSERT INTO message_vectors VALUES (99 << 32, 1, 'm', x'00')": "vector of message 0 of session 99",
    "UPDATE namespaces SET vectors = 4": "namespace n: its state counts 4 bytes of vectors, but its rows have 0",
    "UPDATE messages SET data = '' WHERE place & 0xFFFFFFFF = 5": "message 5 of session 1: the data is not JSON",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_inconsistent_data_is_found(db, damage):
    report = check(db)
    assert (report.problems, report.namespaces, report.entries, report.sessions, report.messages) == (
        [],
        1,
        2001,
        3,
        300,
    )
    connection = apsw.Connection(str(db))
    connection.execute(damage)
    connection.close()
    assert any(DAMAGE[damage] in problem for problem in check(db).problems), check(db).problems


def test_a_damaged_page_is_found(db):
    with db.open("r+b") as file:
        file.seek(4096 * 40)  # behind the pages that say which tables there are
        file.write(os.urandom(4096))
    assert any(problem.startswith("SQLite: ") for problem in check(db).problems)


# The commands


def test_the_commands(tmp_path, db):
    done = botwire("backup", tmp_path / "copy.db", "--db", db)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.endswith("bytes, checked\n")
    done = botwire("check", "--db", tmp_path / "copy.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert "has no damage: 1 namespace, 2,001 entries, 3 sessions and 300 messages in " in done.stdout
    done = botwire("restore", tmp_path / "copy.db", "--db", db)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"botwire: {db} holds 1 namespace: add --force to replace all of it\n"
    assert botwire("restore", tmp_path / "copy.db", "--db", f"sqlite:///{db}", "--force").returncode == 0
    connection = apsw.Connection(str(db))
    connection.execute("UPDATE namespaces SET bytes = 0")
    connection.close()
    done = botwire("check", "--db", db)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("namespace n: its state counts 0 bytes")
    assert done.stderr.endswith("is damaged: restore a backup, or if only usage is wrong, correct it with --fix\n")
    done = botwire("check", "--db", db, "--fix")
    assert (done.returncode, done.stderr) == (0, "")
    corrected, report = done.stdout.splitlines()
    assert corrected.startswith("namespace n: it counted 0 bytes, and holds ")
    assert "has no damage: 1 namespace" in report
    assert botwire("check", "--db", db).returncode == 0


def test_fix_leaves_what_it_cannot_correct(db):
    connection = apsw.Connection(str(db))
    connection.execute(
        "UPDATE namespaces SET bytes = 0; DELETE FROM messages WHERE place & 0xFFFFFFFF = 50 AND session = 1"
    )
    connection.close()
    done = botwire("check", "--db", db, "--fix")
    assert done.returncode == 1
    assert "namespace n: it counted 0 bytes, and holds " in done.stdout
    assert done.stderr.startswith("session a: it counts 100 messages")


def test_fix_corrects_a_database(postgres):
    with Memory("n", postgres) as memory:
        memory.set("k", "value")
        memory.history("s").append([1])
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("UPDATE botwire.namespaces SET bytes = 0")
    assert botwire("check", "--db", postgres).returncode == 1
    done = botwire("check", "--db", postgres, "--fix")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("namespace n: it counted 0 bytes, and holds ")
    assert botwire("check", "--db", postgres, "--fix").stdout == "usage is what the rows hold\n"


def test_the_commands_without_a_file(tmp_path):
    options = {"env": {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}}
    for command in (["check"], ["backup", tmp_path / "copy.db"]):
        done = botwire(*command, **options)
        assert done.returncode == 1
        assert done.stderr.startswith("botwire: there is no file")
    assert not (tmp_path / "data").exists()
