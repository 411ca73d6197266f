"""Compare keys and values with other stores, in one process: a durable set and a get."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diskcache
import psycopg
from langgraph.store.sqlite import SqliteStore

from botwire import Memory

from .measure import Row, faster, in_turns
from .services import postgres_server, redis_server

PADDING = "x" * 160
KEYS = 500

Place = tuple[Callable[[str, Any], Any], Callable[[str], Any]]
"""Calls that set and get a value."""


def places(folder: Path, stack: ExitStack) -> dict[str, Callable[[], Place]]:
    """Return a function that opens each store, by name."""
    return {
        "ours": lambda: _memory(folder, stack),
        "diskcache, synchronous=FULL": lambda: _diskcache(folder, stack),
        "redis-py, always": lambda: _redis(folder, stack, "always"),
        "redis-py, everysec": lambda: _redis(folder, stack, "everysec"),
        "PostgreSQL, psycopg": lambda: _postgres(folder, stack),
        "langgraph SqliteStore": lambda: _langgraph(folder, stack),
    }


def _memory(folder: Path, stack: ExitStack) -> Place:
    memory = stack.enter_context(Memory("bench", f"sqlite:///{folder}/ours.db"))
    return memory.set, memory.get


def _diskcache(folder: Path, stack: ExitStack) -> Place:
    cache = stack.enter_context(diskcache.Cache(str(folder / "diskcache"), sqlite_synchronous=2))
    return cache.set, cache.get


def _redis(folder: Path, stack: ExitStack, fsync: str) -> Place:
    client: Any = stack.enter_context(redis_server(folder, fsync))
    return lambda key, value: client.set(key, json.dumps(value)), lambda key: json.loads(client.get(key))


def _postgres(folder: Path, stack: ExitStack) -> Place:
    connection = psycopg.connect(stack.enter_context(postgres_server(folder)).get_uri(), autocommit=True)
    stack.callback(connection.close)
    connection.execute("CREATE TABLE kv (k text PRIMARY KEY, v jsonb)")
    upsert = "INSERT INTO kv VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
    return (
        lambda key, value: connection.execute(upsert, (key, json.dumps(value))),
        lambda key: connection.execute("SELECT v FROM kv WHERE k = %s", (key,)).fetchone(),
    )


def _langgraph(folder: Path, stack: ExitStack) -> Place:
    connection = sqlite3.connect(folder / "langgraph.db", check_same_thread=False, isolation_level=None)
    stack.callback(connection.close)
    store = SqliteStore(connection)
    store.setup()
    return lambda key, value: store.put(("bench",), key, value), lambda key: store.get(("bench",), key)


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure setting, then getting."""
    with ExitStack() as stack:
        step("keys and values")
        open_ = {name: open_it() for name, open_it in places(folder, stack).items()}
        sets: dict[str, Callable[[int], Any]] = {
            name: lambda n, put=put: put(f"key-{n % KEYS}", {"text": PADDING, "number": n})
            for name, (put, _) in open_.items()
        }
        gets: dict[str, Callable[[int], Any]] = {
            name: lambda n, get=get: get(f"key-{n % KEYS}") for name, (_, get) in open_.items()
        }
        for what, calls, rounds in ("set", sets, 1000), ("get", gets, 3000):
            timings = in_turns(calls, rounds)
            for name in sorted(set(open_) - {"ours"}):
                yield faster(f"{what} a value", name, timings, None, name)
