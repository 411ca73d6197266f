"""Copy between any two stores while the source is in use.

Data that the target already has is compared and left unchanged. So an interrupted copy resumes when it is run again, and a
second copy transfers only what has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import Conflict, StoreError
from ..limits import check_namespace
from ..operations import Append, Delete, Forget, NewMessage
from ..queries import GetUsage, ListMessages
from ..records import Entry, Message
from ..store import OperatedStore, Store
from ..values import size
from .walk import Batch, Progress, list_entries, list_messages, list_namespaces, list_sessions

_SAME_EXPIRY = 5_000_000
"""Allowed difference of an expiry, in microseconds: a server receives a time to live, not a time."""


@dataclass
class Report:
    """The result of a copy; ``written`` counts the entries and messages that were new."""

    namespaces: int = 0
    entries: int = 0
    messages: int = 0
    written: int = 0
    checksum: str = ""


def copy(
    source: Store,
    target: Store,
    *,
    namespaces: Iterable[str] = (),
    replace: bool = False,
    progress: Progress = lambda _, __: None,
) -> Report:
    """Copy namespaces, and check with checksums that the target holds what was read.

    Keys, values, sessions, messages, their ids and their order are kept. Times, plans, tokens and claims are kept too, unless
    one side is a server. Entries get new versions. Other clients can write to the source at the same time; the next
    copy transfers what this one misses. A copy does not count toward the daily quota, unless the target is a server.

    Args:
        source: the store to copy from; it is only read.
        target: the store to copy to.
        namespaces: the names; empty: all, which a server lists only for its operator.
        replace: delete data in these namespaces of the target that the source does not have, or has in another form.
        progress: called with the bytes done and the total.

    Raises:
        Conflict: the target has data in one of the namespaces that the source does not have.
        StoreError: the target does not hold the copied data.
    """
    names = list(map(check_namespace, namespaces)) or list(list_namespaces(source, target))
    total = sum(source.read(name, GetUsage()).bytes for name in names)
    report, checksum, done = Report(namespaces=len(names)), hashlib.sha256(), 0
    for name in names:
        walk = _Walk(source, target, name, report, replace)
        for length in walk.steps():
            done += length
            progress(min(done, total), total)
        checksum.update(walk.check())
        _copy_plan(source, target, name)
    progress(total, total)
    report.checksum = checksum.hexdigest()
    return report


def checksum_of(store: Store, namespace: str) -> bytes:
    """Return a checksum (SHA-256) of the keys, values, sessions and messages of a namespace, without entries that expire."""
    total = _Sum()
    for entry in list_entries(store, namespace):
        total.add_entry(entry)
    for session in list_sessions(store, namespace):
        digest = hashlib.sha256()
        for page in list_messages(store, namespace, session):
            _add_messages(digest, page)
        total.add_session(session, digest)
    return total.digest()


class _Sum:
    """A running checksum. Entries come in order. Sessions come in any order, so the checksum of each is added as a number."""

    def __init__(self) -> None:
        self._entries = hashlib.sha256()
        self._sessions = 0

    def add_entry(self, entry: Entry) -> None:
        if entry.expires is None:
            stored = b"b" + entry.stored if isinstance(entry.stored, bytes) else b"j" + entry.stored.encode()
            _add(self._entries, entry.key.encode(), stored)

    def add_session(self, name: str, messages: hashlib._Hash) -> None:
        _add(one := hashlib.sha256(), name.encode(), messages.digest())
        self._sessions = (self._sessions + int.from_bytes(one.digest())) % (1 << 256)

    def digest(self) -> bytes:
        total = self._entries.copy()
        _add(total, self._sessions.to_bytes(32))
        return total.digest()


def _add(total: hashlib._Hash, *parts: bytes) -> None:
    for part in parts:
        total.update(len(part).to_bytes(8))
        total.update(part)


def _add_messages(total: hashlib._Hash, messages: Sequence[Message]) -> None:
    _add(total, *(part.encode() for message in messages for part in (message.id, message.stored)))


@dataclass
class _Walk:
    """One pass through a namespace that copies what the target does not have."""

    _source: Store
    _target: Store
    _namespace: str
    _report: Report
    _replace: bool

    def __post_init__(self) -> None:
        self._batch = Batch(self._target, self._namespace)
        self._sum = _Sum()

    def steps(self) -> Iterator[int]:
        """Run; yields the number of bytes done."""
        yield from self._walk_entries()
        yield from self._walk_sessions()
        self._batch.flush()

    def check(self) -> bytes:
        """Return the checksum of the target, or raise `StoreError` if it is not that of what was read."""
        found = checksum_of(self._target, self._namespace)
        if found != self._sum.digest():
            raise StoreError(
                f"{self._target.address} does not hold the data copied to namespace {self._namespace!r}: another client may be "
                "writing there"
            )
        return found

    def _walk_entries(self) -> Iterator[int]:
        """Compare both sides in the order of their keys."""
        theirs = list_entries(self._target, self._namespace)
        there = next(theirs, None)
        for entry in list_entries(self._source, self._namespace):
            while there is not None and there.key < entry.key:
                self._remove(there)
                there = next(theirs, None)
            if there is None or there.key != entry.key or _differs(entry, there):
                times = entry.created, entry.updated, entry.expires
                self._batch.add(self._batch.put(entry.key, entry.stored, times))
                self._report.written += 1
            if there is not None and there.key == entry.key:
                there = next(theirs, None)
            self._sum.add_entry(entry)
            self._report.entries += 1
            yield size(entry.key) + size(entry.stored)
        while there is not None:
            self._remove(there)
            there = next(theirs, None)

    def _remove(self, other: Entry) -> None:
        if other.expires is None:  # else it may have expired in the source
            self._refuse_others(f"key {other.key!r}")
        self._batch.add(Delete(other.key))

    def _walk_sessions(self) -> Iterator[int]:
        there = set(list_sessions(self._target, self._namespace))
        names = list_sessions(self._source, self._namespace)
        for other in there.difference(names):
            self._refuse_others(f"session {other!r}")
            self._batch.add(Forget(other))
        for name in names:
            yield from self._walk_messages(name, begun=name in there)

    def _walk_messages(self, session: str, *, begun: bool) -> Iterator[int]:
        digest, seq = hashlib.sha256(), 0
        for theirs in list_messages(self._target, self._namespace, session) if begun else ():
            ours = self._source.read(self._namespace, ListMessages(session, seq, len(theirs)))
            if [(item.id, item.stored) for item in ours] != [(item.id, item.stored) for item in theirs]:
                self._refuse_others(f"session {session!r} with different messages")
                self._batch.add(Forget(session))
                self._report.messages -= seq
                digest, seq = hashlib.sha256(), 0
                break
            seq += len(ours)
            yield self._count(digest, ours)
        for page in list_messages(self._source, self._namespace, session, after=seq):
            for message in page:
                created = message.created if self._batch.keeps_times else None
                self._batch.add(Append(session, (NewMessage(message.id, message.stored, created),)))
            self._report.written += len(page)
            yield self._count(digest, page)
        self._sum.add_session(session, digest)

    def _count(self, digest: hashlib._Hash, messages: Sequence[Message]) -> int:
        _add_messages(digest, messages)
        self._report.messages += len(messages)
        return sum(size(message.id) + size(message.stored) for message in messages)

    def _refuse_others(self, what: str) -> None:
        if not self._replace:
            raise Conflict(
                f"namespace {self._namespace!r} of {self._target.address} has data that the source does not have: {what}. Use --replace "
                "to delete it there, or copy to an empty store"
            )


def _copy_plan(source: Store, target: Store, namespace: str) -> None:
    if isinstance(source, OperatedStore) and isinstance(target, OperatedStore):
        plan = source.read(namespace, GetUsage()).plan
        if plan != target.read(namespace, GetUsage()).plan:
            target.set_plan(namespace, plan)


def _differs(entry: Entry, there: Entry) -> bool:
    if entry.stored != there.stored or (entry.expires is None) != (there.expires is None):
        return True
    return abs((entry.expires or 0) - (there.expires or 0)) > _SAME_EXPIRY
