"""The journal: the last changes of each namespace, for watchers.

A change is a record on one line: the version, and what changed. Values are not in it. The newest records are in the
namespace's state, which every write updates anyway. When they exceed a limit, they move to a block of their own, and the
oldest block is dropped. So a write costs almost nothing more, and a namespace keeps some 40,000 changes with short keys.

Every version has a record, and the last record has the namespace's version. If one is missing, an older botwire that has
no journal wrote to the namespace, and no change after that point is delivered.

Kinds of records: ``s`` key set, ``d`` deleted, ``x`` expired, ``c`` prefix cleared; ``a`` messages appended, ``p`` popped, ``e`` one
edited; of a session ``b`` what is known about it, ``m`` its summary changed, ``k`` it expired; ``r`` rules were set.
Neither keys nor session names contain line breaks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from ...errors import ChangesLost
from ...queries import ListChanges
from ...records import Change, Changes, Message, Progress
from ...values import Stored, size
from .session_tables import is_detached
from .tables import NamespaceId, NamespaceState, ReadTables, Tables, as_json

BLOCK_CHARS = 900
"""The most characters of the records in a state, and of a block. A row of a quarter page needs no overflow page."""
BLOCKS = 1_000
"""Blocks that are kept for each namespace."""
BLOCKS_AT_ONCE = 16
"""Blocks that one query reads."""
BYTES_AT_ONCE = 1 << 20
"""Bytes of values after which a read returns."""

SET, DELETED, EXPIRED, CLEARED, POPPED = "s", "d", "x", "c", "p"
EDITED, ABOUT, SUMMARY, SESSION_EXPIRED, RULES = "e", "b", "m", "k", "r"
_OF_SESSIONS = frozenset({POPPED, EDITED, ABOUT, SUMMARY})


def record_append(state: NamespaceState, session: int, first: int, last: int) -> None:
    """Record that messages were appended. Each of them is a change; records that follow each other become one line."""
    state.version += last - first + 1
    start = state.recent.rfind("\n", 0, -1) + 1
    _, _, previous = state.recent[start:-1].partition(" ")
    if previous.startswith(f"a{session} "):
        _, earliest, latest = previous.split(" ")
        if int(latest) + 1 == first:
            state.recent = f"{state.recent[:start]}{state.version} a{session} {earliest} {last}\n"
            return
    state.recent += f"{state.version} a{session} {first} {last}\n"


def move_to_blocks(tables: Tables, state: NamespaceState) -> None:
    """Move the records in a state into blocks, apart from the last ones."""
    assert state.id is not None
    recent, start = state.recent, 0
    while len(recent) - start > BLOCK_CHARS:
        end = recent.rindex("\n", start, start + BLOCK_CHARS) + 1  # a record is shorter than a block
        block = recent[start:end]
        since = Record.of(block[: block.index("\n")]).since
        tables.add_journal_block(state.id, last_version(block), since, block, BLOCKS)
        start = end
    state.recent = recent[start:]
    ids, names = sessions_in(recent[:start])
    if ids or names:
        tables.settle_sessions(state.id, as_json(ids), as_json(names))


def sessions_in(records: str) -> tuple[list[int], list[str]]:
    """Return the sessions that records name: numbers of those with new messages, and names of others."""
    ids: dict[int, None] = {}
    names: dict[str, None] = {}
    for record in records_in(records):
        if record.kind == "a":
            ids[int(record.name)] = None
        elif record.kind in _OF_SESSIONS:
            names[record.name] = None
    return list(ids), list(names)


class Record(NamedTuple):
    """A record. ``name`` is a key, a prefix, a session name, or for appended messages the session's number.

    ``first`` and ``last`` are seqs of appended messages. For a shortened session ``first`` is how many messages are left, for an
    edited message it is the seq.
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
        if kind in {POPPED, EDITED}:
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
    """Return the version of a namespace, and in how many seconds something in it may expire."""
    found = tables.get_progress(namespace)
    if found is None:
        return Progress(0, math.inf)
    version, expires = found
    return Progress(version, math.inf if expires is None else (expires - now) / 1_000_000)


def changes_after(tables: ReadTables, namespace: str, query: ListChanges, now: int) -> Changes:
    """Answer a query for changes. The reads need not see one snapshot.

    The state is read first. A later change is not in its records. If an entry has another version by now, or a message was
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
    found: list[Change] = []
    room, read = BYTES_AT_ONCE, after
    for read, change, stored in _changes(tables, namespace, id_, query, now, list(_in_order(records, after))):  # noqa: B007
        if change is not None:
            found.append(change)
            room -= size(stored)
        if len(found) >= query.limit or room < 0:
            break
    if read == after:
        raise _lost(namespace, after, version)
    return Changes(found, read)


def _earlier(tables: ReadTables, namespace: str, id_: NamespaceId, after: int, version: int) -> list[Record]:
    blocks = tables.journal_blocks(id_, after, BLOCKS_AT_ONCE)
    if not blocks or blocks[0][0] > after:  # dropped since the state was read
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


def _changes(
    tables: ReadTables, namespace: str, id_: NamespaceId, query: ListChanges, now: int, records: list[Record]
) -> Iterator[tuple[int, Change | None, Stored]]:
    """Return for each record its version, and the change that the query asks for, if any, with its value."""
    pops: dict[str, list[Record]] = {}
    for record in records:
        if record.kind in {POPPED, SESSION_EXPIRED}:  # an expired session has no messages left
            pops.setdefault(record.name, []).append(record)
    for record in records:
        name, version = record.name, record.version
        change: Change | None = None
        stored: Stored = ""
        match record.kind:
            case "a":
                yield from _appended(tables, id_, query, record, pops)
            case "p" if query.wants_session(name):
                change = Change(version=version, kind="pop", session=name, left=record.first)
            case "e" if query.wants_session(name):
                message = _edited(tables, namespace, record, pops.get(name, ()))
                if message is not None:
                    change, stored = Change(version=version, kind="edit", session=name, message=message), message.stored
            case "b" | "m" | "k" if query.wants_session(name):
                change = Change(version=version, kind=_KINDS[record.kind], session=name)
            case "c" if query.entries and (name.startswith(query.prefix) or query.prefix.startswith(name)):
                change = Change(version=version, kind="clear", prefix=name)
            case "d" | "x" if query.entries and name.startswith(query.prefix):
                change = Change(version=version, kind="delete" if record.kind == DELETED else "expire", key=name)
            case "s" if query.entries and name.startswith(query.prefix):
                entry = tables.get_entry(namespace, name, now)
                if entry is not None and entry.version == version:
                    change, stored = Change(version=version, kind="set", key=name, entry=entry), entry.stored
        yield version, change, stored


_KINDS: Mapping[str, Literal["about", "summary", "expire"]] = {
    ABOUT: "about",
    SUMMARY: "summary",
    SESSION_EXPIRED: "expire",
}


def _edited(tables: ReadTables, namespace: str, record: Record, pops: Iterable[Record]) -> Message | None:
    """Return a message that was edited, as it is now; None: it was deleted since."""
    if any(pop.version > record.version and pop.first < record.first for pop in pops):
        return None  # another may have been appended in its place
    found = tables.find_session(namespace, record.name)
    if found is None or found.last < record.first:
        return None
    messages = tables.list_messages(found.id, record.first - 1, record.first, 1)
    return messages[0] if messages and messages[0].edited is not None else None


def _appended(
    tables: ReadTables, namespace: NamespaceId, query: ListChanges, record: Record, pops: dict[str, list[Record]]
) -> Iterator[tuple[int, Change, Stored]]:
    session = int(record.name)
    name = tables.session_name(namespace, session)
    if name is None or is_detached(name) or not query.wants_session(name):
        return
    offset = record.version - record.last
    # A later pop may have removed some, and others may have been appended in their place since.
    last = min([record.last, *(pop.first for pop in pops.get(name, ()) if pop.version > record.version)])
    first = max(record.since, query.after or 0) - offset
    while first < last and (page := tables.list_messages(session, first, last, query.limit, BYTES_AT_ONCE)):
        for message in page:
            version = offset + message.seq
            yield version, Change(version=version, kind="append", session=name, message=message), message.stored
        first = page[-1].seq
