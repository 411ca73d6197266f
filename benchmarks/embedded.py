"""Compare the embedded store with the bare statement, with Redis over loopback, and with more data. Time the import."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from botwire import History, Memory

from .measure import Row, in_turns, row
from .services import redis_server

PADDING = "x" * 160
KEYS = 500
LONG, SHORT = 1_000_000, 100


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Run all comparisons."""
    rounds = 2000
    memory = Memory("bench", f"sqlite:///{folder}/ours.db")
    bare = _bare(folder / "bare.db")
    value = {"text": PADDING, "number": 0}

    step("fdatasync")
    yield from _floor(folder, memory)

    step("set")
    text = f'{{"text":"{PADDING}","number":%d}}'
    upsert = "INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
    yield row(
        "set",
        "bare apsw upsert, synchronous=FULL",
        in_turns(
            {
                "ours": lambda n: memory.set(f"key-{n % KEYS}", value | {"number": n}),
                "theirs": lambda n: bare.execute(upsert, (f"key-{n % KEYS}", text % n)),
            },
            rounds,
        ),
        1.3,
    )

    step("append")
    history = memory.history("session")
    insert = "INSERT INTO m SELECT ?1, coalesce(max(seq), 0) + 1, ?2 FROM m WHERE session = ?1"
    yield row(
        "append",
        "bare apsw insert, synchronous=FULL",
        in_turns(
            {
                "ours": lambda n: history.append([value | {"number": n}]),
                "theirs": lambda n: bare.execute(insert, ("session", text % n)),
            },
            rounds,
        ),
        1.3,
    )

    step("get")
    select = "SELECT v FROM kv WHERE k = ?"
    with redis_server(folder, "always") as peer:
        for number in range(KEYS):
            peer.set(f"key-{number}", text % number)
        timings = in_turns(
            {
                "ours": lambda n: memory.get(f"key-{n % KEYS}"),
                "theirs": lambda n: bare.execute(select, (f"key-{n % KEYS}",)).get,
                "redis": lambda n: peer.get(f"key-{n % KEYS}"),
            },
            rounds * 5,
        )
    yield row("get", "bare apsw select", timings, 2.5)
    ours, other = timings["ours"], timings["redis"]
    yield Row("get", "redis-py over loopback", ours.median, other.median, ours.worst, 10.0, smaller_is_better=False)

    step(f"{LONG:,} messages")
    long, short = memory.history("long"), memory.history("short")
    _fill(long, LONG, step)
    _fill(short, SHORT, step)
    _let_a_checkpoint_pass(memory)
    yield row(
        f"append to {LONG:,} messages",
        f"to {SHORT}",
        in_turns({"ours": lambda n: long.append([n]), "theirs": lambda n: _fresh(memory, n).append([n])}, rounds),
        1.3,
    )
    yield row(
        f"read the last 10 of {LONG:,}",
        f"of {SHORT}",
        in_turns({"ours": lambda _: long.messages(last=10), "theirs": lambda _: short.messages(last=10)}, rounds * 2),
        1.3,
    )
    memory.close()
    bare.close()

    step("import")
    ours, names, theirs = (_import(what) for what in ("import botwire", "from botwire import Memory", "import asyncio"))
    yield Row("import botwire", "60 ms", ours, 60_000, ours, 1.0)
    yield Row("from botwire import Memory", "import asyncio", names, theirs, names, None)


def _floor(folder: Path, memory: Memory) -> Iterator[Row]:
    """Measure the disk alone: append 4 KiB to a file, and overwrite 4 KiB."""
    grown, kept = (os.open(folder / name, os.O_RDWR | os.O_CREAT) for name in ("grown", "kept"))
    os.pwrite(kept, bytes(4096 * KEYS), 0)
    os.fsync(kept)

    def write(file: int, number: int, place: int) -> None:
        os.pwrite(file, number.to_bytes(4, "big") * 1024, place * 4096)
        os.fdatasync(file)

    timings = in_turns(
        {
            "ours": lambda n: memory.set(f"key-{n % KEYS}", {"text": PADDING, "number": -n}),
            "grown": lambda n: write(grown, n, n),
            "kept": lambda n: write(kept, n, n % KEYS),
        },
        2000,
    )
    os.close(grown), os.close(kept)
    yield row("set", "4 KiB + fdatasync, appending", timings, None, "grown")
    yield row("set", "4 KiB + fdatasync, overwriting", timings, None, "kept")


def _bare(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").fetchall()
    connection.execute("CREATE TABLE kv (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID")
    connection.execute("CREATE TABLE m (session TEXT, seq INTEGER, v TEXT, PRIMARY KEY (session, seq)) WITHOUT ROWID")
    return connection


def _fill(history: History, count: int, step: Callable[[str], None]) -> None:
    for start in range(0, count, 10_000):
        step(f"{start:,} of {count:,} messages")
        history.append([{"number": n, "text": PADDING} for n in range(start, min(start + 10_000, count))])


def _let_a_checkpoint_pass(memory: Memory) -> None:
    for number in range(1500):
        memory.set("other", number)


_SESSIONS: dict[int, History] = {}


def _fresh(memory: Memory, number: int) -> History:
    """Return a session of about 100 messages. Every twenty appends use a new session, so that each stays short."""
    index = number // 20
    if index not in _SESSIONS:
        _SESSIONS[index] = memory.history(f"short-{index}")
        _SESSIONS[index].append([{"number": n, "text": PADDING} for n in range(SHORT)])
    return _SESSIONS[index]


def _import(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print((time.perf_counter() - t) * 1e6)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(15)]
    return statistics.median(map(float, runs))
