"""`botwire.stores.engine.tables.Tables` on a SQLite connection: a statement a method."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...operations import Vector
from ...queries import weight, within
from ...records import Entry, Message
from ..engine.session_tables import Details
from ..engine.statements import load_queries
from ..engine.tables import (
    LAST_SEQ,
    LAST_SESSION,
    SEQ_BITS,
    EntryHead,
    EntryRow,
    NamespaceId,
    NamespaceState,
    SessionHead,
    Tables,
    as_json,
    end_of,
    place_of,
)

_FOLDER = Path(__file__).parent / "sql"
_SQL = load_queries(_FOLDER / "queries.sql") | load_queries(_FOLDER / "search.sql")
_GET_ENTRY, _PEEK_ENTRY = _SQL["get_entry"], _SQL["peek_entry"]
_PEEK_SESSION = _SQL["peek_session"]
_PUT_ENTRY, _SET_STATE = _SQL["put_entry"], _SQL["set_state"]
"""Statements of hot paths, which run without the helpers below: each call of Python counts."""
_POPPED_AT_ONCE = 4
"""Old rows of popped messages that one transaction removes: each may have 32 MiB."""


class SqliteTables(Tables):
    """The tables of a SQLite file.

    Args:
        execute: runs a statement, and ends the rows of the one before it.
        begin: runs a statement whose rows are fetched while others run.
        changes: returns how many rows the last statement changed.
    """

    def __init__(self, execute: Callable[..., Any], begin: Callable[..., Any], changes: Callable[[], int]) -> None:
        self._execute = execute
        self._begin = begin
        self._changes = changes
        self.known: dict[str, NamespaceState] = {}
        """The states of namespaces as the last commit of this connection left them."""
        self.sweep_due: float = 0

    def _run(self, name: str, *values: object) -> list[Any]:
        rows: list[Any] = self._execute(_SQL[name], values).fetchall()
        return rows

    def _run_within(self, room: int | None, column: int, name: str, *values: object) -> list[Any]:
        if room is None:
            return self._run(name, *values)
        cursor = self._begin(_SQL[name], values)
        try:
            return within(cursor, room, lambda row: weight(row[column]))
        finally:
            cursor.close()  # or a statement that has more rows would keep its snapshot

    def _first(self, name: str, *values: object) -> Any | None:
        for row in self._execute(_SQL[name], values).fetchall():
            return row
        return None

    def _count(self, name: str, *values: object) -> int:
        """Run a statement that returns no rows, and return how many it changed."""
        self._execute(_SQL[name], values)
        return self._changes()

    def get_entry(self, namespace: str, key: str, now: int) -> Entry | None:
        for row in self._execute(_GET_ENTRY, (namespace, key, now)).fetchall():
            return Entry(*row)
        return None

    def savepoint(self) -> None:
        self._execute("SAVEPOINT write")

    def release(self) -> None:
        self._execute("RELEASE write")

    def undo(self) -> None:
        self._execute("ROLLBACK TO write; RELEASE write").fetchall()

    def set_state(self, state: NamespaceState) -> None:
        values = (
            state.id, state.day, state.writes, state.bytes, state.version, state.expires, state.recent,
            state.pending, state.index_cursor, state.texts, state.words, state.sessions_due,
        )  # fmt: skip
        self._execute(_SET_STATE, values)

    def sweep_responses(self, before: int, limit: int) -> int:
        removed = self._count("purge_responses", before, limit)
        return max(removed, self._count("purge_popped", before, _POPPED_AT_ONCE) * limit // _POPPED_AT_ONCE)

    def add_journal_block(self, namespace: NamespaceId, version: int, since: int, records: str, keep: int) -> None:
        for (number,) in self._run("add_journal_block", namespace, version, since, records):
            for oldest, first in self._run("oldest_journal_block", namespace):
                if number - first >= keep:
                    self._run("drop_journal_blocks", namespace, oldest)

    def peek_session(self, namespace: NamespaceId, name: str) -> SessionHead | None:
        for row in self._execute(_PEEK_SESSION, (namespace, name)).fetchall():
            return SessionHead._make(row)
        return None

    def peek_entry(self, namespace: NamespaceId, key: str) -> EntryHead | None:
        for row in self._execute(_PEEK_ENTRY, (namespace, key)).fetchall():
            return row  # type: ignore[no-any-return]
        return None

    def put_entry(self, row: EntryRow) -> None:
        self._execute(_PUT_ENTRY, row)

    def new_session(self, namespace: NamespaceId, name: str, created: int, version: int) -> int:
        number = int(self._one("new_session", namespace, name, created, version))
        if number <= LAST_SESSION:
            return number
        # The row keeps counting in the column's 63 bits. Numbers that were used longest ago come first.
        first = number & LAST_SESSION
        free = self._free_number("free_session", first, LAST_SESSION)
        self._run("renumber_session", number, free)
        self._run("set_last_session", number + (free - first) % (LAST_SESSION + 1))
        return free

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        return self._count("add_message", session << SEQ_BITS | seq, session, id_, created, data) > 0

    def get_summary(self, namespace: NamespaceId, session: int) -> tuple[int, str] | None:
        del namespace
        return self._first("get_summary", session)

    def newest_messages(
        self, namespace: NamespaceId, session: int, after: int, last: int, room: int | None
    ) -> list[Message]:
        del namespace
        values = place_of(session, after), place_of(session, last)
        return [Message(*row) for row in self._run_within(room, 2, "newest_messages", *values)][::-1]

    def set_session_version(self, session: int, version: int) -> None:
        self._run("set_session_version", session, version)

    def set_session_expiry(self, session: int, expires: int | None) -> None:
        self._run("set_session_expiry", session, expires)

    def rename_session(self, namespace: NamespaceId, session: int, name: str) -> None:
        self._run("rename_session", namespace, session, name)

    def settle_sessions(self, namespace: NamespaceId, ids: str, names: str) -> None:
        self._run("settle_sessions", namespace, ids, names)

    def peek_message(self, session: int, seq: int) -> tuple[str, int, int | None, int] | None:
        return self._first("peek_message", place_of(session, seq))

    def edit_message(self, session: int, seq: int, data: str, edited: int, redacted: str | None) -> None:
        self._run("edit_message", place_of(session, seq), data, edited, redacted)

    def mark_edited(self, session: int, seq: int, edited: int | None, redacted: str | None) -> None:
        self._run("mark_edited", place_of(session, seq), edited, redacted)

    def measure_messages(self, session: int, after: int, last: int) -> tuple[int, int]:
        return self._first("measure_messages", place_of(session, after), place_of(session, last)) or (0, 0)

    def copy_messages(self, source: int, target: int, last: int) -> None:
        start = place_of(source, 0)
        self._run("copy_messages", start, place_of(source, last), place_of(target, 0) - start, target)

    def get_details(self, namespace: NamespaceId, session: int) -> Details | None:
        row = self._first("get_details", namespace, session)
        return None if row is None else Details(*row)

    def put_details(self, namespace: NamespaceId, session: int, details: Details) -> None:
        del namespace
        self._run("set_owner", session, details.owner)
        if details.is_empty:
            self._run("delete_details", session)
        else:
            version, _, *others = details
            self._run("put_details", session, version, *others)

    def set_retention(self, namespace: NamespaceId, retention: str | None) -> None:
        self._run("set_retention", namespace, retention)

    def empty_namespace(self, namespace: NamespaceId, version: int) -> None:
        for name in ("forget_responses", "forget_popped", "forget_changes", "forget_entry_texts"):
            self._run(name, namespace)
        self._run("mark_destroyed", namespace, version)

    def new_entry_text(self, namespace: NamespaceId, key: str, version: int) -> int:
        text = int(self._one("new_entry_text", namespace, key, version))
        if text <= LAST_SEQ:
            return text
        free = self._free_number("free_entry_text", random.randrange(LAST_SEQ), LAST_SEQ)  # noqa: S311
        self._run("renumber_entry_text", text, free)
        return free

    def delete_entry_text(self, text: int) -> int:
        deleted = self._count("delete_text", text)
        self._run("delete_entry_text", text)
        return deleted

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> int:
        values = namespace, prefix, end or end_of(prefix)
        deleted = self._count("delete_texts_of_entries", *values)
        self._run("delete_entry_texts", *values)
        return deleted

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int:
        return self._count("delete_texts", place_of(session, after + 1), place_of(session, last))

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        names = "delete_some_entry_vectors", "delete_some_texts_of_entries", "delete_some_entry_texts"
        return max(self._count(name, namespace, limit) for name in names)

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        names = "delete_some_message_vectors", "delete_some_texts"
        return max(self._count(name, place_of(session, 0), place_of(session, last), limit) for name in names)

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        wanted = as_json([(item.key, item.version, item.vector.hex()) for item in vectors])
        self._run("drop_entry_vectors", namespace, wanted)
        return self._count("keep_entry_vectors", namespace, wanted, model)

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        wanted = as_json([(item.session, item.id, item.version, item.vector.hex()) for item in vectors])
        self._run("drop_message_vectors", namespace, wanted)
        return self._count("keep_message_vectors", namespace, wanted, model)

    # The clock of the file

    def get_clock(self) -> tuple[int, int]:
        """Return the latest time on disk, and how often the file's time was set back. A damaged file may have none."""
        return self._first("get_clock") or (0, 0)

    def save_clock(self, now: int) -> int | None:
        """Save the latest time; returns how often the file's time was set back."""
        return self._value("save_clock", now)

    def set_back_clock(self, latest: int, wall: int, turns: int, plans: str | None) -> None:
        """Remove what had expired by the latest time, in all namespaces, and continue from the wall clock's time.

        ``plans`` are the limits of the plans, as `retention.idle_of_plans` returns them.
        """
        for name in ("release_expired", "delete_expired", "expect_expiries", "end_sessions"):
            self._run(name, latest)
        self._run("end_ruled_sessions", latest, plans)
        self._run("expect_ended_sessions")
        self.sweep_due = 0
        for name in ("redate_responses", "redate_popped"):
            self._run(name, wall)
        self._run("set_clock", wall, turns)
