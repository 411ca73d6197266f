"""Eight processes write at once without lost messages, gaps or starvation; and forks are safe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback

import pytest

from botwire import Memory
from botwire.stores.sqlite.store import SqliteStore
from tests.servers import Server

PROCESSES, SECONDS, MESSAGES = 8, 3.0, 40

APPEND = """
import sys, time
from botwire import Memory
address, session, writer, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
history = Memory("fair", address).history(session)
print("ready", flush=True)
end = float(input()) + seconds
number = 0
while time.monotonic() < end:
    history.append([[writer, number]])
    number += 1
print(number)
"""


@pytest.fixture(params=["sqlite", "http"])
def address(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/memory.db"
        return
    server = Server(tmp_path / "memory.db")
    yield server.url
    server.stop()


def start_together(*commands: list[str]) -> list[subprocess.Popen[str]]:
    """Start programs, wait until all of them are ready, and send them the time."""
    processes = [
        subprocess.Popen([sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    now = time.monotonic()
    for process in processes:
        process.stdin.write(f"{now}\n")
        process.stdin.flush()
    return processes


def test_eight_processes_append_to_one_session(address, figures):
    Memory("fair", address).set("made", True)
    shares, counts = [], []
    while (
        max(shares, default=0) < 0.5 and len(shares) < 3
    ):  # a busy machine may schedule unfairly, so try up to 3 times
        counts = append_together(address, f"session {len(shares)}")
        shares.append(min(counts) / (sum(counts) / PROCESSES))
    kind = address.partition(":")[0]
    rate, share = round(sum(counts) / SECONDS), round(max(shares), 2)
    figures(**{f"appends/s over {kind}": rate, f"slowest share over {kind}": share})
    assert share >= 0.5


def append_together(address: str, session: str) -> list[int]:
    """Append from eight processes at once, check that every message exists, and return each process's count."""
    commands = [[APPEND, address, session, str(writer), str(SECONDS)] for writer in range(PROCESSES)]
    processes = start_together(*commands)
    counts = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    messages = Memory("fair", address).history(session).messages()
    assert [message.seq for message in messages] == list(range(1, sum(counts) + 1))
    for writer, count in enumerate(counts):
        assert [m.data[1] for m in messages if m.data[0] == writer] == list(range(count))
    return counts


def test_a_forked_process_can_use_the_same_memory(address):
    """Threads of the parent write during the forks."""
    memory = Memory("fork", address)
    history = memory.history("one")
    stop = threading.Event()

    def write():
        while not stop.is_set():
            history.append(["parent"])

    threads = [threading.Thread(target=write, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        children = []
        for child in range(8):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    history.append([f"child {child}"])
                    code = 0 if f"child {child}" in [m.data for m in history.messages()] else 2
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    finally:
        stop.set()
    for thread in threads:
        thread.join(30)
    assert codes == [0] * 8
    messages = history.messages()
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    assert {m.data for m in messages} == {"parent", *(f"child {child}" for child in range(8))}


def test_a_fork_keeps_one_leader_in_the_parent(tmp_path, monkeypatch):
    """Two leaders would release each other's file lock, and a lock could remain that no one releases."""
    holders, most = 0, 0

    def transact(self, change, deadline, _real=SqliteStore._transact):
        def counted(tables):
            nonlocal holders, most
            holders += 1
            most = max(most, holders)
            try:
                return change(tables)
            finally:
                holders -= 1

        return _real(self, counted, deadline)

    memory = Memory("fork", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setattr(SqliteStore, "_transact", transact)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            memory.increment("written")

    threads = [threading.Thread(target=write, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
    finally:
        stop.set()
    for thread in threads:
        thread.join(30)
    assert most == 1
    assert memory["written"] > 30


OPEN = """
import sys
import botwire
print("ready", flush=True)
input()
print(botwire.Memory("n", sys.argv[1]).increment("opened"))
"""


def test_eight_processes_create_the_file_at_once(tmp_path):
    """One process creates the schema. The others find it complete."""
    processes = start_together(*([OPEN, f"sqlite:///{tmp_path}/a.db"] for _ in range(PROCESSES)))
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(counts) == list(range(1, PROCESSES + 1))
