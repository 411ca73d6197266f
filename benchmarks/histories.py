"""Chat histories beside each other: add one message durably, read ten and a thousand back."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import psycopg
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, messages_from_dict, messages_to_dict

from botwire import BotWireChatHistory

from .measure import Row, faster, in_turns, row
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
    from langgraph.store.sqlite import SqliteStore

History = tuple[Callable[[int], Any], Callable[[], Any]]
"""What adds a message with a number in it, and what reads all of them."""

RETURNS_LANGCHAIN = {
    "SQLChatMessageHistory",
    "FileChatMessageHistory",
    "Redis, always",
    "Redis, everysec",
    "PostgreSQL",
}


def message(number: int) -> BaseMessage:
    """Return a message that no other has the text of."""
    kind = AIMessage if number % 2 else HumanMessage
    return kind(f"message {number} " + "x" * 160)


def histories(folder: Path, stack: ExitStack, session: str) -> dict[str, Callable[[], History]]:
    """Return what opens each history, by its name."""
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
    """Measure adding and reading."""
    for count in (10, 1000):
        with ExitStack() as stack:
            step(f"chat histories, {count} messages")
            known = histories(_made(folder / f"histories-{count}"), stack, "session")
            if count > 10:
                del known["FileChatMessageHistory"]  # it writes the whole file for every message
            open_ = {name: open_it() for name, open_it in known.items()}
            adds = in_turns({name: add for name, (add, _) in open_.items()}, count)
            if count > 10:
                yield row("add a message", "bare apsw insert of its JSON", adds, 1.3, "bare")
                yield faster("add a message", "SQLChatMessageHistory (SQLite)", adds, 3.0, "SQLChatMessageHistory")
                yield faster("add a message", "RedisChatMessageHistory, always", adds, 1.0, "Redis, always")
                for name in sorted(set(open_) - {"ours", "bare", "SQLChatMessageHistory", "Redis, always"}):
                    yield faster("add a message", name, adds, None, name)
            reads: dict[str, Callable[[int], Any]] = {
                name: lambda _, read=read: read() for name, (_, read) in open_.items() if name != "bare"
            }
            stored = messages_to_dict([message(number) for number in range(count)])
            reads["building alone"] = lambda _, stored=stored: messages_from_dict(stored)
            timings = in_turns(reads, 60, turn=3)
            what = f"read {count:,} messages"
            yield row(
                what, "LangChain building them from dicts", timings, 1.15 if count > 10 else None, "building alone"
            )
            for name in sorted(set(reads) - {"ours", "building alone"}):
                yield faster(what, name, timings, 1.0 if name in RETURNS_LANGCHAIN else None, name)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _langchain(history: Any) -> History:
    return lambda number: history.add_message(message(number)), lambda: history.messages


def _bare(folder: Path, session: str) -> History:
    connection = apsw.Connection(str(folder / "bare.db"))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").fetchall()
    connection.execute("CREATE TABLE m (session TEXT, seq INTEGER, v TEXT, PRIMARY KEY (session, seq)) WITHOUT ROWID")
    insert = "INSERT INTO m SELECT ?1, coalesce(max(seq), 0) + 1, ?2 FROM m WHERE session = ?1"
    text = '{"type":"human","data":{"type":"human","content":"message %d ' + "x" * 160 + '"}}'
    return lambda number: connection.execute(insert, (session, text % number)), lambda: None


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
    item = lambda number: [{"role": "user", "content": f"message {number} " + "x" * 160}]  # noqa: E731
    return (
        lambda number: loop.run_until_complete(history.add_items(item(number))),  # type: ignore[arg-type]
        lambda: loop.run_until_complete(history.get_items()),
    )


def _langgraph(folder: Path, stack: ExitStack, session: str) -> History:
    connection = sqlite3.connect(folder / "langgraph.db", check_same_thread=False, isolation_level=None)
    stack.callback(connection.close)
    store = SqliteStore(connection)
    store.setup()
    return (
        lambda number: store.put((session,), f"{number:06}", {"type": "human", "content": f"{number} " + "x" * 160}),
        lambda: store.search((session,), limit=1000),
    )
