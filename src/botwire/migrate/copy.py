"""Copy between any two stores while the source is in use.

Data that the target already has is compared and left unchanged. So an interrupted copy resumes when it is run again, and a
second copy transfers only what has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import Conflict, StoreError
from ..limits import check_namespace
from ..operations import Append, Delete, Forget, NewMessage, Operation, Put
from ..queries import GetUsage, ListMessages
from ..records import Entry, Message
from ..store import Store
from ..timestamps import now
from ..values import size
from .walk import BYTES, OPERATIONS, _entries, _is_server, _namespaces, _pages_of_messages, _sessions

_SAME_EXPIRY = 5_000_000
"""Allowed difference of an expiry, in microseconds: a server receives a time to live, not a time."""

Progress = Callable[[int, int], None]


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
    copy transfers what this one misses.

    Args:
        source: the store to copy from; it is only read.
        target: the store to copy to. A copy does not count toward the daily quota, unless the target is a server.
        namespaces: the names; empty: all, which a server lists only for its operator.
        replace: delete data in these namespaces of the target that the source does not have, or has in another form.
        progress: called with the bytes done and the total.

    Raises:
        Conflict: the target has data in one of the namespaces that the source does not have.
        StoreError: the target does not hold the copied data.
    """
    names = list(map(check_namespace, namespaces)) or list(_namespaces(source, target))
    total = sum(source.read(name, GetUsage()).bytes for name in names)
    report, checksum, done = Report(), hashlib.sha256(), 0
    for name in names:
        walk = _Walk(source, target, name, replace=replace)
        for length in walk.steps():
            done += length
            progress(min(done, total), total)
        found = checksum_of(target, name)
        if found != walk.sum.digest():
            raise StoreError(
                f"{target.address} does not hold the data copied to namespace {name!r}: another client may be writing there"
            )
        _copy_plan(source, target, name)
        checksum.update(found)
        report.namespaces += 1
        report.entries += walk.entries
        report.messages += walk.messages
        report.written += walk.written
    progress(total, total)
    report.checksum = checksum.hexdigest()
    return report


def checksum_of(store: Store, namespace: str) -> bytes:
    """Return a checksum (SHA-256) of the keys, values, sessions and messages of a namespace, without entries that expire."""
    total = _Sum()
    for entry in _entries(store, namespace):
        total.add_entry(entry)
    for session in _sessions(store, namespace):
        digest = hashlib.sha256()
        for page in _pages_of_messages(store, namespace, session):
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
            kind = b"b" if isinstance(entry.stored, bytes) else b"j"
            _add(self._entries, entry.key.encode(), kind + _bytes(entry.stored))

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
    for message in messages:
        _add(total, message.id.encode(), message.stored.encode())


class _Walk:
    """One pass through a namespace that copies what the target does not have."""

    def __init__(self, source: Store, target: Store, namespace: str, *, replace: bool) -> None:
        self._source = source
        self._target = target
        self._namespace = namespace
        self._replace = replace
        self._with_times = not _is_server(target)
        self._waiting: list[Operation] = []
        self._room = BYTES
        self.sum = _Sum()
        self.entries = self.messages = self.written = 0

    def steps(self) -> Iterator[int]:
        """Run; yields the number of bytes done."""
        yield from self._walk_entries()
        yield from self._walk_sessions()
        self._flush()

    # Entries: both sides in the order of their keys

    def _walk_entries(self) -> Iterator[int]:
        theirs = _entries(self._target, self._namespace)
        there = next(theirs, None)
        for entry in _entries(self._source, self._namespace):
            while there is not None and there.key < entry.key:
                self._remove(there)
                there = next(theirs, None)
            if there is None or there.key != entry.key:
                self._put(entry)
            else:
                if _differs(entry, there):
                    self._put(entry)
                there = next(theirs, None)
            self.sum.add_entry(entry)
            self.entries += 1
            yield size(entry.key) + size(entry.stored)
        while there is not None:
            self._remove(there)
            there = next(theirs, None)

    def _put(self, entry: Entry) -> None:
        if self._with_times:
            put = Put(entry.key, entry.stored, times=(entry.created, entry.updated, entry.expires))
        else:
            ttl = None if entry.expires is None else max((entry.expires - now()) / 1_000_000, 0.001)
            put = Put(entry.key, entry.stored, ttl)
        self._write(put, size(entry.key) + size(entry.stored), 1)

    def _remove(self, other: Entry) -> None:
        if other.expires is None:  # else it may have expired in the source
            self._refuse_others(f"key {other.key!r}")
        self._write(Delete(other.key), size(other.key), 0)

    # Sessions

    def _walk_sessions(self) -> Iterator[int]:
        there = set(_sessions(self._target, self._namespace))
        names = _sessions(self._source, self._namespace)
        for other in there.difference(names):
            self._refuse_others(f"session {other!r}")
            self._write(Forget(other), size(other), 0)
        for name in names:
            yield from self._walk_messages(name, begun=name in there)

    def _walk_messages(self, session: str, *, begun: bool) -> Iterator[int]:
        digest, seq = hashlib.sha256(), 0
        pages = _pages_of_messages(self._target, self._namespace, session) if begun else iter(())
        for theirs in pages:
            ours = self._source.read(self._namespace, ListMessages(session, seq, len(theirs)))
            if [(item.id, item.stored) for item in ours] != [(item.id, item.stored) for item in theirs]:
                self._refuse_others(f"session {session!r} with different messages")
                self._write(Forget(session), size(session), 0)
                self.messages -= seq
                digest, seq = hashlib.sha256(), 0
                break
            seq += len(ours)
            yield self._read(digest, ours)
        for page in _pages_of_messages(self._source, self._namespace, session, after=seq):
            for message in page:
                new = NewMessage(message.id, message.stored, message.created if self._with_times else None)
                self._write(Append(session, (new,)), size(new.id) + size(new.stored), 1)
            yield self._read(digest, page)
        self.sum.add_session(session, digest)

    def _read(self, digest: hashlib._Hash, messages: Sequence[Message]) -> int:
        _add_messages(digest, messages)
        self.messages += len(messages)
        return sum(size(message.id) + size(message.stored) for message in messages)

    # Writing

    def _write(self, operation: Operation, length: int, new: int) -> None:
        if self._waiting and (length > self._room or len(self._waiting) == OPERATIONS):
            self._flush()
        self._waiting.append(operation)
        self._room -= length
        self.written += new

    def _flush(self) -> None:
        if self._waiting:
            self._target.write(self._namespace, self._waiting)
        self._waiting, self._room = [], BYTES

    def _refuse_others(self, what: str) -> None:
        if not self._replace:
            raise Conflict(
                f"namespace {self._namespace!r} of {self._target.address} has data that the source does not have: {what}. Use --replace "
                "to delete it there, or copy to an empty store"
            )


def _copy_plan(source: Store, target: Store, namespace: str) -> None:
    set_plan: Callable[[str, str], None] | None = getattr(target, "set_plan", None)
    if set_plan is None or _is_server(source):
        return
    plan = source.read(namespace, GetUsage()).plan
    if plan != target.read(namespace, GetUsage()).plan:
        set_plan(namespace, plan)


def _differs(entry: Entry, there: Entry) -> bool:
    if entry.stored != there.stored or (entry.expires is None) != (there.expires is None):
        return True
    return abs((entry.expires or 0) - (there.expires or 0)) > _SAME_EXPIRY


def _bytes(stored: str | bytes) -> bytes:
    return stored if isinstance(stored, bytes) else stored.encode()
