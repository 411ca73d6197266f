"""The reads of a namespace in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...operations import Guard
from ...queries import weight, within
from ...records import Entry, Message
from ...search.embedding import numbers_of
from ..engine.tables import SEQ_BITS, NamespaceId, ReadTables, limit_of
from .connection import Connection
from .statements import Row, Statement, plan_of

_EVERYTHING = 2**63 - 1


class PostgresReads(ReadTables):
    """The reads of a namespace.

    ``begin``: statements that begin a transaction and decide how all reads are planned. They are sent with the first read.
    """

    def __init__(self, connection: Connection, namespace: str, *, begin: Sequence[Statement] = ()) -> None:
        self._connection = connection
        self._namespace = namespace
        self._begin = begin
        self._in_transaction = bool(begin)

    def _run(self, name: str, *values: object) -> list[Any]:
        *_, rows = self._connection.run_all((*self._plan(name), (name, values)))
        return rows

    def _plan(self, name: str) -> Sequence[Statement]:
        """Return what is sent before a statement: how it is planned, unless that is decided for the whole transaction."""
        plan = self._begin if self._in_transaction else (plan_of(name),)
        self._begin = ()
        return plan

    def _run_within(self, room: int | None, column: int, name: str, *values: object) -> list[Any]:
        if room is None:
            return self._run(name, *values, _EVERYTHING)
        # The statement stops where the rows fill the room in any case: a str takes at least half of the bytes of its UTF-8.
        rows = self._run(name, *values, max(room, 1))
        return within(rows, room, lambda row: weight(row[column] if row[column] is not None else row[column + 1]))

    def _entry(self, row: Sequence[Any]) -> Entry:
        key, text, data, *rest = row
        return Entry(key, text if data is None else data, *rest)

    def _vector(self, vector: bytes) -> object:
        return f"[{numbers_of(vector)}]"

    def list_messages(
        self, session: int, after: int, last: int, limit: int | None, room: int | None = None
    ) -> list[Message]:
        start = session << SEQ_BITS
        values = self._namespace, start + after, start + last, limit_of(limit)
        return [Message(*row) for row in self._run_within(room, 2, "messages_between", *values)]

    def newest_messages(
        self, namespace: NamespaceId, session: int, after: int, last: int, room: int | None
    ) -> list[Message]:
        start = session << SEQ_BITS
        rows = self._run_within(room, 2, "newest_messages", namespace, start + after, start + last)
        return [Message(*row) for row in reversed(rows)]


class GuardedReads(PostgresReads):
    """Reads that rely on a guard: each statement also returns the version of the guard's namespace."""

    def __init__(
        self, connection: Connection, namespace: str, guard: Guard, *, begin: Sequence[Statement] = ()
    ) -> None:
        super().__init__(connection, namespace, begin=begin)
        self._guard = guard
        self._version: Statement = ("get_version", (guard.namespace,))
        self._rows: list[Row] | None = None

    def _run(self, name: str, *values: object) -> list[Any]:
        *_, rows, self._rows = self._connection.run_all((*self._plan(name), (name, values), self._version))
        return rows

    def guard_holds(self, now: int) -> bool:
        """Whether the guard held after the last statement; now, if none has run."""
        if self._rows is None:
            (self._rows,) = self._connection.run_all((self._version,))
        version = self._rows[0][0] if self._rows else 0
        return PostgresReads(self._connection, self._guard.namespace).holds(self._guard, version, now)
