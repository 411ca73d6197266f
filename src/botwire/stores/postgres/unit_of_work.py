"""A transaction on one namespace that reads in one round trip and writes in another.

`Transaction` reads and changes row by row, which costs nothing in SQLite. Over a network each statement would be a round trip.
So a unit of work reads in bulk, at its beginning, the rows that a group of writes may ask for. It answers from them, keeps the
changes, and writes them back with one statement a table (M. Fowler, Patterns of Enterprise Application Architecture, "Unit of
Work"). What it cannot answer from memory runs in the database, after the changes so far.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ...operations import Write
from ...search.embedding import numbers_of
from ...values import Stored, size
from ..engine.account import NOT_BEGUN, SEQ_BITS, Account, NamespaceId, place_of
from ..engine.journal import BLOCKS
from ..engine.tables import EntryHead, EntryVector, MessageVector, SessionHead, Tables, end_of
from .connection import Connection
from .prefetch import Prefetch
from .statements import PLAN_ONCE, Row, Statement
from .tables import PostgresReads, as_json, limit_of

_MISSING: Any = object()


class NotAlone(Exception):
    """A write of a group must run a statement in the database, which cannot undo that write alone. It needs its own transaction."""


class Unit(PostgresReads, Tables):
    """One transaction, as `botwire.stores.engine.tables.Tables`. `begin` it, apply writes, `commit` it.

    Args:
        connection: no transaction is open on it.
        namespace: the namespace of all writes.
        writes: all that will be applied.
        new_ids: assume that no message of the writes exists yet, as is nearly always so. If one does, the commit fails with a
            ``UniqueViolation``, and must be repeated without this.
    """

    def __init__(
        self, connection: Connection, namespace: str, writes: Sequence[Write] = (), *, new_ids: bool = True
    ) -> None:
        super().__init__(namespace, self._read)
        self._connection = connection
        self.time = 0
        """The server's time when the transaction began, in microseconds."""
        self.asked = 0.0
        """When the server was asked for it, on `time.monotonic`."""
        self._wanted = Prefetch(writes, new_ids=new_ids)
        self._guarded = {write.guard.namespace for write in writes if write.guard is not None} - {namespace}
        self._versions: dict[str, int] = {}
        self._account: Account | None = None
        self._changed_account: Account | None = None
        self._sessions_ever = self._entry_texts_ever = 0
        self._has_vectors = False
        # What can be undone; None: no savepoint.
        self._undo_log: list[tuple[dict[Any, Any], Any, Any]] | None = None
        self._purge: tuple[int, int] | None = None
        # What there is, with the changes so far. None: the row does not exist.
        self._entries: dict[str, EntryHead | None] = {}
        self._values: dict[str, Stored] = {}
        self._sessions: dict[str, SessionHead | None] = {}
        self._names: dict[int, str] = {}
        self._seqs: dict[tuple[int, str], int] = {}
        self._responses: dict[str, str] = {}
        self._fetched = False
        # The changes.
        self._new_entries: dict[str, dict[str, Any] | None] = {}
        self._new_sessions: dict[str, dict[str, Any]] = {}
        self._new_messages: dict[int, dict[str, Any]] = {}
        self._new_responses: dict[str, dict[str, Any]] = {}
        self._new_texts: dict[int, dict[str, Any] | None] = {}
        self._new_blocks: list[dict[str, Any]] = []

    def begin(self, seconds: float, key: str | None = None) -> bool:
        """Begin the transaction and lock the namespace. Returns whether a transaction with this key was committed.

        Args:
            seconds: how long a statement may take.
            key: the key with which an earlier attempt called `save_response`.
        """
        begin: list[Statement] = [("begin", ()), ("limit_times", (str(max(1, int(seconds * 1000))),))]
        # Guards first: a transaction that holds an account must not wait for them.
        if self._namespace < " ":  # a system namespace, on which guards rely
            begin.append(("change_guarded", ()))
        elif self._guarded:
            begin.append(("rely_on_guards", ()))
            begin += [("get_version", (namespace,)) for namespace in self._guarded]
        begin.append(("lock_account", (self._namespace,)))
        if key is not None:
            begin.append(("fetch_responses", (self._namespace, as_json([key]))))
        fetches = self._wanted.statements(self._namespace)
        rows = self._connection.run_all([*begin, *fetches])
        self.asked = self._connection.asked
        is_committed = False
        for (name, values), found in zip(begin, rows, strict=False):
            if name == "limit_times":
                self.time = found[0][-1]
            elif name == "get_version":
                self._versions[cast("str", values[0])] = found[0][0] if found else 0
            elif name == "lock_account" and found:
                *account, self._sessions_ever, self._entry_texts_ever = found[0]
                self._account = Account(*account)
                self._has_vectors = self._account.vectors > 0
            elif name == "fetch_responses":
                is_committed = bool(found)
        self._take_in(fetches, rows[len(begin) :])
        return is_committed

    def commit(self) -> bool:
        """Write everything; it is on disk when this returns. Returns whether any process listens for changes."""
        statements = self._changes()
        account = self._changed_account
        if account is not None:
            name = "add_account" if self._account is None else "set_account"
            # First: if two clients create a namespace, the second fails before it waits for anything else.
            statements.insert(0, (name, self._account_row(account)))
        self._connection.committing = True
        *_, ready, _ = self._connection.run_all([*statements, ("get_ready_to_commit", ()), ("commit", ())])
        self._connection.committing = False
        ((_, is_listened_to),) = ready
        return bool(is_listened_to)

    def _account_row(self, account: Account) -> Row:
        return (
            self._namespace, account.day, account.writes, account.bytes, account.version, account.expires, account.recent,
            account.pending, account.index_cursor, account.texts, account.words, self._sessions_ever,
            self._entry_texts_ever,
        )  # fmt: skip

    # In the database

    def _read(self, name: str, *values: object, plan: Statement = PLAN_ONCE) -> list[Row]:
        """Read in the database, which knows the changes so far."""
        del plan  # set for the whole transaction
        return self._execute((name, values))

    def _execute(self, *statements: Statement) -> list[Row]:
        """Run statements after the changes so far, and return the rows of the last."""
        if self._undo_log is not None:
            raise NotAlone
        *_, rows = self._connection.run_all([*self._changes(), *statements])
        return rows

    def _change_rows(self, *statements: Statement) -> list[Row]:
        """As `_execute`, for statements that change rows which were fetched."""
        rows = self._execute(*statements)
        self._fetched = False
        return rows

    def _fetch(self) -> None:
        if not self._fetched:
            changes, fetches = self._changes(), self._wanted.statements(self._namespace)
            rows = self._connection.run_all([*changes, *fetches])
            self._take_in(fetches, rows[len(changes) :])

    def _take_in(self, fetches: Sequence[Statement], found: Sequence[Sequence[Row]]) -> None:
        self._entries = dict.fromkeys(self._wanted.keys)
        self._sessions = dict.fromkeys(self._wanted.sessions)
        self._values, self._names, self._seqs, self._responses = {}, {}, {}, {}
        for (name, _), rows in zip(fetches, found, strict=True):
            _TAKE_IN[name](self, rows)
        self._fetched = True

    def _take_entries(self, rows: Sequence[Row]) -> None:
        self._entries.update(
            (key, (version, created, expires, length)) for key, version, created, expires, length in rows
        )

    def _take_values(self, rows: Sequence[Row]) -> None:
        self._values.update((key, text if data is None else data) for key, text, data in rows)

    def _take_sessions(self, rows: Sequence[Row]) -> None:
        self._sessions.update((name, (session, last, held)) for name, session, last, held in rows)
        self._names.update((session, name) for name, session, *_ in rows)

    def _take_messages(self, rows: Sequence[Row]) -> None:
        self._seqs.update(((session, message_id), seq) for session, message_id, seq in rows)

    def _take_responses(self, rows: Sequence[Row]) -> None:
        self._responses.update((key, response) for key, response in rows)

    def _changes(self) -> list[Statement]:
        """Return the statements that write the changes so far, and clear these."""
        puts = [row for row in self._new_entries.values() if row is not None]
        drops = [key for key, row in self._new_entries.items() if row is None]
        changes: list[tuple[str, list[Any]]] = [
            ("drop_texts", [text for text, row in self._new_texts.items() if row is None]),
            ("add_texts", [row for row in self._new_texts.values() if row is not None]),
            ("drop_vectors", list(self._new_entries) if self._has_vectors else []),
            ("put_entries", puts),
            ("drop_entries", drops),
            ("put_sessions", list(self._new_sessions.values())),
            ("add_messages", list(self._new_messages.values())),
            ("add_responses", list(self._new_responses.values())),
        ]
        statements: list[Statement] = [(name, (self._namespace, as_json(rows))) for name, rows in changes if rows]
        if self._purge is not None:
            statements.append(("purge_responses", (self._namespace, *self._purge)))
        if self._new_blocks:
            statements.append(("add_blocks", (self._namespace, as_json(self._new_blocks), BLOCKS)))
        self._new_entries, self._new_sessions, self._new_messages, self._new_responses = {}, {}, {}, {}
        self._new_texts, self._new_blocks = {}, []
        self._purge = None
        return statements

    # Undoing

    def _change(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if self._undo_log is not None:
            self._undo_log.append((table, key, table.get(key, _MISSING)))
        table[key] = value

    def savepoint(self) -> None:
        self._undo_log = []

    def release(self) -> None:
        self._undo_log = None

    def undo(self) -> None:
        for table, key, value in reversed(self._undo_log or ()):
            if value is _MISSING:
                del table[key]
            else:
                table[key] = value
        self._undo_log = None

    # The account

    def get_account(self, namespace: str) -> Account | None:
        """As `ReadTables.get_account`, of the namespace that is locked."""
        del namespace
        return copy.copy(self._account)

    def get_version(self, namespace: str) -> int:
        if namespace == self._namespace:
            return 0 if self._account is None else self._account.version
        return self._versions[namespace]

    def new_account(self, namespace: str, day: int) -> NamespaceId:
        """As `Tables.new_account`. It is written by `commit`."""
        del day
        return namespace

    def set_account(self, account: Account) -> None:
        """As `Tables.set_account`. It is written by `commit`."""
        self._changed_account = account

    def set_plan(self, namespace: NamespaceId, plan: str | None) -> None:
        self._create_account()
        self._change_rows(("set_plan", (namespace, plan)))

    def _create_account(self) -> None:
        """Write a new namespace at once, for statements that change its row in the database."""
        if self._account is None:
            account = Account(self._namespace, None, 0, 0, 0, 0, None, index_cursor=NOT_BEGUN)
            self._execute(("add_account", self._account_row(account)))
            self._account = account

    # Entries

    def peek_entry(self, namespace: NamespaceId, key: str) -> EntryHead | None:
        del namespace
        self._fetch()
        return self._entries[key]

    def peek_value(self, namespace: NamespaceId, key: str) -> Stored:
        del namespace
        self._fetch()
        return self._values[key]

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
        del namespace
        self._change(self._entries, key, (version, created, expires, size(stored)))
        self._change(self._values, key, stored)
        row = {"key": key, "version": version, "created": created, "updated": updated, "expires": expires}
        self._change(self._new_entries, key, {**row, "bytes" if isinstance(stored, bytes) else "text": stored})

    def delete_entry(self, namespace: NamespaceId, key: str) -> None:
        del namespace
        self._change(self._entries, key, None)
        self._change(self._new_entries, key, None)

    def measure_entries(self, namespace: NamespaceId, prefix: str, now: int) -> tuple[int, int]:
        (row,) = self._execute(("measure_entries", (namespace, prefix, end_of(prefix), now)))
        return cast("tuple[int, int]", row)

    def delete_entries(self, namespace: NamespaceId, prefix: str) -> None:
        values = namespace, prefix, end_of(prefix)
        vectors: list[Statement] = [("drop_vectors_of_entries", values)] if self._has_vectors else []
        self._change_rows(*vectors, ("delete_entries", values))

    def find_expired(self, namespace: NamespaceId, now: int, limit: int | None) -> list[tuple[str, int]]:
        return cast("list[tuple[str, int]]", self._execute(("find_expired", (namespace, now, limit_of(limit)))))

    def first_expiry(self, namespace: NamespaceId) -> int | None:
        ((expires,),) = self._execute(("first_expiry", (namespace,)))
        return cast("int | None", expires)

    # Sessions

    def peek_session(self, namespace: NamespaceId, name: str) -> SessionHead | None:
        del namespace
        self._fetch()
        return self._sessions[name]

    def new_session(self, namespace: NamespaceId, name: str, created: int) -> int:
        del namespace
        self._sessions_ever += 1
        session = self._sessions_ever
        self._change(self._names, session, name)
        self.set_session(session, 0, 0, created)
        return session

    def set_session(self, session: int, last: int, size: int, updated: int) -> None:
        name = self._names[session]
        self._change(self._sessions, name, (session, last, size))
        row = {"name": name, "id": session, "last_seq": last, "bytes": size, "updated": updated}
        self._change(self._new_sessions, name, row)

    def delete_session(self, session: int) -> None:
        self._change_rows(("delete_session", (self._namespace, session)))

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        if (session, id_) in self._seqs:
            return False
        self._change(self._seqs, (session, id_), seq)
        place = place_of(session, seq)
        self._change(self._new_messages, place, {"place": place, "id": id_, "created": created, "data": data})
        return True

    def seq_of_message(self, session: int, id_: str) -> int:
        return self._seqs[session, id_]

    def delete_messages(self, session: int, after: int, last: int) -> None:
        start = session << SEQ_BITS
        values = self._namespace, start + after, start + last
        vectors: list[Statement] = [("drop_vectors_of_messages", values)] if self._has_vectors else []
        self._change_rows(*vectors, ("delete_messages", values))

    # Idempotency keys and the journal

    def find_response(self, namespace: NamespaceId, key: str) -> str | None:
        del namespace
        return self._responses.get(key)

    def save_response(self, namespace: NamespaceId, key: str, created: int, response: str) -> None:
        del namespace
        self._change(self._responses, key, response)
        self._change(self._new_responses, key, {"idempotency_key": key, "created": created, "results": response})

    def purge_responses(self, before: int, limit: int) -> None:
        """As `Tables.purge_responses`, of this namespace."""
        self._purge = before, limit + (0 if self._purge is None else self._purge[1])

    def add_journal_block(self, namespace: NamespaceId, version: int, since: int, records: str, keep: int) -> None:
        """As `Tables.add_journal_block`. The statement that writes the blocks drops the oldest ones."""
        del namespace, keep
        place = len(self._new_blocks) + 1
        self._new_blocks.append({"place": place, "version": version, "since": since, "records": records})

    # The word index

    def entries_to_index(
        self, namespace: NamespaceId, keys: Sequence[str]
    ) -> list[tuple[str, int | None, int | None, int | None, Stored | None]]:
        rows = self._execute(("entries_to_index", (namespace, as_json(keys))))
        return [
            (key, text, indexed, version, value if data is None else data)
            for key, text, indexed, version, value, data in rows
        ]

    def messages_to_index(self, places: Sequence[int]) -> list[tuple[int, str]]:
        rows = self._execute(("messages_to_index", (self._namespace, as_json(places))))
        return cast("list[tuple[int, str]]", rows)

    def keys_to_index(self, namespace: NamespaceId, after: str, limit: int) -> list[str]:
        return [key for (key,) in self._execute(("keys_to_index", (namespace, after, limit)))]

    def sessions_from(self, namespace: NamespaceId, first: int, limit: int) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._execute(("sessions_from", (namespace, first, limit))))

    def new_entry_text(self, namespace: NamespaceId, key: str, version: int) -> int:
        del namespace
        self._entry_texts_ever += 1
        self.renew_entry_text(self._entry_texts_ever, key, version)
        return self._entry_texts_ever

    def renew_entry_text(self, text: int, key: str, version: int) -> None:
        self._new_texts[text] = {"id": text, "key": key, "version": version}

    def add_text(self, namespace: NamespaceId, text: int, terms: str, *, replace: bool = False) -> None:
        del namespace, replace
        self._new_texts[text] = {"id": text, **(self._new_texts.get(text) or {}), "terms": terms}

    def delete_entry_text(self, text: int) -> int:
        self._new_texts[text] = None
        return 1

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str) -> int:
        return _count(self._change_rows(("delete_texts_of_entries", (namespace, prefix, end_of(prefix)))))

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int:
        start = session << SEQ_BITS
        return _count(self._change_rows(("delete_texts", (self._namespace, start + after + 1, start + last))))

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        vectors = 0
        if self._has_vectors:
            vectors = _count(self._change_rows(("delete_some_entry_vectors", (namespace, limit))))
        return max(vectors, _count(self._change_rows(("delete_some_texts_of_entries", (namespace, limit)))))

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        start = session << SEQ_BITS
        values = self._namespace, start, start + last, limit
        vectors = _count(self._change_rows(("delete_some_message_vectors", values))) if self._has_vectors else 0
        return max(vectors, _count(self._change_rows(("delete_some_texts", values))))

    # Vectors

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[EntryVector], model: str) -> int:
        items = [(key, version, _array(vector)) for key, version, vector in vectors]
        return self._keep_vectors(("keep_entry_vectors", (namespace, as_json(items), model)))

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[MessageVector], model: str) -> int:
        items = [(session, id_, created, _array(vector)) for session, id_, created, vector in vectors]
        return self._keep_vectors(("keep_message_vectors", (namespace, as_json(items), model)))

    def _keep_vectors(self, statement: Statement) -> int:
        # The statement counts the bytes in the row of the namespace, so that must exist.
        self._create_account()
        self._has_vectors = True
        return _count(self._change_rows(statement))

    def vector_bytes(self, namespace: NamespaceId) -> int:
        rows = self._execute(("get_vector_bytes", (namespace,)))
        return int(rows[0][0]) if rows else 0


def _count(rows: Sequence[Row]) -> int:
    return int(rows[0][0])


def _array(vector: bytes) -> str:
    """Return a vector as an array of PostgreSQL."""
    return f"{{{numbers_of(vector)}}}"


_TAKE_IN: Mapping[str, Callable[[Unit, Sequence[Row]], None]] = {
    "fetch_entries": Unit._take_entries,
    "fetch_values": Unit._take_values,
    "fetch_sessions": Unit._take_sessions,
    "fetch_messages": Unit._take_messages,
    "fetch_responses": Unit._take_responses,
}
