"""``python -m benchmarks.sizing`` measures the processor time of a write and the size of a session, for docs/scale.md."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from botwire.operations import Append, NewMessage, Operation, Put
from botwire.queries import ListMessages, Search
from botwire.stores import async_store, open_store
from botwire.timestamps import new_id

from .services import postgres_server

SESSIONS, MESSAGES, WRITERS, SECONDS = 2_000, 10, 64, 3.0
WORDS = [
    "where",
    "did",
    "the",
    "blue",
    "bicycle",
    "go",
    "that",
    "was",
    "beneath",
    "an",
    "old",
    "mill",
    "when",
    "it",
    "rained",
    "last",
    "week",
    "and",
    "who",
    "has",
    "seen",
    "it",
    "since",
]
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure on PostgreSQL with its default settings, and print the results."""
    with (
        tempfile.TemporaryDirectory(prefix="botwire-sizing-", dir=".cache") as folder,
        postgres_server(Path(folder).absolute()) as server,
    ):
        address = server.get_uri()
        for searched in (False, True):
            _bytes(address, searched=searched)
        for name, operation in {"set": _put, "append": _append}.items():
            for searched in (False, True):
                _processor(server, address, name, operation, searched=searched)
        _reads(server, address)


def _text(number: int) -> str:
    words = [WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(28)]
    said = f"{' '.join(words)} {number}"
    return f'{{"role":"user","content":"{said}"}}'


def _put(writer: int, number: int) -> Operation:
    return Put(f"{writer}/{number % 500}", _text(number))


def _append(writer: int, number: int) -> Operation:
    return Append(f"session {writer}", (NewMessage(new_id(), _text(number)),))


def _bytes(address: str, *, searched: bool) -> None:
    """Fill sessions and measure the growth of the database."""
    store = open_store(address)
    name = f"bytes, searched: {searched}"
    store.write(name, [Put("k", '"word"')])
    if searched:
        store.read(name, Search(text="word"))
    before, length = _size(address), 0
    for first in range(0, SESSIONS, 100):
        operations = []
        for session in range(first, first + 100):
            messages = tuple(NewMessage(new_id(), _text(session * MESSAGES + number)) for number in range(MESSAGES))
            length += sum(len(message.stored) for message in messages)
            operations.append(Append(f"session {session}", messages))
        store.write(name, operations)
    grown = _size(address) - before
    print(
        f"{SESSIONS:,} sessions of {MESSAGES} messages of {length // SESSIONS // MESSAGES} bytes"
        f"{', indexed' if searched else ''}: {grown // SESSIONS:,} bytes a session in the database"
    )
    store.close()


def _size(address: str) -> int:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("VACUUM")
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert found is not None
        return int(found[0])


def _log(address: str) -> int:
    """Return the total bytes written to the write-ahead log."""
    with psycopg.connect(address, autocommit=True) as connection:
        found = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        assert found is not None
        return int(found[0])


def _processor(server: Any, address: str, what: str, operation: Any, *, searched: bool) -> None:
    name = f"{what}, searched: {searched}"

    async def write(store: Any, writer: int, end: float) -> int:
        number = 0
        while time.perf_counter() < end:
            number += 1
            await store.write(name, [operation(writer, number)])
        return number

    async def run() -> int:
        store = async_store(open_store(address))
        if searched:
            await store.write(name, [Put("k", '"word"')])
            await store.read(name, Search(text="word"))
        done = await asyncio.gather(*(write(store, writer, time.perf_counter() + SECONDS) for writer in range(WRITERS)))
        await store.close()
        return sum(done)

    logged, here, there = _log(address), time.process_time(), _ticks(server)
    done = asyncio.run(run())
    here, there, logged = time.process_time() - here, _ticks(server) - there, _log(address) - logged
    print(
        f"{what}, {WRITERS} writers{', indexed' if searched else ''}: {done / SECONDS:,.0f} a second; processor time for each "
        f"{here / done * 1e6:.0f} µs in the writing process and {there / done * 1e6:.0f} µs in PostgreSQL, and {logged // done:,} "
        "bytes of its log"
    )


def _reads(server: Any, address: str) -> None:
    store = open_store(address)
    count = 4_000
    here, there, begun = time.process_time(), _ticks(server), time.perf_counter()
    for number in range(count):
        store.read("append, searched: False", ListMessages(f"session {number % WRITERS}", last=10))
    here, there = time.process_time() - here, _ticks(server) - there
    print(
        f"read the last 10 messages, one after the other: {count / (time.perf_counter() - begun):,.0f} a second; processor time "
        f"for each {here / count * 1e6:.0f} µs in the reading process and {there / count * 1e6:.0f} µs in PostgreSQL"
    )
    store.close()


def _ticks(server: Any) -> float:
    """Return the processor seconds of PostgreSQL's processes, including ended ones."""
    postmaster = int((Path(server.pgdata) / "postmaster.pid").read_text().split()[0])
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == postmaster:
            total += sum(map(int, fields[11:15]))  # includes its ended children
        elif int(fields[1]) == postmaster:
            total += sum(map(int, fields[11:13]))
    return total / _TICK


if __name__ == "__main__":
    sys.exit(main())
