"""Compare chat histories: add one message durably, and read 10, 1,000 and 100,000 messages."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import psycopg
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, messages_from_dict, messages_to_dict

from botwire import BotWireChatHistory

from .measure import Row, Timing, faster, in_turns, row
from .services import postgres_server, redis_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from agents import SQLiteSession
    from langchain_community.chat_message_histories import (
        FileChatMessageHistory,
        RedisChatMessageHistory,
        SQLChatMessageHistory,
    )
    from langchain_postgres import PostgresChatMessageHistory
    from langgraph.store.base import PutOp
    from langgraph.store.sqlite import SqliteStore

LONG = 100_000


class History(NamedTuple):
    """Calls that add one numbered message, read all messages, and add many messages at once."""

    add: Callable[[int], Any]
    read: Callable[[], Any]
    fill: Callable[[Sequence[int]], Any]


RETURNS_LANGCHAIN = {
    "SQLChatMessageHistory",
    "FileChatMessageHistory",
    "Redis, always",
    "Redis, everysec",
    "PostgreSQL",
}


def message(number: int) -> BaseMessage:
    """Return a message with a unique text."""
    kind = AIMessage if number % 2 else HumanMessage
    return kind(f"message {number} " + "x" * 160)


def histories(folder: Path, stack: ExitStack, session: str) -> dict[str, Callable[[], History]]:
    """Return a function that opens each history, by name."""
    community = f"sqlite:///{folder}/community.db"
    return {
        "ours": lambda: _langchain(BotWireChatHistory(session, url=f"sqlite:///{folder}/ours.db")),
        "bare": lambda: _bare(folder, session),
        "SQLChatMessageHistory": lambda: _langchain(SQLChatMessageHistory(session, connection=community)),
        "FileChatMessageHistory": lambda: _langchain(FileChatMessageHistory(str(folder / f"{session}.json"))),
        "Redis, always": lambda: _langchain(_redis(folder, stack, session, "always")),
        "Redis, everysec": lambda: _langchain(_redis(folder, stack, session, "everysec")),
        "PostgreSQL": lambda: _langchain(_postgres(folder, stack)),
        "openai-agents SQLiteSession": lambda: _agents(folder, session),
        "langgraph SqliteStore": lambda: _langgraph(folder, stack, session),
    }


def run(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure adding and reading, in new sessions and in one of 100,000 messages."""
    for count in (10, 1000):
        with ExitStack() as stack:
            step(f"chat histories, {count} messages")
            # FileChatMessageHistory writes the whole file for every message.
            open_ = _opened(folder / str(count), stack, set() if count == 10 else {"FileChatMessageHistory"})
            adds = in_turns({name: history.add for name, history in open_.items()}, count)
            if count > 10:
                yield from _adds("add a message", adds)
            yield from _reads(open_, count, 60)
    with ExitStack() as stack:
        open_ = _opened(folder / str(LONG), stack, {"FileChatMessageHistory", "bare"})
        for name, history in open_.items():
            for start in range(0, LONG, 5_000):
                step(f"{start:,} of {LONG:,} messages for {name}")
                history.fill(range(start, start + 5_000))
        step(f"chat histories, {LONG:,} messages")
        adds = in_turns({name: lambda n, add=history.add: add(LONG + n) for name, history in open_.items()}, 300)
        yield from _adds(f"add a message to {LONG:,}", adds)
        yield from _reads(open_, LONG, 3)


def _opened(folder: Path, stack: ExitStack, without: set[str]) -> dict[str, History]:
    folder.mkdir()
    known = histories(folder, stack, "session")
    return {name: open_it() for name, open_it in known.items() if name not in without}


def _adds(what: str, adds: dict[str, Timing]) -> Iterator[Row]:
    if "bare" in adds:
        yield row(what, "bare apsw insert of its JSON", adds, 1.3, "bare")
    bars = {"SQLChatMessageHistory": 3.0, "Redis, always": 1.0}
    for name in sorted(set(adds) - {"ours", "bare"}):
        yield faster(what, name, adds, bars.get(name), name)


def _reads(open_: dict[str, History], count: int, rounds: int) -> Iterator[Row]:
    reads: dict[str, Callable[[int], Any]] = {
        name: lambda _, read=history.read: read() for name, history in open_.items() if name != "bare"
    }
    stored = messages_to_dict([message(number) for number in range(count)])
    reads["building alone"] = lambda _: messages_from_dict(stored)
    timings = in_turns(reads, rounds, turn=min(3, rounds))
    what = f"read {count:,} messages"
    yield row(what, "LangChain building them from dicts", timings, 1.15 if count > 10 else None, "building alone")
    for name in sorted(set(reads) - {"ours", "building alone"}):
        yield faster(what, name, timings, 1.0 if name in RETURNS_LANGCHAIN else None, name)


def _langchain(history: Any) -> History:
    return History(
        lambda number: history.add_message(message(number)),
        lambda: history.messages,
        lambda numbers: history.add_messages([message(number) for number in numbers]),
    )


def _bare(folder: Path, session: str) -> History:
    connection = apsw.Connection(str(folder / "bare.db"))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").fetchall()
    connection.execute("CREATE TABLE m (session TEXT, seq INTEGER, v TEXT, PRIMARY KEY (session, seq)) WITHOUT ROWID")
    insert = "INSERT INTO m SELECT ?1, coalesce(max(seq), 0) + 1, ?2 FROM m WHERE session = ?1"
    text = '{"type":"human","data":{"type":"human","content":"message %d ' + "x" * 160 + '"}}'
    return History(lambda number: connection.execute(insert, (session, text % number)), lambda: None, lambda _: None)


def _redis(folder: Path, stack: ExitStack, session: str, fsync: str) -> Any:
    client = stack.enter_context(redis_server(folder, fsync))
    return RedisChatMessageHistory(session, f"redis://localhost:{client.connection_pool.connection_kwargs['port']}/0")


def _postgres(folder: Path, stack: ExitStack) -> Any:
    connection = psycopg.connect(stack.enter_context(postgres_server(folder)).get_uri())
    stack.callback(connection.close)
    PostgresChatMessageHistory.create_tables(connection, "messages")
    place = "00000000-0000-4000-8000-000000000001"
    return PostgresChatMessageHistory("messages", place, sync_connection=connection)


def _agents(folder: Path, session: str) -> History:
    history = SQLiteSession(session, folder / "agents.db")
    loop = asyncio.new_event_loop()

    def fill(numbers: Sequence[int]) -> None:
        items: Any = [{"role": "user", "content": f"message {number} " + "x" * 160} for number in numbers]
        loop.run_until_complete(history.add_items(items))

    return History(lambda number: fill([number]), lambda: loop.run_until_complete(history.get_items()), fill)


def _langgraph(folder: Path, stack: ExitStack, session: str) -> History:
    connection = sqlite3.connect(folder / "langgraph.db", check_same_thread=False, isolation_level=None)
    stack.callback(connection.close)
    store = SqliteStore(connection)
    store.setup()

    def item(number: int) -> tuple[tuple[str, ...], str, dict[str, Any]]:
        return (session,), f"{number:06}", {"type": "human", "content": f"{number} " + "x" * 160}

    return History(
        lambda number: store.put(*item(number)),
        lambda: store.search((session,), limit=2 * LONG),
        lambda numbers: store.batch([PutOp(*item(number)) for number in numbers]),
    )
