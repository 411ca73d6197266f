"""`botwire.stores.engine.tables.Tables` on a SQLite connection: a statement a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...records import Entry
from ...values import Stored
from ..engine.account import SEQ_BITS, Account, NamespaceId
from ..engine.statements import load_queries
from ..engine.tables import EntryHead, EntryVector, MessageVector, Tables, as_json, end_of

_FOLDER = Path(__file__).parent / "sql"
_SQL = load_queries(_FOLDER / "queries.sql") | load_queries(_FOLDER / "search.sql")
_GET_ENTRY, _PUT_ENTRY, _SET_ACCOUNT = _SQL["get_entry"], _SQL["put_entry"], _SQL["set_account"]
"""Statements of hot paths, which run without the helpers below: each call of Python counts."""


class SqliteTables(Tables):
    """The tables of a SQLite file.

    Args:
        execute: runs a statement on a connection.
        changes: returns how many rows the last statement changed.
    """

    def __init__(self, execute: Callable[..., Any], changes: Callable[[], int]) -> None:
        self._execute = execute
        self._changes = changes

    def _run(self, name: str, *values: object) -> list[Any]:
        rows: list[Any] = self._execute(_SQL[name], values).fetchall()
        return rows

    def _first(self, name: str, *values: object) -> Any | None:
        for row in self._execute(_SQL[name], values).fetchall():
            return row
        return None

    def _change(self, name: str, *values: object) -> None:
        """Run a statement that returns no rows."""
        self._execute(_SQL[name], values)

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

    # The account, idempotency keys and the journal

    def new_account(self, namespace: str, day: int) -> NamespaceId:
        ((id_,),) = self._run("new_account", namespace, day)
        return int(id_)

    def set_account(self, account: Account) -> None:
        values = (
            account.id, account.day, account.writes, account.bytes, account.version, account.expires, account.recent,
            account.pending, account.index_cursor, account.texts, account.words,
        )  # fmt: skip
        self._execute(_SET_ACCOUNT, values)

    def set_plan(self, namespace: NamespaceId, plan: str | None) -> None:
        self._change("set_plan", namespace, plan)

    def find_response(self, namespace: NamespaceId, key: str) -> str | None:
        return self._value("find_response", namespace, key)

    def save_response(self, namespace: NamespaceId, key: str, created: int, response: str) -> None:
        self._change("save_response", namespace, key, created, response)

    def purge_responses(self, before: int, limit: int) -> None:
        self._change("purge_responses", before, limit)

    def add_journal_block(self, namespace: NamespaceId, version: int, since: int, records: str, keep: int) -> None:
        for (number,) in self._run("add_journal_block", namespace, version, since, records):
            for oldest, first in self._run("oldest_journal_block", namespace):
                if number - first >= keep:
                    self._change("drop_journal_blocks", namespace, oldest)

    # Entries

    def peek_entry(self, namespace: NamespaceId, key: str) -> EntryHead | None:
        return self._first("peek_entry", namespace, key)

    def peek_value(self, namespace: NamespaceId, key: str) -> Stored:
        stored: Stored
        ((stored,),) = self._run("peek_value", namespace, key)
        return stored

    def put_entry(
        self,
        namespace: NamespaceId,
        key: str,
        version: int,
        created: int,
        updated: int,
        expires: int | None,
        stored: Stored,
    ) -> None:
        self._execute(_PUT_ENTRY, (namespace, key, version, created, updated, expires, stored))

    def delete_entry(self, namespace: NamespaceId, key: str) -> None:
        self._change("delete_entry", namespace, key)

    def delete_entries(self, namespace: NamespaceId, prefix: str) -> None:
        self._change("delete_entries", namespace, prefix, end_of(prefix))

    # Sessions

    def new_session(self, namespace: NamespaceId, name: str, created: int) -> int:
        ((session,),) = self._run("new_session", namespace, name, created)
        return int(session)

    def set_session(self, session: int, last: int, size: int, updated: int) -> None:
        self._change("set_session", session, last, size, updated)

    def delete_session(self, session: int) -> None:
        self._change("delete_session", session)

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        return self._count("add_message", session << SEQ_BITS | seq, session, id_, created, data) > 0

    def seq_of_message(self, session: int, id_: str) -> int:
        ((seq,),) = self._run("seq_of_message", session, id_)
        return int(seq)

    def delete_messages(self, session: int, after: int, last: int) -> None:
        start = session << SEQ_BITS
        self._change("delete_messages", start + after, start + last)

    # The word index

    def new_entry_text(self, namespace: NamespaceId, key: str, version: int) -> int:
        ((text,),) = self._run("new_entry_text", namespace, key, version)
        return int(text)

    def renew_entry_text(self, text: int, key: str, version: int) -> None:
        self._change("renew_entry_text", text, key, version)

    def add_text(self, namespace: NamespaceId, text: int, terms: str, *, replace: bool = False) -> None:
        self._change("replace_text" if replace else "add_text", namespace, text, terms)

    def delete_entry_text(self, text: int) -> int:
        deleted = self._count("delete_text", text)
        self._change("delete_entry_text", text)
        return deleted

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str) -> int:
        values = namespace, prefix, end_of(prefix)
        deleted = self._count("delete_texts_of_entries", *values)
        self._change("delete_entry_texts", *values)
        return deleted

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int:
        start = session << SEQ_BITS
        return self._count("delete_texts", start + after + 1, start + last)

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        names = "delete_some_entry_vectors", "delete_some_texts_of_entries", "delete_some_entry_texts"
        return max(self._count(name, namespace, limit) for name in names)

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        start = session << SEQ_BITS
        names = "delete_some_message_vectors", "delete_some_texts"
        return max(self._count(name, start, start + last, limit) for name in names)

    # Vectors

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[EntryVector], model: str) -> int:
        wanted = as_json([(key, version, vector.hex()) for key, version, vector in vectors])
        self._change("drop_entry_vectors", namespace, wanted)
        return self._count("keep_entry_vectors", namespace, wanted, model)

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[MessageVector], model: str) -> int:
        wanted = as_json([(session, id_, created, vector.hex()) for session, id_, created, vector in vectors])
        self._change("drop_message_vectors", namespace, wanted)
        return self._count("keep_message_vectors", namespace, wanted, model)

    def vector_bytes(self, namespace: NamespaceId) -> int:
        return self._value("vector_bytes", namespace) or 0

    # The clock of the file

    def get_clock(self) -> tuple[int, int]:
        """Return the latest time on disk, and how often the file's time was set back. A damaged file may have none."""
        return self._first("get_clock") or (0, 0)

    def save_clock(self, now: int) -> int | None:
        """Save the latest time; returns how often the file's time was set back."""
        return self._value("save_clock", now)

    def set_back_clock(self, latest: int, wall: int, turns: int) -> None:
        """Remove what had expired by the latest time, in all namespaces, and continue from the wall clock's time."""
        for name in ("release_expired", "delete_expired", "expect_expiries"):
            self._change(name, latest)
        self._change("redate_responses", wall)
        self._change("set_clock", wall, turns)
