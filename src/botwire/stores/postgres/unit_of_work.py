"""A transaction on one namespace that reads in one round trip and writes in another.

`Transaction` reads and changes row by row. Over a network each statement would be a round trip. So a unit of work fetches, at
its beginning, the rows that a group of writes may need, and writes the changes with one statement a table (M. Fowler, Patterns
of Enterprise Application Architecture). Statements for other rows run in the database, after the changes so far.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ...limits import FIRST_NAME
from ...operations import Append, Delete, Increment, Operation, Put, Require, Vector, Write
from ...search.embedding import numbers_of
from ...values import Stored, size
from ..engine.journal import BLOCKS
from ..engine.tables import (
    LAST_SEQ,
    LAST_SESSION,
    NOT_BEGUN,
    SEQ_BITS,
    EntryHead,
    EntryRow,
    EntryToIndex,
    NamespaceId,
    NamespaceState,
    SessionHead,
    Tables,
    as_json,
    end_of,
    place_of,
)
from .connection import Connection
from .statements import Row, Statement
from .tables import PostgresReads

_MISSING: Any = object()
_KNOWN_BEFOREHAND = frozenset({Put, Delete, Require, Increment, Append})


def is_known_beforehand(write: Write) -> bool:
    """Whether the operations of a write name all rows that it needs, so that these can be fetched at once."""
    return write.also is None and all(type(operation) in _KNOWN_BEFOREHAND for operation in write.operations)


class NeededRows:
    """The rows that some writes need, with the changes so far. None: there is no such row.

    ``new_ids``: no message of the writes exists yet, so none is fetched.
    """

    def __init__(self, writes: Sequence[Write], *, new_ids: bool) -> None:
        self._new_ids = new_ids
        self._keys: set[str] = set()
        self._numbers: set[str] = set()
        self._names: set[str] = set()
        self._messages: list[dict[str, str]] = []
        self._idempotency_keys = {write.idempotency_key for write in writes if write.idempotency_key is not None}
        for write in writes:
            for operation in write.operations:
                self._add(operation)
        self.entries: dict[str, EntryHead | None] = {}
        self.values: dict[str, Stored] = {}
        self.sessions: dict[str, SessionHead | None] = {}
        self.session_names: dict[int, str] = {}
        self.seqs: dict[tuple[int, str], int] = {}
        self.responses: dict[str, str] = {}

    def _add(self, operation: Operation) -> None:
        match operation:
            case Put(key=key) | Delete(key=key) | Require(key=key):
                self._keys.add(key)
            case Increment(key=key):
                self._keys.add(key)
                self._numbers.add(key)
            case Append(session=name, messages=messages):
                self._names.add(name)
                if not self._new_ids:
                    self._messages += [{"name": name, "id": message.id} for message in messages]
            case _:
                session = getattr(operation, "session", None)
                if session is not None:
                    self._names.add(session)

    def statements(self, namespace: str) -> list[Statement]:
        """Return the statements that fetch the rows."""
        wanted: list[tuple[str, Iterable[Any]]] = [
            ("fetch_entries", self._keys),
            ("fetch_values", self._numbers),
            ("fetch_sessions", self._names),
            ("fetch_messages", self._messages),
            ("fetch_responses", self._idempotency_keys),
        ]
        return [(name, (namespace, as_json(list(items)))) for name, items in wanted if items]

    def take_in(self, statements: Sequence[Statement], found: Sequence[Sequence[Row]]) -> None:
        """Replace all rows by those that the statements returned."""
        rows = {name: some for (name, _), some in zip(statements, found, strict=True)}
        sessions = rows.get("fetch_sessions", ())
        self.entries = dict.fromkeys(self._keys)
        self.entries.update((key, (*head,)) for key, *head in rows.get("fetch_entries", ()))
        self.values = {key: text if data is None else data for key, text, data in rows.get("fetch_values", ())}
        self.sessions = dict.fromkeys(self._names)
        self.sessions.update((name, (*head,)) for name, *head in sessions)
        self.session_names = {number: name for name, number, *_ in sessions}
        self.seqs = {(session, id_): seq for session, id_, seq in rows.get("fetch_messages", ())}
        self.responses = dict(rows.get("fetch_responses", ()))


class ChangedRows:
    """The rows that are not in the database yet, by their keys. None: the row is to be deleted."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any] | None] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.messages: dict[int, dict[str, Any]] = {}
        self.responses: dict[str, dict[str, Any]] = {}
        self.texts: dict[int, dict[str, Any] | None] = {}
        self.blocks: dict[int, dict[str, Any]] = {}
        self.purge: tuple[int, int] | None = None
        """Before when, and how many, old responses are to be deleted."""

    def statements(self, namespace: str, *, has_vectors: bool) -> list[Statement]:
        """Return the statements that write the rows; `has_vectors`: the namespace has any."""
        changes: list[tuple[str, list[Any]]] = [
            ("drop_texts", [text for text, row in self.texts.items() if row is None]),
            ("add_texts", [row for row in self.texts.values() if row is not None]),
            ("drop_vectors", list(self.entries) if has_vectors else []),
            ("put_entries", [row for row in self.entries.values() if row is not None]),
            ("drop_entries", [key for key, row in self.entries.items() if row is None]),
            ("put_sessions", list(self.sessions.values())),
            ("add_messages", list(self.messages.values())),
            ("add_responses", list(self.responses.values())),
        ]
        statements: list[Statement] = [(name, (namespace, as_json(rows))) for name, rows in changes if rows]
        if self.purge is not None:
            statements.append(("purge_responses", (namespace, *self.purge)))
        if self.blocks:
            statements.append(("add_blocks", (namespace, as_json(list(self.blocks.values())), BLOCKS)))
        return statements


class NotAlone(Exception):
    """A write of a group needs its own transaction: it must run a statement in the database, which cannot undo it alone."""


class Unit(PostgresReads, Tables):
    """One transaction, as `botwire.stores.engine.tables.Tables`. `begin` it, apply writes, `commit` it.

    ``writes`` are all that will be applied. ``new_ids``: assume that no message of them exists yet, as is nearly always so. If one
    does, the commit fails with a ``UniqueViolation``, and must be repeated without this.
    """

    sweep_due = math.inf  # each write removes old responses of its own namespace, and a server sweeps the others

    def __init__(
        self, connection: Connection, namespace: str, writes: Sequence[Write] = (), *, new_ids: bool = True
    ) -> None:
        super().__init__(connection, namespace)
        self.time = 0
        """The server's time when the transaction began, in microseconds."""
        self.asked = 0.0
        """When the server was asked for it, on `time.monotonic`."""
        self._guarded = {write.guard.namespace for write in writes if write.guard is not None} - {namespace}
        self._changes_guarded = namespace < FIRST_NAME or any(write.also is not None for write in writes)
        """Whether it may change a system namespace, on which the guards of others rely."""
        self._versions: dict[str, int] = {}
        self._state: NamespaceState | None = None
        self._changed_state: NamespaceState | None = None
        self._sessions_ever = self._entry_texts_ever = 0
        self._has_vectors = False
        self._has_popped = False
        """Whether the transaction has kept popped messages. If so, it also removes old ones."""
        self._rows = NeededRows(writes, new_ids=new_ids)
        self._is_fetched = False
        self._changed = ChangedRows()
        self._undo_log: list[tuple[dict[Any, Any], Any, Any]] | None = None
        """Table, key and old value of each change since `savepoint`; None: there is no savepoint."""

    def begin(self, seconds: float, key: str | None = None) -> bool:
        """Begin the transaction and lock the namespace. A statement may take this many seconds.

        Returns whether an earlier attempt, which called `save_response` with the key, was committed.
        """
        begin: list[Statement] = [("begin", ()), ("limit_times", (max(1, int(seconds * 1000)),))]
        # Guards first: a transaction that locks a namespace must not wait for them.
        if self._changes_guarded:
            begin.append(("change_guarded", ()))
        elif self._guarded:
            begin.append(("rely_on_guards", ()))
        begin += [("get_version", (namespace,)) for namespace in self._guarded]
        return self._fetch(begin, key)

    def join(self) -> None:
        """Lock another namespace, in a transaction that a unit for another one has begun. `write_out` ends it."""
        self._fetch([], None)

    def _fetch(self, begin: list[Statement], key: str | None) -> bool:
        """Run the first statements, lock the namespace, and fetch the rows that the writes need. Returns as `begin`."""
        begin.append(("lock_state", (self._namespace,)))
        if key is not None:
            begin.append(("fetch_responses", (self._namespace, as_json([key]))))
        fetches = self._rows.statements(self._namespace)
        found = self._connection.run_all([*begin, *fetches])
        self.asked = self._connection.asked
        is_committed = False
        for (name, values), rows in zip(begin, found, strict=False):
            if name == "limit_times":
                self.time = rows[0][-1]
            elif name == "get_version":
                self._versions[str(values[0])] = rows[0][0] if rows else 0
            elif name == "lock_state" and rows:
                *state, self._sessions_ever, self._entry_texts_ever = rows[0]
                self._state = NamespaceState(*state)
                self._has_vectors = self._state.vectors > 0
            elif name == "fetch_responses":
                is_committed = bool(rows)
        self._rows.take_in(fetches, found[len(begin) :])
        self._is_fetched = True
        return is_committed

    def commit(self) -> bool:
        """Write everything; it is on disk when this returns. Returns whether any process listens for changes."""
        statements = self._last_changes()
        self._connection.committing = True
        *_, ready, _ = self._connection.run_all([*statements, ("get_ready_to_commit", ()), ("commit", ())])
        self._connection.committing = False
        ((_, is_listened_to),) = ready
        return bool(is_listened_to)

    def write_out(self) -> None:
        """Write everything, and leave the commit to the unit that began the transaction."""
        self._connection.run_all(self._last_changes())

    def _last_changes(self) -> list[Statement]:
        """Return the statements that write what is left, and the state."""
        statements = self._take_changes()
        state = self._changed_state
        if state is not None:
            name = "add_state" if self._state is None else "set_state"
            # First: if two clients create a namespace, the second fails before it waits for anything else.
            statements.insert(0, (name, self._state_row(state)))
        return statements

    def _state_row(self, state: NamespaceState) -> Row:
        return (
            self._namespace, state.day, state.writes, state.bytes, state.version, state.expires, state.recent,
            state.pending, state.index_cursor, state.texts, state.words, self._sessions_ever,
            self._entry_texts_ever,
        )  # fmt: skip

    def _run(self, name: str, *values: object) -> list[Any]:
        return self._run_all((name, values))[-1]

    def _run_all(self, *statements: Statement) -> list[list[Row]]:
        """Run statements after the changes so far, and return the rows of each."""
        if self._undo_log is not None:
            raise NotAlone
        changes = self._take_changes()
        return self._connection.run_all([*changes, *statements])[len(changes) :]

    def _change_now(self, name: str, *values: object, vectors: str | None = None) -> int:
        """Change rows in the database, so that the fetched rows are out of date; returns the largest number of a statement.

        `vectors` is the statement that deletes vectors by the same values, if the namespace has any.
        """
        names = [name] if vectors is None or not self._has_vectors else [vectors, name]
        rows = self._run_all(*((each, values) for each in names))
        self._is_fetched = False
        return max(some[0][0] if some else 0 for some in rows)

    def _take_changes(self) -> list[Statement]:
        """Return the statements that write the changes so far, and clear these."""
        changed, self._changed = self._changed, ChangedRows()
        return changed.statements(self._namespace, has_vectors=self._has_vectors)

    def _fetched(self) -> NeededRows:
        """Return the rows as they are now."""
        if not self._is_fetched:
            fetches = self._rows.statements(self._namespace)
            self._rows.take_in(fetches, self._run_all(*fetches))
            self._is_fetched = True
        return self._rows

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

    # The state of the namespace, which `commit` writes

    def get_state(self, _namespace: str) -> NamespaceState | None:
        return copy.copy(self._state)

    def get_version(self, namespace: str) -> int:
        if namespace == self._namespace:
            return 0 if self._state is None else self._state.version
        return self._versions[namespace]

    def new_state(self, namespace: str, _day: int) -> NamespaceId:
        return namespace

    def set_state(self, state: NamespaceState) -> None:
        self._changed_state = state

    def set_plan(self, namespace: NamespaceId, plan: str | None) -> None:
        self._create_state()
        self._change_now("set_plan", namespace, plan)

    def _create_state(self) -> None:
        """Write a new namespace at once, for statements that change its row in the database."""
        if self._state is None:
            state = NamespaceState(self._namespace, None, 0, 0, 0, 0, None, index_cursor=NOT_BEGUN)
            self._run("add_state", *self._state_row(state))
            self._state = state

    def peek_entry(self, _namespace: NamespaceId, key: str) -> EntryHead | None:
        return self._fetched().entries[key]

    def peek_value(self, _namespace: NamespaceId, key: str) -> Stored:
        return self._fetched().values[key]

    def put_entry(self, row: EntryRow) -> None:
        _, key, version, created, updated, expires, stored = row
        self._change(self._rows.entries, key, (version, created, expires, size(stored)))
        self._change(self._rows.values, key, stored)
        changed = {"key": key, "version": version, "created": created, "updated": updated, "expires": expires}
        self._change(self._changed.entries, key, {**changed, "bytes" if isinstance(stored, bytes) else "text": stored})

    def delete_entry(self, _namespace: NamespaceId, key: str) -> None:
        self._change(self._rows.entries, key, None)
        self._change(self._changed.entries, key, None)

    def delete_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> None:
        values = namespace, prefix, end or end_of(prefix)
        self._change_now("delete_entries", *values, vectors="drop_vectors_of_entries")

    def peek_session(self, _namespace: NamespaceId, name: str) -> SessionHead | None:
        return self._fetched().sessions[name]

    def new_session(self, _namespace: NamespaceId, name: str, created: int) -> int:
        self._sessions_ever += 1
        session = self._sessions_ever
        if session > LAST_SESSION:  # those that were used longest ago come first
            first = session & LAST_SESSION
            session = self._free_number("free_session", first, LAST_SESSION, self._namespace)
            self._sessions_ever += (session - first) % (LAST_SESSION + 1)
        self._change(self._rows.session_names, session, name)
        self.set_session(session, 0, 0, created)
        return session

    def _first_free(self, statement: str, *values: object) -> int | None:
        # Without the changes so far: none of them has this number, because numbers rise.
        (rows,) = self._connection.run_all(((statement, values),))
        return rows[0][0] if rows else None

    def set_session(self, session: int, last: int, size: int, updated: int) -> None:
        name = self._rows.session_names[session]
        self._change(self._rows.sessions, name, (session, last, size))
        row = {"name": name, "id": session, "last_seq": last, "bytes": size, "updated": updated}
        self._change(self._changed.sessions, name, row)

    def delete_session(self, session: int) -> None:
        self._change_now("delete_session", self._namespace, session)

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        if (session, id_) in self._rows.seqs:
            return False
        self._change(self._rows.seqs, (session, id_), seq)
        place = place_of(session, seq)
        self._change(self._changed.messages, place, {"place": place, "id": id_, "created": created, "data": data})
        return True

    def seq_of_message(self, session: int, id_: str) -> int:
        return self._rows.seqs[session, id_]

    def last_messages(self, session: int, last: int, limit: int) -> list[tuple[int, int]]:
        start = session << SEQ_BITS
        return self._run("last_messages", self._namespace, start, start + last, limit)

    def delete_messages(self, session: int, after: int, last: int) -> None:
        start = session << SEQ_BITS
        values = self._namespace, start + after, start + last
        self._change_now("delete_messages", *values, vectors="drop_vectors_of_messages")

    def find_response(self, _namespace: NamespaceId, key: str) -> str | None:
        return self._rows.responses.get(key)

    def save_response(self, _namespace: NamespaceId, key: str, created: int, response: str) -> None:
        self._change(self._rows.responses, key, response)
        row = {"idempotency_key": key, "created": created, "results": response}
        self._change(self._changed.responses, key, row)

    def purge_responses(self, before: int, limit: int) -> None:
        """As `Tables.purge_responses`, of this namespace, and of popped messages too if it has kept any."""
        earlier = self._changed.purge
        self._changed.purge = before, limit + (0 if earlier is None else earlier[1])
        if self._has_popped:
            self._run("purge_popped", self._namespace, before, limit)
            self._has_popped = False

    def sweep_responses(self, before: int, limit: int) -> int:
        return int(self._one("sweep_responses", before, limit))

    def keep_popped(
        self, namespace: NamespaceId, upto: int, version: int, session: str, created: int, messages: str
    ) -> None:
        self._has_popped = True
        super().keep_popped(namespace, upto, version, session, created, messages)

    def add_journal_block(self, _namespace: NamespaceId, version: int, since: int, records: str, _keep: int) -> None:
        """As `Tables.add_journal_block`. The statement that writes the blocks drops the oldest ones."""
        blocks = self._changed.blocks
        place = len(blocks) + 1
        self._change(blocks, place, {"place": place, "version": version, "since": since, "records": records})

    def held_vector_bytes(self, namespace: NamespaceId) -> int:
        return super().held_vector_bytes(namespace) if self._has_vectors else 0

    def entries_to_index(self, namespace: NamespaceId, keys: Sequence[str], most: int) -> list[EntryToIndex]:
        rows = self._run("entries_to_index", namespace, as_json(keys), most)
        return [(*head, text if data is None else data) for *head, text, data in rows]

    def messages_to_index(self, places: Sequence[int], most: int) -> list[tuple[int, str | None]]:
        return self._run("messages_to_index", self._namespace, as_json(places), most)

    def new_entry_text(self, _namespace: NamespaceId, key: str, version: int) -> int:
        self._entry_texts_ever += 1
        text = self._entry_texts_ever
        if text > LAST_SEQ:
            first = text & LAST_SEQ
            text = self._free_number("free_entry_text", first, LAST_SEQ, self._namespace)
            self._entry_texts_ever += (text - first) % (LAST_SEQ + 1)
        self.renew_entry_text(text, key, version)
        return text

    def renew_entry_text(self, text: int, key: str, version: int) -> None:
        self._changed.texts[text] = {"id": text, "key": key, "version": version}

    def add_text(self, _namespace: NamespaceId, text: int, terms: str, *, replace: bool = False) -> None:
        del replace
        self._changed.texts[text] = {"id": text, **(self._changed.texts.get(text) or {}), "terms": terms}

    def delete_entry_text(self, text: int) -> int:
        self._changed.texts[text] = None
        return 1

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> int:
        return self._change_now("delete_texts_of_entries", namespace, prefix, end or end_of(prefix))

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int:
        start = session << SEQ_BITS
        return self._change_now("delete_texts", self._namespace, start + after + 1, start + last)

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        return self._change_now("delete_some_texts_of_entries", namespace, limit, vectors="delete_some_entry_vectors")

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        start = session << SEQ_BITS
        values = self._namespace, start, start + last, limit
        return self._change_now("delete_some_texts", *values, vectors="delete_some_message_vectors")

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        items = [(item.key, item.version, _array(item.vector)) for item in vectors]
        return self._keep_vectors("keep_entry_vectors", namespace, as_json(items), model)

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        items = [(item.session, item.id, item.version, _array(item.vector)) for item in vectors]
        return self._keep_vectors("keep_message_vectors", namespace, as_json(items), model)

    def _keep_vectors(self, name: str, *values: object) -> int:
        # The statement counts the bytes in the row of the namespace, so that must exist.
        self._create_state()
        self._has_vectors = True
        return self._change_now(name, *values)


def _array(vector: bytes) -> str:
    """Return a vector as an array of PostgreSQL."""
    return f"{{{numbers_of(vector)}}}"
