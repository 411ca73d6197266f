"""Copying from one address to another, between any two kinds of store, while the first is in use.

What is there already is compared and left as it is. So a copy that was interrupted goes on where it was when it is begun
again, and a second one brings over only what has changed since.
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
"""So many microseconds an entry may expire sooner or later than where it was copied from: a server is told in how long."""

Progress = Callable[[int, int], None]


@dataclass
class Report:
    """What a copy came to; ``written``: the entries and messages that were not there yet."""

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
    """Copy namespaces, and see by checksums that the target holds what was read.

    Keys, values, sessions, messages, their ids and their order are kept. Times are too, and plans, tokens and claims, unless
    there is a server on the way. Versions are given anew. Whoever writes to the source meanwhile is not disturbed; what
    comes too late for this copy is brought over by the next one.

    Args:
        source: from where; it is only read.
        target: to where. A copy is no write of the day to a plan, unless a server is the target.
        namespaces: which; none: all of them, which a server lists for its operator only.
        replace: remove from these namespaces of the target what the source has not, or has otherwise.
        progress: is told how many bytes of how many are done.

    Raises:
        Conflict: the target has something in one of the namespaces that the source has not.
        StoreError: the target does not hold what was written to it.
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
                f"{target.address} does not hold what was written to namespace {name!r}: does somebody else write there?"
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
    """Return a checksum (SHA-256) of the keys, values, sessions and messages of a namespace, but for what will expire."""
    total = _Sum()
    for entry in _entries(store, namespace):
        total.add_entry(entry)
    for session in _sessions(store, namespace):
        told = hashlib.sha256()
        for page in _pages_of_messages(store, namespace, session):
            _add_messages(told, page)
        total.add_session(session, told)
    return total.digest()


class _Sum:
    """A checksum as it grows. Entries come in their order; sessions in any, so each is added as a number of its own."""

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
    """One way through a namespace, that brings over what the target has not."""

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
        """Go; yields how many bytes are done each time."""
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
        if other.expires is None:  # else it may be gone from the source because its time was over
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
        told, seq = hashlib.sha256(), 0
        pages = _pages_of_messages(self._target, self._namespace, session) if begun else iter(())
        for theirs in pages:
            ours = self._source.read(self._namespace, ListMessages(session, seq, len(theirs)))
            if [(item.id, item.stored) for item in ours] != [(item.id, item.stored) for item in theirs]:
                self._refuse_others(f"session {session!r} with other messages")
                self._write(Forget(session), size(session), 0)
                self.messages -= seq
                told, seq = hashlib.sha256(), 0
                break
            seq += len(ours)
            yield self._read(told, ours)
        for page in _pages_of_messages(self._source, self._namespace, session, after=seq):
            for message in page:
                new = NewMessage(message.id, message.stored, message.created if self._with_times else None)
                self._write(Append(session, (new,)), size(new.id) + size(new.stored), 1)
            yield self._read(told, page)
        self.sum.add_session(session, told)

    def _read(self, told: hashlib._Hash, messages: Sequence[Message]) -> int:
        _add_messages(told, messages)
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
                f"{self._target.address} has in namespace {self._namespace!r} what the source has not: {what}. Say --replace "
                "to have it removed there, or copy to an empty place"
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
