"""How much of a file its statements read, and files from before."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import apsw
import pytest

from botwire import InvalidValue, Memory
from botwire.operations import Delete, Increment, Put, Require
from botwire.queries import CountEntries, GetEntries, GetEntry, ListEntries, ListKeys
from botwire.stores.engine.statements import load_migrations
from botwire.stores.sqlite.connection import APPLICATION_ID, SQL_FOLDER
from botwire.stores.sqlite.store import SqliteStore

LONG = 4_000_000
SHORT = [
    GetEntry("k"),
    GetEntry("none"),
    GetEntries(("k", "none")),
    ListKeys(),
    ListEntries(),
    CountEntries(),
    Put("k", "2"),
    Increment("n", 1),
    Require("none", 0),
    Delete("none"),
]


@pytest.fixture
def path(tmp_path):
    """A file with long values between the entries of others."""
    with contextlib.closing(SqliteStore(tmp_path / "a.db")) as store:
        store.write("before", [Put("k", "1")])
        store.write("big", [Put("k0", "0")])
        store.write("after", [Put("k", "1")])
        for number in range(20):
            store.write("big", [Put(f"k{number:02}", f'"{"x" * LONG}"')])
    return tmp_path / "a.db"


def bytes_read():
    """Return how many bytes the system calls of this process have read."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("request_", SHORT, ids=lambda request: type(request).__name__)
def test_long_values_of_others_are_not_read(path, request_):
    with contextlib.closing(SqliteStore(path)) as store:
        ask = store.write if isinstance(request_, Put | Increment | Require | Delete) else store.read
        for namespace in ("before", "after"):
            store.read(namespace, CountEntries())
            begun = bytes_read()
            ask(namespace, [request_] if ask == store.write else request_)
            assert bytes_read() - begun < LONG / 4


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_keys_are_listed_and_counted_without_their_values(path):
    with contextlib.closing(SqliteStore(path)) as store:
        begun = bytes_read()
        assert len(store.read("big", ListKeys())) == store.read("big", CountEntries()) == 21
        assert store.write("big", [Put("k05", "1")])
        assert bytes_read() - begun < 2 * LONG  # the value that is replaced


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_increment_reads_no_long_value(path):
    with contextlib.closing(SqliteStore(path)) as store:
        begun = bytes_read()
        with pytest.raises(InvalidValue, match="not a number"):
            store.write("big", [Increment("k05", 1)])
        assert bytes_read() - begun < LONG / 4


def test_a_file_of_version_6_keeps_its_entries(tmp_path):
    with contextlib.closing(apsw.Connection(str(tmp_path / "old.db"))) as connection:
        for script in load_migrations(SQL_FOLDER / "migrations")[:6]:
            connection.execute(script).fetchall()
        connection.execute(
            "INSERT INTO namespaces (id, name, day, bytes, version, expires) VALUES (7, 'n', 1, 22, 3, 9000000000000000);"
            "INSERT INTO entries VALUES (7, 'b', 2, 1, 2, NULL, '1'), (7, 'a', 1, 1, 1, 9000000000000000, x'00ff');"
            "INSERT INTO entry_vectors (namespace, key, model, vector) VALUES (7, 'a', 'm', x'00000000'), (7, 'b', 'm', x'00000000');"
            f"PRAGMA user_version = 6; PRAGMA application_id = {APPLICATION_ID}"
        ).fetchall()
    with Memory("n", f"sqlite:///{tmp_path / 'old.db'}") as memory:
        assert dict(memory.items()) == {"a": b"\x00\xff", "b": 1}
        entries = memory.entry("a"), memory.entry("b")
        assert [(entry.version, entry.expires) for entry in entries] == [(1, 9 * 10**15), (2, None)]
        memory.set("a", 3)  # the triggers delete the vector of each text that changes
        memory.delete("b")
        assert memory.set("b", 4) > 3
    with contextlib.closing(apsw.Connection(str(tmp_path / "old.db"))) as connection:
        assert connection.execute("SELECT count(*) FROM entry_vectors").get == 0
        assert connection.execute("SELECT vectors FROM namespaces").get == 0
        assert connection.execute("PRAGMA integrity_check").get == "ok"
