"""Keys and values beside other stores, in one process: a durable set and a get."""

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
"""What sets and what gets a value."""


def places(folder: Path, stack: ExitStack) -> dict[str, Place]:
    """Return every place, open and empty, by its name."""
    memory = stack.enter_context(Memory("bench", f"sqlite:///{folder}/ours.db"))
    cache = stack.enter_context(diskcache.Cache(str(folder / "diskcache"), sqlite_synchronous=2))
    always = stack.enter_context(redis_server(folder, "always"))
    everysec = stack.enter_context(redis_server(folder, "everysec"))
    connection = psycopg.connect(stack.enter_context(postgres_server(folder)).get_uri(), autocommit=True)
    stack.callback(connection.close)
    connection.execute("CREATE TABLE kv (k text PRIMARY KEY, v jsonb)")
    upsert = "INSERT INTO kv VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
    langgraph = sqlite3.connect(folder / "langgraph.db", check_same_thread=False, isolation_level=None)
    stack.callback(langgraph.close)
    store = SqliteStore(langgraph)
    store.setup()
    return {
        "ours": (memory.set, memory.get),
        "diskcache, synchronous=FULL": (cache.set, cache.get),
        "redis-py, always": (
            lambda key, value: always.set(key, json.dumps(value)),
            lambda key: json.loads(always.get(key)),  # type: ignore[arg-type]
        ),
        "redis-py, everysec": (
            lambda key, value: everysec.set(key, json.dumps(value)),
            lambda key: json.loads(everysec.get(key)),  # type: ignore[arg-type]
        ),
        "PostgreSQL, psycopg": (
            lambda key, value: connection.execute(upsert, (key, json.dumps(value))),
            lambda key: connection.execute("SELECT v FROM kv WHERE k = %s", (key,)).fetchone(),
        ),
        "langgraph SqliteStore": (
            lambda key, value: store.put(("bench",), key, value),
            lambda key: store.get(("bench",), key),
        ),
    }


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure setting, then getting."""
    with ExitStack() as stack:
        step("keys and values")
        open_ = places(folder, stack)
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
