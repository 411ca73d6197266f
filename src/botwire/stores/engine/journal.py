"""The journal: the last changes of each namespace, for watchers.

A change is a record on one line: the version, and what changed. Values are not in it. The newest records are in the
namespace's account, which every write updates anyway. When they exceed a limit, they move to a block of their own, and the
oldest block is dropped. So a write costs almost nothing more, and a namespace keeps some 40,000 changes with short keys.

Every version has a record, and the last record has the namespace's version. If one is missing, an older botwire that has
no journal wrote to the namespace, and no change after that point is delivered.

Kinds of records: ``s`` key set, ``d`` deleted, ``x`` expired, ``c`` prefix cleared, ``a`` messages appended, ``p`` popped.
Neither keys nor session names contain line breaks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ...errors import ChangesLost
from ...queries import ListChanges
from ...records import Change, Changes, Progress
from ...values import Stored, size
from .tables import Account, NamespaceId, ReadTables, Tables

BLOCK_CHARS = 900
"""The most characters of the records in an account, and of a block. A row of a quarter page needs no overflow page."""
BLOCKS = 1_000
"""Blocks that are kept for each namespace."""
BLOCKS_AT_ONCE = 16
"""Blocks that one read looks through."""
BYTES_AT_ONCE = 1 << 20
"""Bytes of values after which a read returns."""

SET, DELETED, EXPIRED, CLEARED = "s", "d", "x", "c"


def record_append(account: Account, session: int, first: int, last: int) -> None:
    """Record that messages were appended. Each of them is a change; records that follow each other become one line."""
    account.version += last - first + 1
    start = account.recent.rfind("\n", 0, -1) + 1
    _, _, previous = account.recent[start:-1].partition(" ")
    if previous.startswith(f"a{session} "):
        _, earliest, latest = previous.split(" ")
        if int(latest) + 1 == first:
            account.recent = f"{account.recent[:start]}{account.version} a{session} {earliest} {last}\n"
            return
    account.recent += f"{account.version} a{session} {first} {last}\n"


def record_pop(account: Account, name: str, left: int) -> None:
    """Record that a session was shortened to its first messages."""
    account.record(f"p{left} {name}")


def move_to_blocks(tables: Tables, account: Account) -> None:
    """Move the records in an account into blocks, apart from the last ones."""
    assert account.id is not None
    recent, start = account.recent, 0
    while len(recent) - start > BLOCK_CHARS:
        end = recent.rindex("\n", start, start + BLOCK_CHARS) + 1  # a record is shorter than a block
        block = recent[start:end]
        since = Record.of(block[: block.index("\n")]).since
        tables.add_journal_block(account.id, last_version(block), since, block, BLOCKS)
        start = end
    account.recent = recent[start:]


class Record(NamedTuple):
    """A record. ``name`` is a key, a prefix, a session name, or for appended messages the session's number.

    ``first`` and ``last`` are seqs of appended messages. For a shortened session ``first`` is how many messages are left.
    """

    version: int
    kind: str
    name: str
    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, text: str) -> Record:
        """Return the record on a line."""
        number, _, change = text.partition(" ")
        version, kind, rest = int(number), change[:1], change[1:]
        if kind == "a":
            session, first, last = rest.split(" ")
            return cls(version, kind, session, int(first), int(last))
        if kind == "p":
            left, _, name = rest.partition(" ")
            return cls(version, kind, name, int(left))
        return cls(version, kind, rest)

    @property
    def since(self) -> int:
        """The version before this record."""
        return self.version - 1 - (self.last - self.first if self.kind == "a" else 0)


def last_version(records: str) -> int:
    """Return the version of the last record."""
    return int(records[records.rfind("\n", 0, -1) + 1 :].partition(" ")[0])


def records_in(text: str) -> list[Record]:
    """Return the records in a text."""
    return [Record.of(line) for line in text.split("\n")[:-1]]


def progress(tables: ReadTables, namespace: str, now: int) -> Progress:
    """Return the version of a namespace, and in how many seconds its next entry expires."""
    found = tables.get_progress(namespace)
    if found is None:
        return Progress(0, math.inf)
    version, expires = found
    return Progress(version, math.inf if expires is None else (expires - now) / 1_000_000)


def changes_after(tables: ReadTables, namespace: str, query: ListChanges, now: int) -> Changes:
    """Answer a query for changes. The reads need not see one snapshot.

    The account is read first. A later change is not in its records. If an entry has another version by now, or a message was
    removed, a later record says so.
    """
    id_, version, recent = tables.get_journal(namespace) or (0, 0, "")
    after = query.after
    if after is None or after == version:
        return Changes([], version)
    if after > version or not recent or last_version(recent) != version:
        raise _lost(namespace, after, version)
    records = records_in(recent)
    if records[0].since > after:
        records = [*_earlier(tables, namespace, id_, after, version), *records]
    found = _Reading(tables, namespace, query, now).read(list(_in_order(records, after)), after)
    if found.version == after:
        raise _lost(namespace, after, version)
    return found


def _earlier(tables: ReadTables, namespace: str, id_: NamespaceId, after: int, version: int) -> list[Record]:
    blocks = tables.journal_blocks(id_, after, BLOCKS_AT_ONCE)
    if not blocks or blocks[0][0] > after:  # dropped since the account was read
        raise _lost(namespace, after, version)
    return [record for _, block in blocks for record in records_in(block)]


def _in_order(records: Iterable[Record], after: int) -> Iterator[Record]:
    """Leave out records up to `after`, and stop at a gap: its block was not read, or does not exist."""
    for record in records:
        if record.version > after:
            if record.since > after:
                return
            after = record.version
            yield record


def _lost(namespace: str, after: int, version: int) -> ChangesLost:
    return ChangesLost(
        f"some changes of namespace {namespace!r} after version {after} are no longer kept; it is at version {version}. "
        "Read everything again, and watch from there",
        version=version,
    )


class _Reading:
    """Turns records into changes until the query's limit or the byte limit is reached."""

    def __init__(self, tables: ReadTables, namespace: str, query: ListChanges, now: int) -> None:
        self._tables = tables
        self._namespace = namespace
        self._query = query
        self._now = now
        self._found: list[Change] = []
        self._room = BYTES_AT_ONCE
        self._left: dict[str, list[tuple[int, int]]] = {}

    def read(self, records: list[Record], after: int) -> Changes:
        for record in records:
            if record.kind == "p":
                self._left.setdefault(record.name, []).append((record.version, record.first))
        for record in records:
            if self._is_full():
                break
            after = self._read(record, max(after, record.since))
        return Changes(self._found, after)

    def _is_full(self) -> bool:
        return len(self._found) >= self._query.limit or self._room < 0

    def _add(self, change: Change, stored: Stored = "") -> None:
        self._found.append(change)
        self._room -= size(stored)

    def _read(self, record: Record, after: int) -> int:
        """Add the changes of a record; return the version up to which all changes are added."""
        query, name, version = self._query, record.name, record.version
        match record.kind:
            case "a":
                return self._read_messages(record, after)
            case "p" if query.wants_session(name):
                self._add(Change(version=version, kind="pop", session=name, left=record.first))
            case kind if kind == CLEARED and query.entries:
                if name.startswith(query.prefix) or query.prefix.startswith(name):
                    self._add(Change(version=version, kind="clear", prefix=name))
            case kind if kind in {DELETED, EXPIRED} and query.entries and name.startswith(query.prefix):
                self._add(Change(version=version, kind="delete" if kind == DELETED else "expire", key=name))
            case kind if kind == SET and query.entries and name.startswith(query.prefix):
                entry = self._tables.get_entry(self._namespace, name, self._now)
                if entry is not None and entry.version == version:
                    self._add(Change(version=version, kind="set", key=name, entry=entry), entry.stored)
        return version

    def _read_messages(self, record: Record, after: int) -> int:
        session = int(record.name)
        name = self._tables.session_name(session)
        if name is None or not self._query.wants_session(name):
            return record.version
        offset = record.version - record.last
        # A later pop may have removed some, and others may have been appended in their place since.
        later = (left for version, left in self._left.get(name, ()) if version > record.version)
        last = min([record.last, *later])
        limit = self._query.limit - len(self._found)
        for message in self._tables.list_messages(session, after - offset, last, limit):
            version = offset + message.seq
            self._add(Change(version=version, kind="append", session=name, message=message), message.stored)
            if self._is_full():
                return version
        return record.version
