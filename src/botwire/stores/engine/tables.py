"""What the engine needs of a database: typed reads and changes of its tables.

`Transaction` and the queries never see SQL. They call these methods. Most of them run a statement, which has the same name in
every database but its own text. SQLite runs a statement for each change, PostgreSQL collects the changes in a unit of work
that reads and writes in bulk.

The id of a namespace is whatever the database identifies it by. Sessions have numbers. A message is found by its session and
seq; its *place* is both in one number (`place_of`), which is also its id in the word index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

from ... import timestamps
from ...errors import InvalidArgument, StoreError
from ...limits import MAX_NAME_BYTES
from ...operations import Guard, Vector
from ...records import Entry, Message
from ...values import Stored
from . import bookkeeping, session_tables
from .session_tables import SessionHead as SessionHead  # noqa: PLC0414 - a type of this protocol

NamespaceId: TypeAlias = bookkeeping.NamespaceId
MOST = (1 << 63) - 1
"""The largest number of a column."""
SEQ_BITS = 32
LAST_SEQ = (1 << SEQ_BITS) - 1
"""The most messages of a session, and the largest text id of an entry."""
LAST_SESSION = MOST >> SEQ_BITS
"""The largest number of a session: places are signed 64-bit numbers."""
FIRST_MESSAGE = 1 << SEQ_BITS
"""Text ids from here on are places of messages. Smaller ones belong to entries."""
OFF = "off"
"""`NamespaceState.index_cursor` when nothing is indexed and searches are refused."""
NOT_BEGUN = "entries "
"""`NamespaceState.index_cursor` until the first search. Most namespaces are never searched, so their writes do not pay for an index."""
EntryHead: TypeAlias = tuple[int, int, int | None, int]
"""Version, created, expires and size of the value in bytes of an entry, expired or not."""
EntryRow: TypeAlias = tuple[NamespaceId, str, int, int, int, int | None, Stored]
"""Namespace, key, version, created, updated, expires and value of an entry."""
EntryToIndex: TypeAlias = tuple[str, int | None, int | None, int | None, Stored | None]
"""A key, the text id and version in the index, and the version of the entry, with its value if the versions differ."""

_LONG_LIST = 16_384
"""Characters of a list that takes long to search for each new mark."""
_LAST = "\U0010ffff" * (MAX_NAME_BYTES // 4 + 1)
"""After every possible key."""


def place_of(session: int, seq: int) -> int:
    """Return the place of a message: its session and seq in one number."""
    return session << SEQ_BITS | seq


def end_of(prefix: str) -> str:
    """Return where the range of a prefix ends.

    That is the prefix with its last character raised by one; UTF-8 keeps the order of code points (RFC 3629, section 1).
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return _LAST
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def limit_of(limit: int | None) -> int:
    """Return a limit as the statements take it: -1 for none."""
    return -1 if limit is None else limit


def as_json(items: Sequence[object]) -> str:
    """Return a list as the statements take it."""
    return msgspec.json.encode(items).decode()


@dataclass(slots=True)
class NamespaceState:
    """The usage and state of a namespace: one row, which each transaction reads and writes.

    ``id`` is None until something is stored in the namespace. ``recent`` holds the newest records of the journal
    (`journal.py`). ``pending``, ``index_cursor``, ``texts`` and ``words`` belong to the word index (`word_index.py`).
    ``vectors`` is the bytes of all vectors; the database counts them. ``retention`` and ``sessions_due`` belong to
    `retention.py`: the rules as JSON, and when some sessions may have expired. ``is_system`` is not in the row.
    """

    id: NamespaceId | None
    plan: str | None
    day: int
    writes: int
    bytes: int
    version: int
    expires: int | None
    recent: str = ""
    pending: str = ""
    index_cursor: str | None = None
    texts: int = 0
    words: int = 0
    vectors: int = 0
    retention: str | None = None
    sessions_due: int | None = None
    is_system: bool = False

    @property
    def is_indexed(self) -> bool:
        """Whether the namespace has a word index, which must learn of each write."""
        return self.index_cursor != NOT_BEGUN and self.index_cursor != OFF  # noqa: PLR1714 - a set costs more

    @property
    def held(self) -> int:
        """All bytes that count toward a plan."""
        return self.bytes + self.vectors

    def record(self, change: str) -> None:
        """Count one change, and record it for watchers. The journal defines what a record looks like."""
        self.version += 1
        self.recent += f"{self.version} {change}\n"

    def refuse_if_off(self, namespace: str) -> None:
        """Raise `InvalidArgument` when the index of the namespace is off."""
        if self.index_cursor == OFF:
            raise InvalidArgument(f"namespace {namespace!r} cannot be searched: its index is off")

    def mark_unindexed(self, mark: str) -> None:
        """Add a mark, which is a line, to the list of what the word index does not have yet. A long list may have it twice."""
        if len(self.pending) > _LONG_LIST or not (self.pending.startswith(mark) or f"\n{mark}" in self.pending):
            self.pending += mark


def day_of(day: int, today: int) -> int:
    """Return the day that a namespace's writes count for when the clock may have been set back since.

    The count continues, so no day's writes are granted twice. It never counts for a day after tomorrow, or a clock that was
    once a year ahead would block the namespace for a year.
    """
    return day if day <= today + 1 else today


class ReadTables(session_tables.SessionReads, Protocol):
    """All reads, a statement each. Where a method takes the name of a namespace, the namespace may not exist."""

    def _run(self, name: str, *values: object) -> list[Any]:
        """Run the statement of this name, and return its rows."""

    def _run_within(self, room: int | None, column: int, name: str, *values: object) -> list[Any]:
        """Run a statement for rows within the `room` of a query. The values in one column, counted from 0, fill it."""

    def _first(self, name: str, *values: object) -> Any | None:
        rows = self._run(name, *values)
        return rows[0] if rows else None

    def _value(self, name: str, *values: object) -> Any | None:
        """Run a statement, and return the first column of its first row."""
        rows = self._run(name, *values)
        return rows[0][0] if rows else None

    def _column(self, name: str, *values: object) -> list[Any]:
        """Run a statement, and return the first column of its rows."""
        return [value for (value,) in self._run(name, *values)]

    def _entry(self, row: Sequence[Any]) -> Entry:
        return Entry(*row)

    def _vector(self, vector: bytes) -> object:
        """Return a vector as the statements take it."""
        return vector

    # Entries and sessions. Entries are live ones, which have not expired.

    def get_entry(self, namespace: str, key: str, now: int) -> Entry | None:
        row = self._first("get_entry", namespace, key, now)
        return None if row is None else self._entry(row)

    def get_entries(self, namespace: str, keys: Sequence[str], now: int, room: int | None) -> list[Entry]:
        """Return the live entries among these keys, in the order of the keys."""
        return list(map(self._entry, self._run_within(room, 1, "get_entries", namespace, as_json(keys), now)))

    def list_keys(
        self, namespace: str, prefix: str, after: str, limit: int | None, now: int, room: int | None
    ) -> list[str]:
        """Return live keys with a prefix, those after `after`, in the order of their UTF-8 bytes."""
        values = namespace, prefix, end_of(prefix), after, now, limit_of(limit)
        return [key for (key,) in self._run_within(room, 0, "list_keys", *values)]

    def list_entries(
        self, namespace: str, prefix: str, after: str, limit: int | None, now: int, room: int | None
    ) -> list[Entry]:
        values = namespace, prefix, end_of(prefix), after, now, limit_of(limit)
        return list(map(self._entry, self._run_within(room, 1, "list_entries", *values)))

    def count_entries(self, namespace: str, prefix: str, now: int) -> int:
        return self._value("count_entries", namespace, prefix, end_of(prefix), now) or 0

    def entry_version(self, namespace: str, key: str, now: int) -> int:
        """Return the version of a live entry, 0 if there is none."""
        return self._value("entry_version", namespace, key, now) or 0

    def session_name(self, namespace: NamespaceId, session: int) -> str | None:
        return self._value("session_name", namespace, session)

    def list_messages(
        self, session: int, after: int, last: int, limit: int | None, room: int | None = None
    ) -> list[Message]:
        """Return messages of a session with a seq above `after`, up to `last`, in order."""
        values = place_of(session, after), place_of(session, last), limit_of(limit)
        return [Message(*row) for row in self._run_within(room, 2, "messages_between", *values)]

    # Namespaces

    def list_namespaces(self, after: str, limit: int | None) -> list[str]:
        return self._column("list_namespaces", after, limit_of(limit))

    def get_state(self, namespace: str) -> NamespaceState | None:
        row = self._first("get_state", namespace)
        return None if row is None else NamespaceState(*row)

    def get_version(self, namespace: str) -> int:
        """Return the version of a namespace, 0 if it does not exist."""
        return self._value("get_version", namespace) or 0

    def holds(self, guard: Guard, version: int, now: int) -> bool:
        """Whether a guard holds while its namespace is at a version. The guard remembers a version at which it does.

        Its end is compared with the clock and not with ``now``: a call may have waited, or read for long, since ``now``.
        """
        if guard.until is not None and guard.until <= timestamps.now():
            return False
        if guard.version == version:
            return True
        if any(self.entry_version(guard.namespace, key, now) != wanted for key, wanted in guard.needs):
            return False
        guard.version = version
        return True

    def get_progress(self, namespace: str) -> tuple[int, int | None] | None:
        """Return the version of a namespace, and when something in it may expire next."""
        return self._first("get_progress", namespace)

    def get_journal(self, namespace: str) -> tuple[NamespaceId, int, str] | None:
        """Return id, version and newest journal records of a namespace."""
        return self._first("get_journal", namespace)

    def journal_blocks(self, namespace: NamespaceId, after: int, limit: int) -> list[tuple[int, str]]:
        """Return blocks of the journal that end after a version: the version before each, and its records."""
        return self._run("journal_blocks", namespace, after, limit)

    # Search. Text ids are places of messages, or smaller numbers for entries.

    def count_texts(self, namespace: NamespaceId, terms: Sequence[str]) -> list[tuple[int, int]]:
        """Return, for each term that any text holds, its position in `terms` and about how many texts hold it."""
        return self._run("count_texts", namespace, as_json(terms))

    def texts_with_each(self, namespace: NamespaceId, terms: list[str], low: int, high: int) -> list[tuple[int, int]]:
        """Return a term's position and a text id for each text from `low` to `high` that holds the term."""
        return self._run("texts_with_each", namespace, as_json(terms), low, high)

    def newest_texts_with(self, namespace: NamespaceId, term: str, low: int, high: int, limit: int) -> list[int]:
        """Return ids of texts from `low` to `high` that hold a term, the newest first."""
        return self._column("newest_texts_with", namespace, term, low, high, limit)

    def newest_texts_with_both(
        self, namespace: NamespaceId, term: str, others: Sequence[str], low: int, high: int, limit: int
    ) -> list[int]:
        """Return ids of texts from `low` to `high` that hold a term and one of others, the newest first."""
        return self._column("newest_texts_with_both", namespace, term, as_json(others), low, high, limit)

    def texts_of_entries(self, namespace: NamespaceId, prefix: str, limit: int) -> list[int]:
        """Return ids of texts of entries whose key begins with a prefix."""
        return self._column("texts_of_entries", namespace, prefix, end_of(prefix), limit)

    # These three read in the order of their list, and end with the row whose values fill `room` bytes.

    def messages_at(self, namespace: NamespaceId, places: Sequence[int], room: int) -> list[tuple[int, str, Message]]:
        """Return place, session name and message for each of these places that has one."""
        rows = self._run_within(room, 4, "messages_at", namespace, as_json(places))
        return [(place, session, Message(*row)) for place, session, *row in rows]

    def entries_at(self, namespace: NamespaceId, texts: Sequence[int], now: int, room: int) -> list[tuple[int, Entry]]:
        """Return text id and entry for each text that is indexed at the current version of a live entry."""
        rows = self._run_within(room, 2, "entries_at", namespace, as_json(texts), now)
        return [(text, Entry(*row)) for text, *row in rows]

    def entries_named(self, namespace: NamespaceId, keys: Sequence[str], now: int, room: int) -> list[Entry]:
        return list(map(self._entry, self._run_within(room, 1, "entries_named", namespace, as_json(keys), now)))

    def nearest_messages(
        self, namespace: NamespaceId, first: int, last: int, model: str, vector: bytes, limit: int
    ) -> list[tuple[int, float | None]]:
        """Return place and cosine distance of the messages nearest to a vector, in sessions numbered `first` to `last`."""
        return self._run("nearest_messages", namespace, first, last, model, self._vector(vector), limit)

    def nearest_entries(
        self, namespace: NamespaceId, prefix: str, model: str, vector: bytes, limit: int, now: int
    ) -> list[tuple[str, float | None]]:
        """Return key and cosine distance of the live entries nearest to a vector."""
        values = namespace, prefix, end_of(prefix), model, self._vector(vector), limit, now
        return self._run("nearest_entries", *values)

    def entries_without_vector(
        self, namespace: NamespaceId, model: str, after: str, limit: int, now: int, room: int
    ) -> list[tuple[str, int, Stored]]:
        """Return key, version and value of live entries after a key that have no vector of a model, in order."""
        return self._run_within(room, 2, "entries_without_vector", namespace, model, after, now, limit)

    def messages_without_vector(
        self, namespace: NamespaceId, model: str, after: int, limit: int, room: int
    ) -> list[tuple[int, str, str, int, str]]:
        """Return place, session, id, version and data of messages after a place that have no vector of a model."""
        values = namespace, model, after >> SEQ_BITS, after, limit
        return self._run_within(room, 4, "messages_without_vector", *values)


class Tables(ReadTables, bookkeeping.Bookkeeping, session_tables.SessionTables, Protocol):
    """Everything that a transaction does. Its caller has begun the transaction and will commit it."""

    def _one(self, name: str, *values: object) -> Any:
        """Run a statement that returns one row, and return its first column."""
        (value,) = self._column(name, *values)
        return value

    def savepoint(self) -> None:
        """Remember this state for `undo`."""

    def release(self) -> None:
        """Keep the changes since `savepoint`."""

    def undo(self) -> None:
        """Undo the changes since `savepoint`."""

    # The state

    def new_state(self, namespace: str, day: int) -> NamespaceId:
        """Create a namespace that has no index; returns its id."""
        return int(self._one("new_state", namespace, day))

    def set_state(self, state: NamespaceState) -> None:
        """Write a state back, without its plan and without the bytes of vectors."""

    def set_plan(self, namespace: NamespaceId, plan: str | None) -> None:
        self._run("set_plan", namespace, plan)

    # The journal

    def add_journal_block(self, namespace: NamespaceId, version: int, since: int, records: str, keep: int) -> None:
        """Add a block of the journal, from after version `since` to `version`, unless it exists; keep the last blocks."""

    # Entries, expired or not

    def peek_entry(self, namespace: NamespaceId, key: str) -> EntryHead | None:
        """Return the head of an entry."""

    def peek_value(self, namespace: NamespaceId, key: str) -> Stored:
        """Return the value of an entry that `peek_entry` has found."""
        stored: Stored = self._one("peek_value", namespace, key)
        return stored

    def put_entry(self, row: EntryRow) -> None:
        """Set an entry, new or not."""

    def delete_entry(self, namespace: NamespaceId, key: str) -> None:
        self._run("delete_entry", namespace, key)

    def measure_entries(self, namespace: NamespaceId, prefix: str, now: int) -> tuple[int, int, int]:
        """Return how many entries have a prefix, how many of them are live, and the bytes of keys and values of all."""
        return self._first("measure_entries", namespace, prefix, end_of(prefix), now) or (0, 0, 0)

    def has_more_entries(self, namespace: NamespaceId, prefix: str, count: int) -> bool:
        """Whether more entries than this have a prefix, expired or not."""
        return bool(self._run("has_more_entries", namespace, prefix, end_of(prefix), count))

    def first_entries(self, namespace: NamespaceId, prefix: str, now: int, limit: int) -> list[tuple[str, int, bool]]:
        """Return the first keys with a prefix, the bytes of key and value of each, and whether it is live."""
        return self._run("first_entries", namespace, prefix, end_of(prefix), now, limit)

    def delete_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> None:
        """Remove the entries with a prefix, those before the key `end` only, if one is given."""
        self._run("delete_entries", namespace, prefix, end or end_of(prefix))

    def find_expired(self, namespace: NamespaceId, now: int, limit: int | None) -> list[tuple[str, int]]:
        """Return keys of expired entries, and the bytes of key and value of each."""
        return self._run("find_expired", namespace, now, limit_of(limit))

    def first_expiry(self, namespace: NamespaceId) -> int | None:
        return self._value("first_expiry", namespace)

    # Sessions

    def new_session(self, namespace: NamespaceId, name: str, created: int, version: int) -> int:
        """Create a session without messages; returns its number. Numbers rise up to `LAST_SESSION`, then free ones are used again."""

    def _first_free(self, statement: str, *values: object) -> int | None:
        return self._value(statement, *values)

    def _free_number(self, statement: str, first: int, last: int, *of: object) -> int:
        """Return a number that no row has: the next from `first` on, or else from 1 on."""
        for start in (max(first, 1), 1):
            free = self._first_free(statement, *of, start, last)
            if free is not None:
                return int(free)
        raise StoreError(f"all {last:,} numbers are in use; nothing was written. Delete sessions, or indexed entries")

    def set_session(self, session: int, last: int, size: int, updated: int) -> None:
        """Set last seq, bytes and time of a session."""
        self._run("set_session", session, last, size, updated)

    def delete_session(self, session: int) -> None:
        """Remove a session that has no messages, and its details."""
        self._run("delete_session", session)

    def add_message(self, session: int, seq: int, id_: str, created: int, data: str) -> bool:
        """Add a message unless the session has one of this id; returns whether it was added."""

    def seq_of_message(self, session: int, id_: str) -> int:
        """Return the seq of a message that `add_message` has refused."""
        return int(self._one("seq_of_message", session, id_))

    def last_messages(self, session: int, last: int, limit: int) -> list[tuple[int, int]]:
        """Return the seqs of the messages up to `last`, the newest first, and the bytes of id and data of each."""
        return self._run("last_messages", place_of(session, 0), place_of(session, last), limit)

    def delete_messages(self, session: int, after: int, last: int) -> None:
        """Remove messages with a seq above `after`, up to `last`."""
        self._run("delete_messages", place_of(session, after), place_of(session, last))

    # The word index

    # These two begin with the first key or place, and end after `most` bytes of values.

    def entries_to_index(self, namespace: NamespaceId, keys: Sequence[str], most: int) -> list[EntryToIndex]:
        """Return what the index must compare of the entry under each key."""
        return self._run_within(most, 4, "entries_to_index", namespace, as_json(keys))

    def messages_to_index(self, places: Sequence[int], most: int) -> list[tuple[int, str | None]]:
        """Return each place with the data of its message, None if there is none or it is in the index."""
        return self._run_within(most, 1, "messages_to_index", as_json(places))

    def keys_to_index(self, namespace: NamespaceId, after: str, limit: int) -> list[str]:
        """Return keys after a key, expired ones too."""
        return self._column("keys_to_index", namespace, after, limit)

    def sessions_from(self, namespace: NamespaceId, first: int, limit: int) -> list[tuple[int, int]]:
        """Return number and last seq of sessions from a number on."""
        return self._run("sessions_from", namespace, first, limit)

    def new_entry_text(self, namespace: NamespaceId, key: str, version: int) -> int:
        """Record that an entry is indexed at a version; returns its text id, at most `LAST_SEQ`."""

    def renew_entry_text(self, text: int, key: str, version: int) -> None:
        """Record that an entry is indexed at another version."""
        self._run("renew_entry_text", text, key, version)

    def add_text(self, namespace: NamespaceId, text: int, terms: str, *, replace: bool = False) -> None:
        """Index a text by its terms, which are separated by spaces; `replace`: it is in the index already."""
        self._run("replace_text" if replace else "add_text", namespace, text, terms)

    # Each of these returns how many texts it removed from the index.

    def delete_entry_text(self, text: int) -> int: ...

    def delete_texts_of_entries(self, namespace: NamespaceId, prefix: str, end: str | None) -> int: ...

    def delete_texts_of_messages(self, session: int, after: int, last: int) -> int: ...

    def empty_entries(self, namespace: NamespaceId, limit: int) -> int:
        """Remove some texts and vectors of entries; returns the largest number that one table had, up to `limit`."""

    def empty_messages(self, session: int, last: int, limit: int) -> int:
        """As `empty_entries`, for the messages of a session."""

    # Vectors. A text has at most one, which is removed with the text: in SQLite by triggers, in PostgreSQL by statements of the
    # same transaction. A process that writes and deletes needs no extension of SQLite: sqlite-vec only computes distances.

    def keep_entry_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        """Store vectors of those entries that are still at their version, replacing others; returns how many."""

    def keep_message_vectors(self, namespace: NamespaceId, vectors: Sequence[Vector], model: str) -> int:
        """Store vectors of those messages that are still there, replacing others; returns how many."""

    def vector_bytes(self, namespace: NamespaceId) -> int:
        """Return the bytes of all vectors of a namespace, as the database counts them."""
        return self._value("get_vector_bytes", namespace) or 0
