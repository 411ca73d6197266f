"""`botwire.stores.engine.tables.Tables` on a SQLite connection: a statement a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from ...records import Entry, Message, Session
from ...values import Stored
from ..engine.account import SEQ_BITS, Account, NamespaceId
from ..engine.ranges import end_of
from ..engine.statements import load_queries
from ..engine.tables import EntryHead, SessionHead
from .search_tables import SqliteSearchTables

_SQL = load_queries(Path(__file__).parent / "sql" / "queries.sql")
_EVERYTHING = -1
"""SQLite's LIMIT for no limit."""


class SqliteTables(SqliteSearchTables):
    """The tables of a SQLite file.

    Args:
        execute: runs a statement on a connection.
    """

    # Queries

    def get_entry(self, namespace: str, key: str, now: int) -> Entry | None:
        for row in self._execute(_SQL["get_entry"], (namespace, key, now)).fetchall():
            return Entry(*row)
        return None

    def get_entries(self, namespace: str, keys: Sequence[str], now: int) -> list[Entry]:
        wanted = msgspec.json.encode(keys).decode()
        return [Entry(*row) for row in self._execute(_SQL["get_entries"], (namespace, wanted, now)).fetchall()]

    def list_keys(self, namespace: str, prefix: str, after: str, limit: int | None, now: int) -> list[str]:
        values = namespace, prefix, end_of(prefix), after, now, _limit(limit)
        return [key for (key,) in self._execute(_SQL["list_keys"], values).fetchall()]

    def list_entries(self, namespace: str, prefix: str, after: str, limit: int | None, now: int) -> list[Entry]:
        values = namespace, prefix, end_of(prefix), after, now, _limit(limit)
        return [Entry(*row) for row in self._execute(_SQL["list_entries"], values).fetchall()]

    def count_entries(self, namespace: str, prefix: str, now: int) -> int:
        values = namespace, prefix, end_of(prefix), now
        ((count,),) = self._execute(_SQL["count_entries"], values).fetchall()
        return cast("int", count)

    def find_session(self, namespace: str, name: str) -> tuple[int, int] | None:
        for row in self._execute(_SQL["find_session"], (namespace, name)).fetchall():
            return cast("tuple[int, int]", row)
        return None

    def session_name(self, session: int) -> str | None:
        for (name,) in self._execute(_SQL["session_name"], (session,)).fetchall():
            return cast("str", name)
        return None

    def list_messages(self, session: int, after: int, last: int, limit: int | None) -> list[Message]:
        start = session << SEQ_BITS
        values = start + after, start + last, _limit(limit)
        return [Message(*row) for row in self._execute(_SQL["messages_between"], values).fetchall()]

    def list_sessions(self, namespace: str, before: int, limit: int | None) -> list[Session]:
        rows = self._execute(_SQL["list_sessions"], (namespace, before, _limit(limit))).fetchall()
        return [Session(*row) for row in rows]

    def list_namespaces(self, after: str, limit: int | None) -> list[str]:
        return [name for (name,) in self._execute(_SQL["list_namespaces"], (after, _limit(limit))).fetchall()]

    def get_account(self, namespace: str) -> Account | None:
        for row in self._execute(_SQL["get_account"], (namespace,)).fetchall():
            return Account(*row)
        return None

    def get_version(self, namespace: str) -> int:
        for (version,) in self._execute(_SQL["get_version"], (namespace,)).fetchall():
            return cast("int", version)
        return 0

    def entry_version(self, namespace: str, key: str, now: int) -> int:
        for (version,) in self._execute(_SQL["entry_version"], (namespace, key, now)).fetchall():
            return cast("int", version)
        return 0

    def get_progress(self, namespace: str) -> tuple[int, int | None] | None:
        for row in self._execute(_SQL["get_progress"], (namespace,)).fetchall():
            return cast("tuple[int, int | None]", row)
        return None

    def get_journal(self, namespace: str) -> tuple[NamespaceId, int, str] | None:
        for row in self._execute(_SQL["get_journal"], (namespace,)).fetchall():
            return cast("tuple[NamespaceId, int, str]", row)
        return None

    def journal_blocks(self, namespace: NamespaceId, after: int, limit: int) -> list[tuple[int, str]]:
        return cast(
            "list[tuple[int, str]]", self._execute(_SQL["journal_blocks"], (namespace, after, limit)).fetchall()
        )

    # Transactions

    def savepoint(self) -> None:
        self._execute("SAVEPOINT write")

    def release(self) -> None:
        self._execute("RELEASE write")

    def undo(self) -> None:
        self._execute("ROLLBACK TO write; RELEASE write").fetchall()

    def new_account(self, namespace: str, day: int) -> NamespaceId:
        ((id_,),) = self._execute(_SQL["new_account"], (namespace, day)).fetchall()
        return cast("int", id_)

    def set_account(self, account: Account) -> None:
        values = (
            account.id, account.day, account.writes, account.bytes, account.version, account.expires, account.recent,
            account.pending, account.index_cursor, account.texts, account.words,
        )  # fmt: skip
        self._execute(_SQL["set_account"], values)

    def set_plan(self, namespace: NamespaceId, plan: str | None) -> None:
        self._execute(_SQL["set_plan"], (namespace, plan))

    def peek_entry(self, namespace: NamespaceId, key: str) -> EntryHead | None:
        for row in self._execute(_SQL["peek_entry"], (namespace, key)).fetchall():
            return cast("EntryHead", row)
        return None

    def peek_value(self, namespace: NamespaceId, key: str) -> Stored:
        ((stored,),) = self._execute(_SQL["peek_value"], (namespace, key)).fetchall()
        return cast("Stored", stored)

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
        self._execute(_SQL["put_entry"], (namespace, key, version, created, updated, expires, stored))

    def delete_entry(self, namespace: NamespaceId, key: str) -> None:
        self._execute(_SQL["delete_entry"], (namespace, key))

    def measure_entries(self, namespace: NamespaceId, prefix: str, now: int) -> tuple[int, int]:
        (row,) = self._execute(_SQL["measure_entries"], (namespace, prefix, end_of(prefix), now)).fetchall()
        return cast("tuple[int, int]", row)

    def delete_entries(self, namespace: NamespaceId, prefix: str) -> None:
        self._execute(_SQL["delete_entries"], (namespace, prefix, end_of(prefix)))

    def find_expired(self, namespace: NamespaceId, now: int, limit: int | None) -> list[tuple[str, int]]:
        rows = self._execute(_SQL["find_expired"], (namespace, now, _limit(limit))).fetchall()
        return cast("list[tuple[str, int]]", rows)

    def first_expiry(self, namespace: NamespaceId) -> int | None:
        ((expires,),) = self._execute(_SQL["first_expiry"], (namespace,)).fetchall()
        return cast("int | None", expires)

    def peek_session(self, namespace: NamespaceId, name: str) -> SessionHead | None:
        for row in self._execute(_SQL["peek_session"], (namespace, name)).fetchall():
            return cast("SessionHead", row)
        return None

    def new_session(self, namespace: NamespaceId, name: str, created: int) -> int:
        ((session,),) = self._execute(_SQL["new_session"], (namespace, name, created)).fetchall()
        return cast("int", session)

    def set_session(self, session: int, last: int, size: int, updated: int) -> None:
        self._execute(_SQL["set_session"], (session, last, size, updated))

    def delete_session(self, session: int) -> None:
        self._execute(_SQL["delete_session"], (session,))

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        self._execute(_SQL["add_message"], (session << SEQ_BITS | seq, session, id_, created, data))
        return self._changes() > 0

    def seq_of_message(self, session: int, id_: str) -> int:
        ((seq,),) = self._execute(_SQL["seq_of_message"], (session, id_)).fetchall()
        return cast("int", seq)

    def delete_messages(self, session: int, after: int, last: int) -> None:
        start = session << SEQ_BITS
        self._execute(_SQL["delete_messages"], (start + after, start + last))

    def find_response(self, namespace: NamespaceId, key: str) -> str | None:
        for (response,) in self._execute(_SQL["find_response"], (namespace, key)).fetchall():
            return cast("str", response)
        return None

    def save_response(self, namespace: NamespaceId, key: str, created: int, response: str) -> None:
        self._execute(_SQL["save_response"], (namespace, key, created, response))

    def purge_responses(self, before: int, limit: int) -> None:
        self._execute(_SQL["purge_responses"], (before, limit))

    def add_journal_block(self, namespace: NamespaceId, version: int, since: int, records: str, keep: int) -> None:
        added = self._execute(_SQL["add_journal_block"], (namespace, version, since, records)).fetchall()
        for (number,) in added:
            for oldest, first in self._execute(_SQL["oldest_journal_block"], (namespace,)).fetchall():
                if number - first >= keep:
                    self._execute(_SQL["drop_journal_blocks"], (namespace, oldest))

    # The clock of the file

    def get_clock(self) -> tuple[int, int]:
        """Return the latest time on disk, and how often the file's time was set back. A damaged file may have none."""
        for row in self._execute(_SQL["get_clock"]).fetchall():
            return cast("tuple[int, int]", row)
        return 0, 0

    def save_clock(self, now: int) -> int | None:
        """Save the latest time; returns how often the file's time was set back."""
        for (turns,) in self._execute(_SQL["save_clock"], (now,)).fetchall():
            return cast("int", turns)
        return None

    def set_back_clock(self, latest: int, wall: int, turns: int) -> None:
        """Remove what had expired by the latest time, in all namespaces, and continue from the wall clock's time."""
        for name in ("release_expired", "delete_expired", "expect_expiries"):
            self._execute(_SQL[name], (latest,))
        self._execute(_SQL["redate_responses"], (wall,))
        self._execute(_SQL["set_clock"], (wall, turns))


def _limit(limit: int | None) -> int:
    return _EVERYTHING if limit is None else limit
