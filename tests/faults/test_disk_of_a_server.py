"""A server whose disk fails returns clear errors and answers reads. It writes again when the disk is repaired."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from botwire import BotWireError, Memory, StoreError
from botwire.operations import Append, Increment, NewMessage, Put
from botwire.queries import CountEntries, GetEntry, GetUsage, ListEntries, ListMessages, ListSessions
from botwire.stores.sqlite.store import SqliteStore
from tests.faults.scale import rounds
from tests.servers import Server

MOUNT = ("unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && exec "$@"')
BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Removes root's capability to ignore file permissions."""


def may_mount() -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run([*MOUNT, "/mnt", "true"], capture_output=True).returncode == 0
    return False


@pytest.mark.skipif(not may_mount(), reason="needs permission to mount a disk in its own mount namespace")
def test_a_full_disk_refuses_writes_and_answers_reads(tmp_path, figures):
    """Uses a real disk of one megabyte, which another process fills."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with Server(disk / "a.db", "--keep-free", "0", prefix=(*MOUNT, str(disk))) as server:
        figures(written_until_it_was_full=fill_up(server, disk))


def fill_up(server: Server, disk: Path) -> int:
    memory = Memory("n", server.url)
    memory.set("before", "x" * 1000)
    filler = Path(f"/proc/{server.process.pid}/root{disk}/filler")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    written = 0
    with pytest.raises(StoreError, match="disk is full; nothing was written"):
        for written in range(1000):
            memory.set(f"k{written}", "x" * 5000)
    for _ in range(3):
        with pytest.raises(StoreError, match="disk is full; nothing was written"):
            memory.set_many({"half": "x", "whole": "x" * 100_000})
    assert memory.get("before") == "x" * 1000
    assert sorted(memory.list_keys()) == sorted(["before", *(f"k{number}" for number in range(written))])
    filler.unlink()
    memory.set_many({"half": "x", "whole": "x" * 100_000})
    assert len(memory) == written + 3
    return written


def test_open_connections_survive_a_lost_file_permission(tmp_path, figures):
    """Open connections continue to work. New ones can be opened again when the permission is restored."""
    with Server(tmp_path / "a.db", prefix=BOUND) as server:
        figures(**lose_permission(server, tmp_path))


def lose_permission(server: Server, folder: Path) -> dict:
    memory = Memory("n", server.url)
    memory.set_many({f"k{number}": "x" * 100 for number in range(3000)})
    files = list(folder.glob("a.db*"))
    folder.chmod(0o555)
    for file in files:
        file.chmod(0o000)

    def read(_):
        try:
            return len(memory.items())
        except StoreError as error:
            assert "Permission denied" in error.message
            return error.code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(40)))
    assert set(found) <= {3000, "storage"}
    assert {read(number) for number in range(5)} == {3000}  # sequential reads need no new connection
    assert memory.get("k1") == "x" * 100
    for file in files:
        file.chmod(0o600)
    folder.chmod(0o700)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(40))) == {3000}
    memory.set("after", 1)
    return {"refused": found.count("storage"), "answered": found.count(3000)}


def serve(path) -> subprocess.CompletedProcess:
    command = [*BOUND, sys.executable, "-m", "botwire", "serve", "--port", "0", "--db", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("what", ["folder", "file", "newer", "text", "cut"])
def test_an_unusable_file_is_reported_in_one_line(tmp_path, what):
    """The server exits with 1 and prints one line with the reason."""
    folder, path = tmp_path, tmp_path / "a.db"
    SqliteStore(path).close()
    if what == "folder":
        for file in folder.iterdir():
            file.unlink()
        folder.chmod(0o555)
        reason = "Permission denied"
    elif what == "file":
        path.chmod(0o400)
        reason = "Permission denied"
    elif what == "newer":
        connection = apsw.Connection(str(path))
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        reason = "from a newer botwire"
    elif what == "text":
        path.write_text("not a database, " * 1000)
        reason = "not a SQLite database"
    else:
        path.write_bytes(path.read_bytes()[:5000])
        reason = "is damaged"
    done = serve(path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert reason in done.stderr
    assert done.stderr.startswith("botwire: ")


def test_a_damaged_table_does_not_affect_other_tables(tmp_path):
    path = tmp_path / "a.db"
    with Memory("n", f"sqlite:///{path}") as memory:
        memory.set_many({f"k{number}": "x" * 500 for number in range(100)})
        memory.history("one").append(["a", "b"])
    connection = apsw.Connection(str(path))
    page, size = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entries'").get, 4096
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(random.Random(1).randbytes(size))
    with Server(path) as server:
        read_what_is_left(Memory("n", server.url))


def read_what_is_left(memory: Memory) -> None:
    for _ in range(3):
        with pytest.raises(StoreError, match="the file is damaged: restore a backup"):
            memory.get("k1")
        with pytest.raises(StoreError, match="the file is damaged"):
            memory.set("k1", 1)
        assert [message.data for message in memory.history("one").messages()] == ["a", "b"]
    assert memory.history("one").append(["c"]) == [3]


def damage(rng: random.Random, data: bytearray) -> str:
    kind = rng.choice(["flip", "page", "cut", "zero", "swap"])
    page = 4096 * rng.randrange(len(data) // 4096)
    if kind == "flip":
        for _ in range(rng.choice([1, 10, 200])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "page":
        data[page : page + 4096] = rng.randbytes(4096)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "zero":
        begin = rng.randrange(len(data))
        data[begin : begin + rng.randrange(20_000)] = bytes(len(data[begin : begin + rng.randrange(20_000)]))
    else:
        other = 4096 * rng.randrange(len(data) // 4096)
        data[page : page + 4096], data[other : other + 4096] = data[other : other + 4096], data[page : page + 4096]
    return kind


def test_random_damage_raises_a_botwire_error(tmp_path, figures):
    """No damage causes a crash, a hang or another exception."""
    path = tmp_path / "a.db"
    store = SqliteStore(path)
    store.write("n", [Put(f"k{number}", '"' + "é" * number + '"', ttl=1000) for number in range(200)])
    store.write("n", [Put(f"b{number}", bytes(number)) for number in range(200)])
    for session in "abc":
        store.write("n", [Append(session, tuple(NewMessage(f"{n}", f"[{n}]") for n in range(200)))])
    store.close()
    whole, rng = path.read_bytes(), random.Random(3)
    queries = [ListEntries(), CountEntries(), GetEntry("k7"), ListSessions(), GetUsage()]
    queries += [ListMessages(session) for session in "abc"]
    outcomes = {"files": rounds(100, 3000), "refused when opened": 0, "queries answered": 0}
    for _ in range(outcomes["files"]):
        data = bytearray(whole)
        damage(rng, data)
        path.write_bytes(data)
        try:
            store = SqliteStore(path)
        except BotWireError:
            outcomes["refused when opened"] += 1
            continue
        for query in queries:
            with contextlib.suppress(BotWireError):
                found = store.read("n", query)
                for item in found if isinstance(found, list) else [found]:
                    repr(item)  # decodes it
                outcomes["queries answered"] += 1
        with contextlib.suppress(BotWireError):
            store.write("n", [Increment("count"), Append("a", (NewMessage("new", "1"),))])
        store.close()
        for left in tmp_path.glob("a.db-*"):
            left.unlink()
    figures(**outcomes)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_server_reports_a_removed_or_replaced_file(tmp_path, replaced):
    path = tmp_path / "a.db"
    with Memory("n", f"sqlite:///{tmp_path}/new.db") as new:
        new.set("restored", 1)
    with Server(path) as server:
        memory = Memory("n", server.url)
        memory.set("before", 1)
        doctor = [sys.executable, "-m", "botwire", "doctor", "--url", server.url]
        assert subprocess.run(doctor, capture_output=True).returncode == 0
        if replaced:
            (tmp_path / "new.db").rename(path)
        else:
            for suffix in "", "-wal", "-shm":
                Path(f"{path}{suffix}").unlink()
        for _ in range(3):
            with pytest.raises(StoreError, match="removed or replaced"):
                memory.set("after", 1)
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(f"{server.url}/health")
        found = subprocess.run(doctor, capture_output=True, text=True)
        assert found.returncode == 1
        assert "removed or replaced" in found.stdout
    with Memory("n", f"sqlite:///{path}") as memory:
        assert memory.keys() == (["restored"] if replaced else [])
