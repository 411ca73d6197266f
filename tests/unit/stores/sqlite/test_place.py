"""A file that other code in the process reads and closes, or that is removed, replaced or linked while it is open."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from botwire import Conflict, Memory, Timeout
from botwire.errors import StoreError
from botwire.operations import Increment, Put
from botwire.stores.sqlite import SqliteStore
from botwire.stores.sqlite import store as store_module
from botwire.stores.sqlite.place import _mount_points

TIMEOUT = 60
OTHER = """
import sys
from botwire import Memory
with Memory("n", "sqlite:///" + sys.argv[1]) as memory:
    for _ in range(int(sys.argv[2])):
        memory.increment("both")
    print(memory.get("both"), len(memory))
"""


WRITER = """
import os, sys
from botwire import Memory
memory = Memory("n", "sqlite:///" + sys.argv[1])
for _ in range(100):
    memory.increment("both")
print(memory.get("both"), flush=True)
sys.stdin.read()
os._exit(0)
"""
"""Writes, and is killed when all is acknowledged: most of it is in the log."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.db"


def memory_at(path: Path) -> Memory:
    return Memory("n", f"sqlite:///{path}")


def other_process(path: Path, increments: int = 0) -> list[int]:
    """Open the file in another process, count up, close it, and return what it holds: the count, and how many keys."""
    command = [sys.executable, "-c", OTHER, str(path), str(increments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return [int(number) for number in done.stdout.split()]


def with_sqlite3(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    connection.close()


def with_a_backup(path: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(":memory:")
    source.backup(target)
    target.close()
    source.close()


def with_a_copy(path: Path) -> None:
    for name in path, Path(f"{path}-wal"), Path(f"{path}-shm"):
        shutil.copy(name, f"{name}.copy")


def with_a_read(path: Path) -> None:
    path.read_bytes()
    Path(f"{path}-shm").read_bytes()


ACCESSES = [with_sqlite3, with_a_backup, with_a_copy, with_a_read]


@pytest.mark.parametrize("access", ACCESSES)
def test_locks_outlive_other_access_in_the_process(path, access):
    with memory_at(path) as memory:
        memory.set("both", 0)
        access(path)
        inodes = [Path(f"{path}{suffix}").stat().st_ino for suffix in ("", "-wal", "-shm")]
        assert other_process(path, 1) == [1, 1]
        # A read-only program takes itself for the first, too.
        reader = "import sqlite3, sys; sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute('SELECT * FROM entries')"
        subprocess.run([sys.executable, "-c", reader, str(path)], timeout=TIMEOUT, check=True)
        assert [Path(f"{path}{suffix}").stat().st_ino for suffix in ("", "-wal", "-shm")] == inodes
        assert memory.increment("both") == 2
        assert other_process(path) == [2, 1]
    assert not Path(f"{path}-wal").exists()  # the last one still removes the log


@pytest.mark.parametrize("access", ACCESSES)
def test_no_increment_is_lost_during_other_access(path, access):
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(0.003):
            access(path)

    with memory_at(path) as memory:
        memory.set("both", 0)
        toucher = threading.Thread(target=touch)
        toucher.start()
        with subprocess.Popen([sys.executable, "-c", OTHER, str(path), "100"], stdout=subprocess.DEVNULL) as other:
            for _ in range(100):
                memory.increment("both")
            assert other.wait(TIMEOUT) == 0
        ended.set()
        toucher.join()
        assert memory.get("both") == 200
    assert other_process(path) == [200, 1]


KILLED = """
import os, signal, sqlite3, subprocess, sys
from botwire import Memory
path, other = sys.argv[1:]
memory = Memory("n", "sqlite:///" + path)
memory.set("both", 0)
other_connection = sqlite3.connect(path)
other_connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
other_connection.close()
subprocess.run([sys.executable, "-c", other, path, "1"], check=True)
for number in range(50):
    memory.set(str(number), number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_acknowledged_writes_survive_a_kill_after_other_access(path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), OTHER], timeout=TIMEOUT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert other_process(path) == [1, 51]


def remove_all(path: Path) -> None:
    for suffix in ("-shm", "-wal", ""):
        Path(f"{path}{suffix}").unlink()


def remove_database(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(f"{path}.moved")


def replace(path: Path) -> None:
    with memory_at(Path(f"{path}.new")) as memory:
        memory.set("restored", True)
    Path(f"{path}.new").replace(path)


def remove_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def remove_index(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def remove_beside(path: Path) -> None:
    remove_log(path)
    remove_index(path)


def move_folder(path: Path) -> None:
    path.parent.rename(f"{path.parent}.moved")


CHANGES = [remove_all, remove_database, move_away, replace, remove_log, remove_index, remove_beside, move_folder]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_acknowledged_in_files_that_lost_their_names(tmp_path, change):
    path = tmp_path / "folder" / "m.db"
    path.parent.mkdir()
    with memory_at(path) as memory:
        memory.set("before", 1)
        change(path)
        time.sleep(0.002)  # the check of a commit is good for the next millisecond
        for _ in range(2):
            with pytest.raises(StoreError, match="removed or replaced"):
                memory.set("after", 1)
        with pytest.raises(StoreError, match="removed or replaced"):
            memory.get("before")
    path.parent.mkdir(exist_ok=True)
    with memory_at(path) as memory:
        assert memory.keys() == {
            remove_log: ["before"],
            remove_index: ["before"],
            remove_beside: ["before"],
            replace: ["restored"],
        }.get(change, [])


@pytest.mark.parametrize("change", CHANGES)
def test_a_write_during_which_the_names_change_is_stored_or_reported(tmp_path, change):
    path = tmp_path / "folder" / "m.db"
    path.parent.mkdir()

    class Changed(SqliteStore):
        wanted = False

        def apply(self, tables, writes):
            outcomes = super().apply(tables, writes)
            if self.wanted:
                self.wanted = False
                change(path)
            return outcomes

    store = Changed(path)
    with Memory("n", store=store) as memory:
        memory.set("before", 1)
        store.wanted = True
        try:
            memory.set("during", 1)
            acknowledged = True
        except StoreError as error:
            assert "may be lost" in str(error)
            acknowledged = False
        with pytest.raises(StoreError, match="removed or replaced"):
            memory.set("after", 1)
    store.close()
    path.parent.mkdir(exist_ok=True)
    with memory_at(path) as memory:
        assert acknowledged == ("during" in memory)


def test_a_read_notices_the_change(path):
    with memory_at(path) as memory:
        memory.set("before", 1)
        remove_all(path)
        deadline = time.monotonic() + TIMEOUT
        with pytest.raises(StoreError, match="removed or replaced"):
            while time.monotonic() < deadline:
                memory.get("before")


def test_a_watch_notices_the_change(path):
    with memory_at(path) as memory:
        memory.set("before", 1)
        watch = memory.watch(wait=TIMEOUT)
        remove_all(path)
        with pytest.raises(StoreError, match="removed or replaced"):
            list(watch)


def test_a_new_memory_uses_the_file_that_is_there_now(path):
    with memory_at(path) as old:
        old.set("before", 1)
        remove_beside(path)
        time.sleep(0.002)
        with pytest.raises(StoreError):
            old.set("after", 1)
        with memory_at(path) as new:
            new.set("new", 1)
            assert new.keys() == ["before", "new"]
    assert other_process(path, 1) == [1, 3]


def test_a_file_put_in_place_of_an_open_one_is_not_opened(path):
    """SQLite would add the log of the former file to it."""
    with memory_at(path) as old:
        old.set("before", 1)
        replace(path)
        done = subprocess.run(
            [sys.executable, "-c", OTHER, str(path), "1"], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert "log of the former file" in done.stderr
        with pytest.raises(StoreError, match="log of the former file"):
            memory_at(path).keys()
    with memory_at(path) as memory:
        assert memory.keys() == ["restored"]


@pytest.mark.parametrize("step", ["connect", "migrate"])
@pytest.mark.parametrize("left", ["nothing", "an empty file", "a database", "half a database"])
def test_the_log_survives_a_file_that_is_moved_while_another_program_opens_it(path, monkeypatch, step, left):
    """SQLite opens the name, and so perhaps a file that is there for a moment, beside the log of the one that was moved.

    When it closes that one, it would copy the log into it, and remove the log.
    """
    aside, other = path.with_name("aside"), path.with_name("other.db")
    with memory_at(other) as memory:
        memory.set("other", 1)
    content = {
        "nothing": None,
        "an empty file": b"",
        "a database": other.read_bytes(),
        "half a database": other.read_bytes()[:6_000],
    }[left]
    opened = getattr(store_module, step)
    moves = [1]

    def moved_meanwhile(*arguments, **options):
        if moves:
            moves.pop()
            path.rename(aside)
            if content is not None:
                path.write_bytes(content)
            try:
                return opened(*arguments, **options)
            finally:
                if step == "migrate":
                    back()
        return opened(*arguments, **options)

    def back():
        time.sleep(0.002)
        if aside.exists():
            aside.rename(path)

    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "100\n"
    monkeypatch.setattr(store_module, step, moved_meanwhile)
    try:
        SqliteStore(path).close()
    except StoreError:
        back()
    back()
    writer.communicate("")
    assert writer.returncode == 0
    with memory_at(path) as memory:
        assert memory.get("both") == 100


def test_a_hard_link_is_refused(path):
    with memory_at(path) as memory:
        memory.set("k", 1)
    other = path.with_name("other.db")
    os.link(path, other)
    for name in path, other:
        with pytest.raises(StoreError, match=r"2 names \(hard links\)"):
            memory_at(name).get("k")
    other.unlink()
    assert memory_at(path).get("k") == 1


def test_a_symbolic_link_names_the_same_file(path):
    link = path.with_name("folder") / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with memory_at(path) as one, memory_at(link) as two:
        one.increment("both")
        two.increment("both")
        assert other_process(link, 1) == [3, 1]
        assert one.get("both") == 3
    assert not Path(f"{link}-lock").exists()  # one lock for all names


def test_a_symbolic_link_to_another_file_is_noticed(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    with memory_at(link) as memory:
        memory.set("before", 1)
        link.unlink()
        link.symlink_to(path.with_name("another.db"))
        time.sleep(0.002)
        with pytest.raises(StoreError, match="removed or replaced"):
            memory.set("after", 1)


MOUNTED = """
import subprocess, sys
from pathlib import Path
from botwire import Memory
path = Path(sys.argv[1])
alone, folder = path.with_name("ein zeln.db"), path.with_name("folder")
alone.touch()
folder.mkdir()
subprocess.run(["mount", "--bind", path, alone], check=True)
subprocess.run(["mount", "--bind", path.parent, folder], check=True)
for name in alone, folder / path.name:
    try:
        print(Memory("n", f"sqlite:///{name}").get("k"))
    except Exception as error:
        print(error)
"""


def test_a_file_mounted_alone_is_refused(path):
    with memory_at(path) as memory:
        memory.set("k", 1)
    unshared = ["unshare", "--mount", "--map-root-user", sys.executable, "-c", MOUNTED, str(path)]
    done = subprocess.run(unshared, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if "unshare" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("this system does not allow mounts")
    alone, folder = done.stdout.splitlines()
    assert "mounted as a single file" in alone
    assert folder == "1"


def test_mount_points_are_known():
    assert not Path("/proc/self/mountinfo").exists() or "/proc" in _mount_points()


def test_a_forked_child_gives_nothing_back(path):
    """Its copies of the descriptors have the same locks as those of its parent."""
    with memory_at(path) as memory:
        memory.set("both", 0)
        if (child := os.fork()) == 0:
            memory.increment("both")
            os._exit(0)  # without closing anything
        assert os.waitpid(child, 0)[1] == 0
        with_a_copy(path)
        assert other_process(path, 1) == [2, 1]
        assert memory.increment("both") == 3
    assert other_process(path) == [3, 1]


def test_files_are_closed_with_their_last_connection(path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3):
        with memory_at(path) as memory, memory_at(path) as same:
            memory.set("k", number)
            same.set("k", number)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize("change", [replace, remove_log, remove_index])
def test_a_change_is_noticed_though_the_folder_gets_its_old_time_back(path, change):
    """As tools for backups do. A log looks at the time of the folder first."""
    with memory_at(path) as memory:
        memory.set("k", 1)
        time.sleep(0.06)  # until the log may rely on the time of the folder
        memory.set("k", 2)
        facts = path.parent.stat()
        change(path)
        os.utime(path.parent, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        time.sleep(0.002)
        with pytest.raises(StoreError, match="removed or replaced"):
            memory.set("k", 3)


def test_most_checks_look_at_the_folder_only(path, monkeypatch):
    store = SqliteStore(path)
    time.sleep(0.06)
    store.write("n", [Increment("k")])
    looks = []
    monkeypatch.setattr("botwire.stores.sqlite.wal.names_of", looks.append)
    for _ in range(3):
        store.write("n", [Increment("k")])
    store.close()
    assert looks == []


def test_a_write_waits_for_another_sqlite_of_the_process(path):
    """Their locks do not exclude each other: without the wait, the writes of one of the two would be lost."""
    with Memory("n", f"sqlite:///{path}", timeout=0.3) as memory:
        memory.set("before", 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE mine (a)")
        with pytest.raises(Timeout, match="another program keeps the database locked; nothing was written"):
            memory.set("during", 1)
        assert memory.get("before") == 1
        other.execute("COMMIT")
        memory.set("after", 1)
        assert memory.keys() == ["after", "before"]
        assert [name for (name,) in other.execute("SELECT name FROM sqlite_schema WHERE name = 'mine'")] == ["mine"]
        other.close()
    assert other_process(path, 1) == [1, 3]


def test_the_index_is_not_built_again_during_a_transaction(path):
    """Another SQLite of the process would, if it read the index while a commit changes it: POSIX locks would let it."""

    def can_recover():
        with Path(f"{path}-shm").open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 122)
            except BlockingIOError:
                return False
            return True

    class Watched(SqliteStore):
        def apply(self, tables, writes):
            seen.append(can_recover())
            return super().apply(tables, writes)

    seen = []
    store = Watched(path)
    store.write("n", [Increment("k")])
    seen.append(can_recover())
    with pytest.raises(Conflict):
        store.write("n", [Put("k", "1", if_version=7)])
    seen.append(can_recover())
    store.close()
    assert seen == [False, True, False, True]


def test_a_file_that_is_moved_back_while_its_path_is_opened(path, monkeypatch):
    """The log of the file that was created in between is not added to it."""
    with memory_at(path) as memory:
        memory.set_many({str(number): number for number in range(100)})
    aside = path.rename(f"{path}.aside")
    migrate, opened = store_module.migrate, []

    def slow(*arguments):
        migrate(*arguments)
        if not opened:
            opened.append(True)
            aside.rename(path)

    monkeypatch.setattr(store_module, "migrate", slow)
    with memory_at(path) as memory:
        assert len(memory) == 100
    assert other_process(path, 1) == [1, 101]
