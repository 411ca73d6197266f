"""After ``kill -9`` at random moments, every acknowledged write exists exactly once, and no write is partial."""

from __future__ import annotations

import collections
import random
import subprocess
import sys
import time

import apsw
import pytest

from botwire import Memory
from tests.faults.forked import ForkedServer
from tests.faults.scale import rounds

KILLS = rounds(100, 1_000)
"""Kills of writers, and of servers, divided among parallel tests."""
PARTS = 4


def start_writer(address: str, namespace: str, writer: str, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.writer", address, namespace, writer, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready 0\n", process.stderr.read()
    return process


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def kill(process: subprocess.Popen[str]) -> list[tuple[str, int]]:
    """Kill a writer and return its acknowledged writes."""
    process.kill()
    output, _ = process.communicate(timeout=30)
    return [(kind, int(number)) for kind, number in (line.split() for line in output.splitlines())]


def check(memory: Memory, writer: str, acknowledged: list[tuple[str, int]]) -> None:
    """Check that a writer's acknowledged writes exist, and that the next one is complete or missing."""
    limit = max((number for _, number in acknowledged), default=-1) + 1
    stored = dict(memory.items(f"{writer}/"))
    expected = {}
    for kind, number in acknowledged:
        if kind == "set":
            expected[f"{writer}/{number}"] = {"writer": writer, "number": number}
        elif kind == "many":
            expected |= {f"{writer}/{number}/{part}": number for part in "abc"}
    assert {key: stored.get(key) for key in expected} == expected
    rest = {key: value for key, value in stored.items() if key not in expected}
    assert len(rest) in ({0, 3} if limit % 3 == 2 else {0, 1} if limit % 3 == 0 else {0})
    assert all(int(key.split("/")[1]) == limit for key in rest)

    messages = memory.history("shared").messages()
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    numbers = [message.data["number"] for message in messages if message.data["writer"] == writer]
    wanted = [number for kind, number in acknowledged if kind == "append"]
    assert numbers in ([wanted, [*wanted, limit]] if limit % 3 == 1 else [wanted])


def check_file(path: str) -> None:
    connection = apsw.Connection(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def check_usage(memory: Memory, path: str) -> None:
    """Check that the usage in bytes equals the bytes in the tables."""
    connection = apsw.Connection(path)
    (held,) = connection.execute(
        "SELECT (SELECT total(octet_length(key) + octet_length(value)) FROM entries)"
        " + (SELECT total(octet_length(messages.id) + octet_length(data)) FROM messages)"
    ).fetchone()
    connection.close()
    assert memory.usage().bytes == held


@pytest.mark.parametrize("part", range(PARTS))
def test_acknowledged_writes_survive_kills_of_the_writer(tmp_path, part, figures):
    rng = random.Random(part)
    path = str(tmp_path / "memory.db")
    counts = collections.Counter()
    for attempt in range(KILLS // PARTS):
        writer = f"w{attempt}"
        process = start_writer(f"sqlite:///{path}", "kill", writer)
        go(process)
        time.sleep(rng.uniform(0, 0.12))
        acknowledged = [item for item in kill(process) if item[0] != "ready"]
        check_file(path)
        with Memory("kill", f"sqlite:///{path}") as memory:
            check(memory, writer, acknowledged)
            check_usage(memory, path)
        counts["kills"] += 1
        counts["acknowledged"] += len(acknowledged)
    figures(**counts)
    assert counts["acknowledged"] > 100


@pytest.mark.parametrize("part", range(PARTS))
def test_acknowledged_writes_survive_kills_of_the_server(tmp_path, part, figures):
    """Clients retry until the server is back. No write is lost or applied twice."""
    rng = random.Random(100 + part)
    path = str(tmp_path / "memory.db")
    server = ForkedServer(path)
    writers = {name: start_writer(server.url, "kill", name) for name in ("a", "b")}
    for process in writers.values():
        go(process)
    for _ in range(KILLS // PARTS):
        time.sleep(rng.uniform(0.02, 0.25))
        server.kill()
        check_file(path)
        server.start()
    assert [process.poll() for process in writers.values()] == [None, None]
    acknowledged = {name: [item for item in kill(process) if item[0] != "ready"] for name, process in writers.items()}
    time.sleep(0.2)  # until the writes are applied that were in transit at the kill
    with Memory("kill", server.url) as memory:
        for name, items in acknowledged.items():
            check(memory, name, items)
    assert server.stop() is not None
    with Memory("kill", f"sqlite:///{path}") as memory:
        check_usage(memory, path)
    check_file(path)
    total = sum(map(len, acknowledged.values()))
    figures(kills=KILLS // PARTS, acknowledged=total)
    assert total > KILLS // PARTS
