"""Read changes from the journal: records become changes with the values that are stored now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ...errors import ChangesLost
from ...queries import ListChanges
from ...records import Change, Changes, Progress
from ...values import Stored, size
from .account import NamespaceId
from .journal import CLEARED, DELETED, EXPIRED, SET, Record, last_version, records_in
from .tables import ReadTables

BLOCKS_AT_ONCE = 16
"""Blocks that one read looks through."""
BYTES_AT_ONCE = 1 << 20
"""Bytes of values after which a read returns."""


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
