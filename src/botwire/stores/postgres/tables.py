"""`botwire.stores.engine.tables.ReadTables` in a PostgreSQL database: a statement a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from ...operations import Guard
from ...records import Entry, Message, Session
from ...search.embedding import numbers_of
from ...values import Stored
from ..engine import guards
from ..engine.account import SEQ_BITS, Account, NamespaceId
from ..engine.ranges import end_of
from ..engine.tables import SessionHead
from .connection import Connection
from .statements import Row, Statement, plan_of

T = TypeVar("T")

_EVERYTHING = -1
"""What the statements treat as no limit."""


class PostgresReads:
    """The reads of a namespace.

    Args:
        connection: where statements run.
        namespace: the name of the namespace.
        in_transaction: a transaction on one snapshot is open on the connection, and decides how statements are planned.
    """

    def __init__(self, connection: Connection, namespace: str, *, in_transaction: bool = False) -> None:
        self._connection = connection
        self._namespace = namespace
        self._in_transaction = in_transaction

    def _run(self, name: str, *values: object) -> list[Any]:
        """Run a statement and return its rows, tuples of the types in its SQL."""
        plan = () if self._in_transaction else (plan_of(name),)
        *_, rows = self._connection.run_all((*plan, (name, values)))
        return rows

    def _run_column(self, name: str, *values: object) -> list[Any]:
        """Run a statement whose rows have one column, and return that."""
        return [value for (value,) in self._run(name, *values)]

    # Entries

    def get_entry(self, namespace: str, key: str, now: int) -> Entry | None:
        row = first(self._run("get_entry", namespace, key, now))
        return None if row is None else _entry(row)

    def get_entries(self, namespace: str, keys: Sequence[str], now: int) -> list[Entry]:
        return [_entry(row) for row in self._run("get_entries", namespace, as_json(keys), now)]

    def list_keys(self, namespace: str, prefix: str, after: str, limit: int | None, now: int) -> list[str]:
        return self._run_column("list_keys", namespace, prefix, end_of(prefix), after, now, limit_of(limit))

    def list_entries(self, namespace: str, prefix: str, after: str, limit: int | None, now: int) -> list[Entry]:
        rows = self._run("list_entries", namespace, prefix, end_of(prefix), after, now, limit_of(limit))
        return [_entry(row) for row in rows]

    def count_entries(self, namespace: str, prefix: str, now: int) -> int:
        return number(self._run("count_entries", namespace, prefix, end_of(prefix), now))

    def entry_version(self, namespace: str, key: str, now: int) -> int:
        return number(self._run("entry_version", namespace, key, now))

    # Sessions

    def find_session(self, namespace: str, name: str) -> tuple[int, int] | None:
        return first(self._run("find_session", namespace, name))

    def peek_session(self, namespace: NamespaceId, name: str) -> SessionHead | None:
        return first(self._run("peek_session", namespace, name))

    def session_name(self, session: int) -> str | None:
        return first(self._run_column("session_name", self._namespace, session))

    def list_messages(self, session: int, after: int, last: int, limit: int | None) -> list[Message]:
        start = session << SEQ_BITS
        rows = self._run("messages_between", self._namespace, start + after, start + last, limit_of(limit))
        return [Message(*row) for row in rows]

    def list_sessions(self, namespace: str, before: int, limit: int | None) -> list[Session]:
        return [Session(*row) for row in self._run("list_sessions", namespace, before, limit_of(limit))]

    # Namespaces

    def list_namespaces(self, after: str, limit: int | None) -> list[str]:
        return self._run_column("list_namespaces", after, limit_of(limit))

    def get_account(self, namespace: str) -> Account | None:
        row = first(self._run("get_account", namespace))
        return None if row is None else Account(*row)

    def get_version(self, namespace: str) -> int:
        return number(self._run("get_version", namespace))

    def get_progress(self, namespace: str) -> tuple[int, int | None] | None:
        return first(self._run("get_progress", namespace))

    def get_journal(self, namespace: str) -> tuple[NamespaceId, int, str] | None:
        return first(self._run("get_journal", namespace))

    def journal_blocks(self, namespace: NamespaceId, after: int, limit: int) -> list[tuple[int, str]]:
        return self._run("journal_blocks", namespace, after, limit)

    # Search

    def count_texts(self, namespace: NamespaceId, terms: Sequence[str]) -> list[tuple[int, int]]:
        return self._run("count_texts", namespace, as_json(terms))

    def texts_with_each(
        self, namespace: NamespaceId, terms: Sequence[str], low: int, high: int
    ) -> list[tuple[int, int]]:
        return self._run("texts_with_each", namespace, as_json(terms), low, high)

    def newest_texts_with(self, namespace: NamespaceId, term: str, low: int, high: int, limit: int) -> list[int]:
        return self._run_column("newest_texts_with", namespace, term, low, high, limit)

    def newest_texts_with_both(
        self, namespace: NamespaceId, term: str, others: Sequence[str], low: int, high: int, limit: int
    ) -> list[int]:
        return self._run_column("newest_texts_with_both", namespace, term, as_json(others), low, high, limit)

    def texts_of_entries(self, namespace: NamespaceId, prefix: str, limit: int) -> list[int]:
        return self._run_column("texts_of_entries", namespace, prefix, end_of(prefix), limit)

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
        return self._run("nearest_messages", namespace, first, last, model, f"[{numbers_of(vector)}]", limit)

    def nearest_entries(
        self, namespace: NamespaceId, prefix: str, model: str, vector: bytes, limit: int, now: int
    ) -> list[tuple[str, float | None]]:
        numbers = f"[{numbers_of(vector)}]"
        return self._run("nearest_entries", namespace, prefix, end_of(prefix), model, numbers, limit, now)

    def entries_without_vector(
        self, namespace: NamespaceId, model: str, after: str, limit: int, now: int
    ) -> list[tuple[str, int, Stored]]:
        return self._run("entries_without_vector", namespace, model, after, now, limit)

    def messages_without_vector(
        self, namespace: NamespaceId, model: str, after: int, limit: int
    ) -> list[tuple[int, str, str, int, str]]:
        return self._run("messages_without_vector", namespace, model, after >> SEQ_BITS, after, limit)


class GuardedReads(PostgresReads):
    """Reads that rely on a guard: each statement also returns the version of the guard's namespace."""

    def __init__(self, connection: Connection, namespace: str, guard: Guard) -> None:
        super().__init__(connection, namespace)
        self._guard = guard
        self._version: Statement = ("get_version", (guard.namespace,))
        self._rows: list[Row] | None = None

    def _run(self, name: str, *values: object) -> list[Any]:
        _, rows, self._rows = self._connection.run_all((plan_of(name), (name, values), self._version))
        return rows

    def holds(self, now: int) -> bool:
        """Whether the guard held after the last statement; now, if none has run."""
        if self._rows is None:
            (self._rows,) = self._connection.run_all((self._version,))
        reads = PostgresReads(self._connection, self._guard.namespace)
        return guards.holds(reads, self._guard, number(self._rows), now)


def first(rows: Sequence[T]) -> T | None:
    """Return the first row, if there is one."""
    return rows[0] if rows else None


def number(rows: Sequence[Row]) -> int:
    """Return the number in the first row, 0 if there is no row."""
    return int(rows[0][0]) if rows else 0


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
