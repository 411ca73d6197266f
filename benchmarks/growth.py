"""Measure speed as data grows: sessions, keys, namespaces, values, and processes on one file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from botwire import Memory
from botwire.operations import Put, Write
from botwire.stores.sqlite.store import SqliteStore

from .measure import Row, in_turns, row

PADDING = "x" * 160


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Run all comparisons. `embedded` measures sessions."""
    yield from _keys(folder, step)
    yield from _namespaces(folder, step)
    yield from _values(folder, step)
    yield from _processes(folder, step)


def _keys(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    address = f"sqlite:///{folder}/keys.db"
    counts = (10, 1_000, 1_000_000)
    memories = {count: Memory(f"keys-{count}", address) for count in counts}
    for count, memory in memories.items():
        for start in range(0, count, 10_000):
            step(f"{start:,} of {count:,} keys")
            memory.set_many(
                {f"key-{n:07}": {"text": PADDING, "n": n} for n in range(start, min(start + 10_000, count))}
            )
    few, some, many = memories.values()

    def key(number: int, count: int) -> str:
        return f"key-{number * 7_919 % count:07}"

    sets = in_turns(
        {
            "ours": lambda n: many.set(key(n, counts[2]), {"text": PADDING, "n": -n}),
            "theirs": lambda n: some.set(key(n, counts[1]), {"text": PADDING, "n": -n}),
            "few": lambda n: few.set(key(n, counts[0]), {"text": PADDING, "n": -n}),
        },
        1500,
    )
    gets = in_turns(
        {
            "ours": lambda n: many.get(key(n, counts[2])),
            "theirs": lambda n: some.get(key(n, counts[1])),
            "few": lambda n: few.get(key(n, counts[0])),
        },
        6000,
    )
    yield row("set, any of 1,000,000 keys", "of 1,000", sets, 1.3)
    yield row("set, any of 1,000,000 keys", "of 10", sets, None, "few")
    yield row("get, any of 1,000,000 keys", "of 1,000", gets, 1.3)
    yield row("get, any of 1,000,000 keys", "of 10", gets, None, "few")
    hot = in_turns(
        {
            "ours": lambda n: many.get(f"key-{n % 500:07}"),
            "theirs": lambda n: some.get(f"key-{n % 500:07}"),
        },
        6000,
    )
    yield row("get, 500 of 1,000,000 keys", "500 of 1,000", hot, 1.3)


def _namespaces(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    address = f"sqlite:///{folder}/namespaces.db"
    memory = Memory("first", address)
    before = in_turns({"ours": lambda n: memory.set("k", n), "get": lambda _: memory.get("k")}, 600)
    store = SqliteStore(folder / "namespaces.db")
    for start in range(0, 100_000, 1_000):
        step(f"{start:,} of 100,000 namespaces")
        writes = [Write(f"namespace-{n}", (Put("k", "1"),), None) for n in range(start, start + 1_000)]
        store.commit(store.begin(writes)[0])
    store.close()
    after = in_turns({"ours": lambda n: memory.set("k", -n), "get": lambda _: memory.get("k")}, 600)
    for what, name in ("set", "ours"), ("get", "get"):
        ours, theirs = after[name], before[name]
        yield Row(f"{what}, one of 100,000 namespaces", "the only one", ours.median, theirs.median, ours.worst, 1.3)


def _values(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    memory = Memory("values", f"sqlite:///{folder}/values.db")
    for size in (100, 10_000, 1_000_000):
        step(f"values of {size:,} bytes")
        pieces = [f"{n:06}" + "x" * (size - 6) for n in range(20)]
        calls: dict[str, Callable[[int], object]] = {
            "set": lambda n, pieces=pieces: memory.set(f"k{n % 50}", pieces[n % 20]),  # type: ignore[misc]
            "get": lambda n: memory.get(f"k{n % 50}"),
        }
        timings = in_turns(calls, 200 if size > 100_000 else 1000)
        ours = timings["set"]
        yield Row(f"set {size:,} bytes", "get", ours.median, timings["get"].median, ours.worst)


def _processes(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    code = (
        "import sys, time; from botwire import Memory\n"
        "memory, count, end = Memory('shared', sys.argv[1]), 0, time.perf_counter() + 3\n"
        "while time.perf_counter() < end:\n"
        "    memory.set(f'{sys.argv[2]}-{count % 500}', {'text': 'x' * 160, 'n': count}); count += 1\n"
        "print(count / 3)\n"
    )
    rates = {}
    for processes in (1, 2, 8):
        step(f"{processes} processes write")
        command = [sys.executable, "-c", code, f"sqlite:///{folder}/processes-{processes}.db"]
        started = [
            subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(processes)
        ]
        shares = [float(process.communicate()[0]) for process in started]
        rates[processes] = sum(shares)
        time.sleep(0.1)
        if processes > 1:
            fair = sum(shares) / processes
            worst = min(shares)
            text = f"one process (slowest share {worst / fair:.2f})"
            yield Row(f"set by {processes} processes, total", text, 1e6 / rates[processes], 1e6 / rates[1], 0)
