"""What a transaction on one namespace knows and will write: one round trip reads it, another writes it.

`Transaction` asks and changes row by row, as SQLite lets it do for nothing; over a network each statement would be a round
trip. So a unit of work reads in bulk, beforehand, the rows that a group of writes can ask for, answers from them, keeps the
changes, and puts them down with one statement a table (M. Fowler, Patterns of Enterprise Application Architecture,
"Unit of Work"). A statement that it does not know runs in the database as it stands, after the changes so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ...limits import ACCESS
from ...operations import Append, Delete, Increment, Put, Write
from ...search.embedding import numbers_of
from ...values import Stored, size
from ..engine.account import NOT_BEGUN, SEQ_BITS
from ..engine.journal import BLOCKS
from ..engine.rows import Row
from .connection import Connection
from .statements import Statement

_MISSING: Any = object()
_SEQ = (1 << SEQ_BITS) - 1
_KNOWN_BEFOREHAND = frozenset({Put, Delete, Increment, Append})
_READS = frozenset({"entry_version", "messages_between", "measure_entries", "find_expired", "first_expiry"}) | {
    "messages_to_index", "keys_to_index", "sessions_from",
}  # fmt: skip
_KEEPS_VECTORS = frozenset({"keep_entry_vectors", "keep_message_vectors"})
_REMOVES_VECTORS = frozenset({"delete_some_entry_vectors", "delete_some_message_vectors"})
_COUNTED = _KEEPS_VECTORS | _REMOVES_VECTORS | {
    "delete_texts", "delete_some_texts", "delete_texts_of_entries", "delete_some_texts_of_entries",
}  # fmt: skip
"""Statements that return how many rows they removed or kept, which is then what `changes` returns."""
_TAKES_VECTORS = {"delete_entries": "drop_vectors_of_entries", "delete_messages": "drop_vectors_of_messages"}
"""What removes the vectors of what a statement removes."""


class NotAlone(Exception):
    """A write among others needs the database itself, which could not undo that write alone."""


class Unit:
    """One transaction. `begin`, give `run` to a `Transaction`, `commit`.

    Args:
        connection: where; no transaction is open on it.
        namespace: whose.
        writes: all that will be applied.
        new_ids: no message of these is there yet, as is nearly always so: if it is, the commit fails with a
            ``UniqueViolation``, and has to be tried again without this.
    """

    def __init__(
        self, connection: Connection, namespace: str, writes: Sequence[Write] = (), *, new_ids: bool = True
    ) -> None:
        self._connection = connection
        self._namespace = namespace
        self.time = 0
        """The server's, once it has begun, and when it was asked."""
        self.asked = 0.0
        self._wanted = _Wanted(writes, new_ids=new_ids)
        self._account: Row | None = None
        self._access: Sequence[Row] = ()
        self._rests_on_access = any(write.permit is not None for write in writes)
        self._sessions_ever = self._entry_texts_ever = 0
        self._has_vectors = False
        self._journal: list[tuple[dict[Any, Any], Any, Any]] | None = None
        self._changed = 0
        self._set_account: Row | None = None
        self._purge: tuple[int, int] | None = None
        # What there will be, changes included. None: there is none.
        self._entries: dict[str, Row | None] = {}
        self._values: dict[str, Stored] = {}
        self._sessions: dict[str, Row | None] = {}
        self._names: dict[int, str] = {}
        self._seqs: dict[tuple[int, str], int] = {}
        self._answers: dict[str, str] = {}
        self._fetched = False
        # The changes.
        self._new_entries: dict[str, dict[str, Any] | None] = {}
        self._new_sessions: dict[str, dict[str, Any]] = {}
        self._new_messages: dict[int, dict[str, Any]] = {}
        self._new_answers: dict[str, dict[str, Any]] = {}
        self._new_texts: dict[int, dict[str, Any] | None] = {}
        self._new_blocks: list[dict[str, Any]] = []

    def begin(self, timeout: float, mark: str | None = None) -> bool:
        """Begin the transaction, with the namespace locked; whether one that left this mark was committed before."""
        milliseconds = str(max(1, int(timeout * 1000)))
        begin: list[Statement] = [("begin", ()), ("limit_times", (milliseconds,)), ("lock_account", (self._namespace,))]
        # Before the account is locked, so that nobody who holds one waits for the rules.
        if self._namespace == ACCESS:
            begin.insert(2, ("change_access", ()))
        elif self._rests_on_access:
            begin[2:2] = [("rest_on_access", ()), ("get_version", (ACCESS,))]
        if mark is not None:
            begin.append(("fetch_answers", (self._namespace, _json([mark]))))
        fetches = self._wanted.statements(self._namespace)
        rows = self._connection.run_all(self._namespace, begin + fetches)
        self.asked = self._connection.asked
        found = {name: answer for (name, _), answer in zip(begin, rows, strict=False)}
        self.time = found["limit_times"][0][-1]
        if found["lock_account"]:
            (*account, self._sessions_ever, self._entry_texts_ever) = found["lock_account"][0]
            self._account = tuple(account)
            self._has_vectors = bool(account[-1])
        self._access = found.get("get_version", [])
        self._take_in(fetches, rows[len(begin) :])
        return mark is not None and bool(found["fetch_answers"])

    def run(self, name: str, values: tuple[Any, ...]) -> Iterable[Row]:
        """Run a statement of queries.sql, from what is known or in the database."""
        known = _KNOWN.get(name)
        if known is not None:
            return known(self, *values)
        if self._journal is not None:
            raise NotAlone
        if name in _REMOVES_VECTORS and not self._has_vectors:
            return self._nothing()
        if name in _KEEPS_VECTORS:
            values = self._vectors_to_keep(*values)
        statements = [*self._changes(), (name, values)]
        if self._has_vectors and name in _TAKES_VECTORS:
            statements.insert(-1, (_TAKES_VECTORS[name], values))
        *_, rows = self._connection.run_all(self._namespace, statements)
        if name not in _READS:
            self._fetched = False
        if name in _COUNTED:
            ((self._changed,),) = rows
        return rows

    def commit(self) -> bool:
        """Put everything down; it is on disk when this returns. Whether others are to be told of it."""
        statements = self._changes()
        if self._set_account is not None:
            account = (*self._set_account, self._sessions_ever, self._entry_texts_ever)
            # First, so that of two who begin a namespace the second fails before it has waited for anything else.
            statements.insert(0, ("add_account" if self._account is None else "set_account", account))
        self._connection.committing = True
        *_, ready, _ = self._connection.run_all(
            self._namespace, [*statements, ("get_ready_to_commit", ()), ("commit", ())]
        )
        self._connection.committing = False
        ((_, is_listened_to),) = ready
        return bool(is_listened_to)

    # Fetching and flushing

    def _fetch(self) -> None:
        if not self._fetched:
            changes, fetches = self._changes(), self._wanted.statements(self._namespace)
            rows = self._connection.run_all(self._namespace, changes + fetches)
            self._take_in(fetches, rows[len(changes) :])

    def _take_in(self, fetches: Sequence[Statement], found: Sequence[Sequence[Row]]) -> None:
        self._entries = dict.fromkeys(self._wanted.keys)
        self._sessions = dict.fromkeys(self._wanted.sessions)
        self._values, self._names, self._seqs, self._answers = {}, {}, {}, {}
        for (name, _), rows in zip(fetches, found, strict=True):
            _TAKE_IN[name](self, rows)
        self._fetched = True

    def _take_entries(self, rows: Sequence[Row]) -> None:
        self._entries.update((key, tuple(row)) for key, *row in rows)

    def _take_values(self, rows: Sequence[Row]) -> None:
        self._values.update((key, text if data is None else data) for key, text, data in rows)

    def _take_sessions(self, rows: Sequence[Row]) -> None:
        self._sessions.update((name, tuple(row)) for name, *row in rows)
        self._names.update((session, name) for name, session, *_ in rows)

    def _take_messages(self, rows: Sequence[Row]) -> None:
        self._seqs.update(((session, message_id), seq) for session, message_id, seq in rows)

    def _take_answers(self, rows: Sequence[Row]) -> None:
        self._answers.update(rows)

    def _changes(self) -> list[Statement]:
        """Return the statements that put down the changes so far, which are changes no more."""
        puts = [row for row in self._new_entries.values() if row is not None]
        drops = [key for key, row in self._new_entries.items() if row is None]
        changes: list[tuple[str, list[Any]]] = [
            ("drop_texts", [id_ for id_, row in self._new_texts.items() if row is None]),
            ("add_texts", [row for row in self._new_texts.values() if row is not None]),
            ("drop_vectors", list(self._new_entries) if self._has_vectors else []),
            ("put_entries", puts),
            ("drop_entries", drops),
            ("put_sessions", list(self._new_sessions.values())),
            ("add_messages", list(self._new_messages.values())),
            ("add_answers", list(self._new_answers.values())),
        ]
        statements: list[Statement] = [(name, (self._namespace, _json(rows))) for name, rows in changes if rows]
        if self._purge is not None:
            statements.append(("purge_answers", self._purge))
        if self._new_blocks:
            statements.append(("add_blocks", (self._namespace, _json(self._new_blocks), BLOCKS)))
        self._new_entries, self._new_sessions, self._new_messages, self._new_answers = {}, {}, {}, {}
        self._new_texts, self._new_blocks = {}, []
        self._purge = None
        return statements

    def _change(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if self._journal is not None:
            self._journal.append((table, key, table.get(key, _MISSING)))
        table[key] = value

    # Statements

    def _savepoint(self) -> Sequence[Row]:
        self._journal = []
        return ()

    def _release(self) -> Sequence[Row]:
        self._journal = None
        return ()

    def _undo(self) -> Sequence[Row]:
        for table, key, value in reversed(self._journal or ()):
            if value is _MISSING:
                del table[key]
            else:
                table[key] = value
        self._journal = None
        return ()

    def _get_account(self, _: str) -> Sequence[Row]:
        return () if self._account is None else (self._account,)

    def _get_version(self, _: str) -> Sequence[Row]:
        return [row[5:6] for row in self._get_account("")] if self._namespace == ACCESS else self._access

    def _new_account(self, namespace: str, _: int) -> Sequence[Row]:
        return ((namespace, NOT_BEGUN),)

    def _put_account(self, *row: Any) -> Sequence[Row]:
        self._set_account = row
        return ()

    def _peek_entry(self, _: str, key: str) -> Sequence[Row]:
        self._fetch()
        row = self._entries[key]
        return () if row is None else (row,)

    def _peek_value(self, _: str, key: str) -> Sequence[Row]:
        self._fetch()
        return ((self._values[key],),)

    def _put_entry(
        self, _: str, key: str, version: int, created: int, updated: int, expires: int | None, stored: Stored
    ) -> Sequence[Row]:
        self._change(self._entries, key, (version, created, expires, size(stored)))
        self._change(self._values, key, stored)
        row = {"key": key, "version": version, "created": created, "updated": updated, "expires": expires}
        row["bytes" if isinstance(stored, bytes) else "text"] = stored
        self._change(self._new_entries, key, row)
        return ()

    def _delete_entry(self, _: str, key: str) -> Sequence[Row]:
        self._change(self._entries, key, None)
        self._change(self._new_entries, key, None)
        return ()

    def _peek_session(self, _: str, name: str) -> Sequence[Row]:
        self._fetch()
        row = self._sessions[name]
        return () if row is None else (row,)

    def _new_session(self, _: str, name: str, now: int) -> Sequence[Row]:
        self._sessions_ever += 1
        session = self._sessions_ever
        self._change(self._names, session, name)
        self._put_session(session, 0, 0, now)
        return ((session,),)

    def _put_session(self, session: int, last: int, held: int, now: int) -> Sequence[Row]:
        name = self._names[session]
        self._change(self._sessions, name, (session, last, held))
        row = {"name": name, "id": session, "last_seq": last, "bytes": held, "updated": now}
        self._change(self._new_sessions, name, row)
        return ()

    def _add_message(self, place: int, session: int, message_id: str, now: int, stored: str) -> Sequence[Row]:
        self._changed = int((session, message_id) not in self._seqs)
        if self._changed:
            self._change(self._seqs, (session, message_id), place & _SEQ)
            row = {"place": place, "id": message_id, "created": now, "data": stored}
            self._change(self._new_messages, place, row)
        return ()

    def _count_changes(self) -> Sequence[Row]:
        return ((self._changed,),)

    def _seq_of_message(self, session: int, message_id: str) -> Sequence[Row]:
        return ((self._seqs[session, message_id],),)

    def _find_answer(self, _: str, key: str) -> Sequence[Row]:
        answer = self._answers.get(key)
        return () if answer is None else ((answer,),)

    def _add_answer(self, _: str, key: str, now: int, results: str) -> Sequence[Row]:
        self._change(self._answers, key, results)
        self._change(self._new_answers, key, {"idempotency_key": key, "created": now, "results": results})
        return ()

    def _purge_answers(self, before: int, most: int) -> Sequence[Row]:
        self._purge = before, most + (0 if self._purge is None else self._purge[1])
        return ()

    def _add_changes(self, _: str, version: int, since: int, records: str) -> Sequence[Row]:
        """Add a block to the journal. The statement that puts it down drops the oldest ones, of which nobody here needs to know."""
        place = len(self._new_blocks) + 1
        self._new_blocks.append({"place": place, "version": version, "since": since, "records": records})
        return ()

    # The index

    def _entries_to_index(self, namespace: str, keys: str) -> Sequence[Row]:
        statements = [*self._changes(), ("entries_to_index", (namespace, keys))]
        *_, rows = self._connection.run_all(self._namespace, statements)
        return [(*row, text if data is None else data) for *row, text, data in rows]

    def _new_entry_text(self, _: str, key: str, version: int) -> Sequence[Row]:
        self._entry_texts_ever += 1
        self._renew_entry_text(self._entry_texts_ever, key, version)
        return ((self._entry_texts_ever,),)

    def _renew_entry_text(self, id_: int, key: str, version: int) -> Sequence[Row]:
        self._new_texts[id_] = {"id": id_, "key": key, "version": version}
        return ()

    def _add_text(self, _: str, id_: int, terms: str) -> Sequence[Row]:
        self._new_texts[id_] = {"id": id_, **(self._new_texts.get(id_) or {}), "terms": terms}
        return ()

    def _delete_text(self, id_: int) -> Sequence[Row]:
        self._new_texts[id_] = None
        self._changed = 1
        return ()

    def _nothing(self, *_: Any) -> Sequence[Row]:
        """Do what is done with the text itself already, or what there is nothing of."""
        self._changed = 0
        return ()

    # Vectors

    def _vectors_to_keep(self, namespace: str, wanted: str, model: str) -> Row:
        """Return what to keep as the statement takes it. The database counts it, so that it has to know the namespace."""
        if self._account is None:
            begun = namespace, 0, 0, 0, 0, None, "", "", NOT_BEGUN, 0, 0
            self._connection.run(namespace, "add_account", (*begun, self._sessions_ever, self._entry_texts_ever))
            self._account = begun
        self._has_vectors = True
        items = msgspec.json.decode(wanted)
        return namespace, _json([(*told, f"{{{numbers_of(bytes.fromhex(vector))}}}") for *told, vector in items]), model


def is_known_beforehand(write: Write) -> bool:
    """Whether all that a write has to know can be told, and so be fetched, from its operations."""
    return all(type(operation) in _KNOWN_BEFOREHAND for operation in write.operations)


class _Wanted:
    """What has to be known for some writes."""

    def __init__(self, writes: Sequence[Write], *, new_ids: bool) -> None:
        self._new_ids = new_ids
        self.keys: set[str] = set()
        self.numbers: set[str] = set()
        self.sessions: set[str] = set()
        self.messages: list[dict[str, str]] = []
        self.answers = {write.idempotency_key for write in writes if write.idempotency_key is not None}
        for write in writes:
            for operation in write.operations:
                self._add(operation)

    def _add(self, operation: Any) -> None:
        match operation:
            case Put(key=key) | Delete(key=key):
                self.keys.add(key)
            case Increment(key=key):
                self.keys.add(key)
                self.numbers.add(key)
            case Append(session=name, messages=messages):
                self.sessions.add(name)
                if not self._new_ids:
                    self.messages += [{"name": name, "id": message.id} for message in messages]
            case _:
                session = getattr(operation, "session", None)
                if session is not None:
                    self.sessions.add(session)

    def statements(self, namespace: str) -> list[Statement]:
        wanted: list[tuple[str, Iterable[Any]]] = [
            ("fetch_entries", self.keys),
            ("fetch_values", self.numbers),
            ("fetch_sessions", self.sessions),
            ("fetch_messages", self.messages),
            ("fetch_answers", self.answers),
        ]
        return [(name, (namespace, _json(list(items)))) for name, items in wanted if items]


def _json(items: Any) -> str:
    return msgspec.json.encode(items).decode()


_TAKE_IN: Mapping[str, Callable[[Unit, Sequence[Row]], None]] = {
    "fetch_entries": Unit._take_entries,
    "fetch_values": Unit._take_values,
    "fetch_sessions": Unit._take_sessions,
    "fetch_messages": Unit._take_messages,
    "fetch_answers": Unit._take_answers,
}
_KNOWN: Mapping[str, Callable[..., Sequence[Row]]] = {
    "savepoint": Unit._savepoint,
    "release": Unit._release,
    "undo": Unit._undo,
    "get_account": Unit._get_account,
    "get_version": Unit._get_version,
    "new_account": Unit._new_account,
    "set_account": Unit._put_account,
    "peek_entry": Unit._peek_entry,
    "peek_value": Unit._peek_value,
    "put_entry": Unit._put_entry,
    "delete_entry": Unit._delete_entry,
    "peek_session": Unit._peek_session,
    "new_session": Unit._new_session,
    "set_session": Unit._put_session,
    "add_message": Unit._add_message,
    "changes": Unit._count_changes,
    "seq_of_message": Unit._seq_of_message,
    "find_answer": Unit._find_answer,
    "add_answer": Unit._add_answer,
    "purge_answers": Unit._purge_answers,
    "add_changes": Unit._add_changes,
    "entries_to_index": Unit._entries_to_index,
    "new_entry_text": Unit._new_entry_text,
    "renew_entry_text": Unit._renew_entry_text,
    "add_text": Unit._add_text,
    "replace_text": Unit._add_text,
    "delete_text": Unit._delete_text,
    "delete_entry_text": Unit._nothing,
    "delete_entry_texts": Unit._nothing,
    "delete_some_entry_texts": Unit._nothing,
    "drop_entry_vectors": Unit._nothing,
    "drop_message_vectors": Unit._nothing,
}
