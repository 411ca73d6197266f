"""`botwire.stores.engine.tables.ReadTables` in a PostgreSQL database: a statement a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import msgspec

from ...operations import Guard
from ...records import Entry, Message, Session
from ...search.embedding import numbers_of
from ...values import Stored
from ..engine.account import SEQ_BITS, Account, NamespaceId
from ..engine.tables import ReadTables, SessionHead, end_of
from .connection import Connection
from .statements import PLAN_MERGE, PLAN_ONCE, Row, Statement

_EVERYTHING = -1
"""What the statements treat as no limit."""


class Run(Protocol):
    """Runs a statement by its name. ``plan``: the statement that sets how it is planned."""

    def __call__(self, name: str, *values: object, plan: Statement = PLAN_ONCE) -> list[Row]:
        """Return the rows."""
        ...


class PostgresReads(ReadTables):
    """The reads of a namespace.

    Args:
        namespace: its name.
        run: runs statements. In a transaction on one snapshot, or not.
    """

    def __init__(self, namespace: str, run: Run) -> None:
        self._namespace = namespace
        self._statement = run

    def _run(self, name: str, *values: object, plan: Statement = PLAN_ONCE) -> list[Row]:
        return self._statement(name, *values, plan=plan)

    # Entries

    def get_entry(self, namespace: str, key: str, now: int) -> Entry | None:
        for row in self._run("get_entry", namespace, key, now):
            return _entry(row)
        return None

    def get_entries(self, namespace: str, keys: Sequence[str], now: int) -> list[Entry]:
        return [_entry(row) for row in self._run("get_entries", namespace, as_json(keys), now)]

    def list_keys(self, namespace: str, prefix: str, after: str, limit: int | None, now: int) -> list[str]:
        rows = self._run("list_keys", namespace, prefix, end_of(prefix), after, now, limit_of(limit))
        return [key for (key,) in rows]

    def list_entries(self, namespace: str, prefix: str, after: str, limit: int | None, now: int) -> list[Entry]:
        rows = self._run("list_entries", namespace, prefix, end_of(prefix), after, now, limit_of(limit))
        return [_entry(row) for row in rows]

    def count_entries(self, namespace: str, prefix: str, now: int) -> int:
        ((count,),) = self._run("count_entries", namespace, prefix, end_of(prefix), now)
        return cast("int", count)

    def entry_version(self, namespace: str, key: str, now: int) -> int:
        for (version,) in self._run("entry_version", namespace, key, now):
            return cast("int", version)
        return 0

    # Sessions

    def find_session(self, namespace: str, name: str) -> tuple[int, int] | None:
        for row in self._run("find_session", namespace, name):
            return cast("tuple[int, int]", row)
        return None

    def peek_session(self, namespace: NamespaceId, name: str) -> SessionHead | None:
        for row in self._run("peek_session", namespace, name):
            return cast("SessionHead", row)
        return None

    def session_name(self, session: int) -> str | None:
        for (name,) in self._run("session_name", self._namespace, session):
            return cast("str", name)
        return None

    def list_messages(self, session: int, after: int, last: int, limit: int | None) -> list[Message]:
        start = session << SEQ_BITS
        rows = self._run("messages_between", self._namespace, start + after, start + last, limit_of(limit))
        return [Message(*row) for row in rows]

    def list_sessions(self, namespace: str, before: int, limit: int | None) -> list[Session]:
        return [Session(*row) for row in self._run("list_sessions", namespace, before, limit_of(limit))]

    # Namespaces

    def list_namespaces(self, after: str, limit: int | None) -> list[str]:
        return [name for (name,) in self._run("list_namespaces", after, limit_of(limit))]

    def get_account(self, namespace: str) -> Account | None:
        for row in self._run("get_account", namespace):
            return Account(*row)
        return None

    def get_version(self, namespace: str) -> int:
        for (version,) in self._run("get_version", namespace):
            return cast("int", version)
        return 0

    def get_progress(self, namespace: str) -> tuple[int, int | None] | None:
        for row in self._run("get_progress", namespace):
            return cast("tuple[int, int | None]", row)
        return None

    def get_journal(self, namespace: str) -> tuple[NamespaceId, int, str] | None:
        for row in self._run("get_journal", namespace):
            return cast("tuple[NamespaceId, int, str]", row)
        return None

    def journal_blocks(self, namespace: NamespaceId, after: int, limit: int) -> list[tuple[int, str]]:
        return cast("list[tuple[int, str]]", self._run("journal_blocks", namespace, after, limit))

    # Search

    def count_texts(self, namespace: NamespaceId, terms: Sequence[str]) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._run("count_texts", namespace, as_json(terms)))

    def texts_with_each(
        self, namespace: NamespaceId, terms: Sequence[str], low: int, high: int
    ) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._run("texts_with_each", namespace, as_json(terms), low, high))

    def newest_texts_with(self, namespace: NamespaceId, term: str, low: int, high: int, limit: int) -> list[int]:
        return [text for (text,) in self._run("newest_texts_with", namespace, term, low, high, limit)]

    def newest_texts_with_both(
        self, namespace: NamespaceId, term: str, others: Sequence[str], low: int, high: int, limit: int
    ) -> list[int]:
        rows = self._run("newest_texts_with_both", namespace, term, as_json(others), low, high, limit)
        return [text for (text,) in rows]

    def texts_of_entries(self, namespace: NamespaceId, prefix: str, limit: int) -> list[int]:
        return [text for (text,) in self._run("texts_of_entries", namespace, prefix, end_of(prefix), limit)]

    def messages_at(self, namespace: NamespaceId, places: Sequence[int]) -> list[tuple[int, str, Message]]:
        rows = self._run("messages_at", namespace, as_json(places))
        return [(place, session, Message(*row)) for place, session, *row in rows]

    def entries_at(self, namespace: NamespaceId, texts: Sequence[int], now: int) -> list[tuple[int, Entry]]:
        return [(text, Entry(*row)) for text, *row in self._run("entries_at", namespace, as_json(texts), now)]

    def entries_named(self, namespace: NamespaceId, keys: Sequence[str], now: int) -> list[Entry]:
        return [_entry(row) for row in self._run("entries_named", namespace, as_json(keys), now)]

    def nearest_messages(
        self, namespace: NamespaceId, first: int, last: int, model: str, vector: bytes, limit: int
    ) -> list[tuple[int, float | None]]:
        rows = self._run("nearest_messages", namespace, first, last, model, f"[{numbers_of(vector)}]", limit)
        return cast("list[tuple[int, float | None]]", rows)

    def nearest_entries(
        self, namespace: NamespaceId, prefix: str, model: str, vector: bytes, limit: int, now: int
    ) -> list[tuple[str, float | None]]:
        numbers = f"[{numbers_of(vector)}]"
        rows = self._run("nearest_entries", namespace, prefix, end_of(prefix), model, numbers, limit, now)
        return cast("list[tuple[str, float | None]]", rows)

    def entries_without_vector(
        self, namespace: NamespaceId, model: str, after: str, limit: int, now: int
    ) -> list[tuple[str, int, Stored]]:
        rows = self._run("entries_without_vector", namespace, model, after, now, limit, plan=PLAN_MERGE)
        return cast("list[tuple[str, int, Stored]]", rows)

    def messages_without_vector(
        self, namespace: NamespaceId, model: str, after: int, limit: int
    ) -> list[tuple[int, str, str, int, str]]:
        values = namespace, model, after >> SEQ_BITS, after, limit
        rows = self._run("messages_without_vector", *values, plan=PLAN_MERGE)
        return cast("list[tuple[int, str, str, int, str]]", rows)


def limit_of(limit: int | None) -> int:
    """Return a limit as the statements take it."""
    return _EVERYTHING if limit is None else limit


def as_json(items: Sequence[object]) -> str:
    """Return a list as the statements take it."""
    return msgspec.json.encode(items).decode()


def _entry(row: Row) -> Entry:
    """Return the entry in a row that has the value as text or as bytes."""
    key, text, data, *rest = row
    return Entry(key, text if data is None else data, *rest)


def run_on(connection: Connection, *, in_transaction: bool = False) -> Run:
    """Return what runs the reads of `PostgresReads` on a connection. In a transaction, that decides how they are planned."""

    def run(name: str, *values: object, plan: Statement = PLAN_ONCE) -> list[Row]:
        planned = () if in_transaction else (plan,)
        *_, rows = connection.run_all((*planned, (name, values)))
        return rows

    return run


class GuardedRun:
    """As `run_on`, for a read that has a guard: each statement also returns the version of the guard's namespace."""

    def __init__(self, connection: Connection, guard: Guard) -> None:
        self._connection = connection
        self._guard = guard
        self._version: list[Row] = []

    def __call__(self, name: str, *values: object, plan: Statement = PLAN_ONCE) -> list[Row]:
        """Run a statement. The version is read after it."""
        version: Statement = ("get_version", (self._guard.namespace,))
        _, rows, self._version = self._connection.run_all((plan, (name, values), version))
        return rows

    def read_version(self) -> None:
        """Read the version now."""
        self._version = self._connection.run("get_version", self._guard.namespace)

    def holds(self, now: int) -> bool:
        """Whether the guard still held after the last statement."""
        version = self._version[0][0] if self._version else 0
        reads = PostgresReads(self._guard.namespace, run_on(self._connection))
        return reads.holds(self._guard, version, now)
