"""Read everything in a store in pages, and write to it in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

from ..limits import ACCESS
from ..operations import Append, Operation, Put
from ..queries import ListEntries, ListMessages, ListNamespaces, ListSessions
from ..records import Entry, Message
from ..store import OperatedStore, Store
from ..timestamps import now
from ..values import Stored, size

Progress: TypeAlias = Callable[[int, int], None]
"""Receives the bytes done and the total."""

PAGE = 500
"""Maximum rows per read."""
BYTES = 4 * 1024 * 1024
"""Approximate bytes per read and write; a single value may be larger."""
OPERATIONS = 1_000
"""Maximum operations per write."""


def list_namespaces(source: Store, target: Store) -> Iterator[str]:
    """Return the namespaces of the source; also that of the tokens and claims, if both stores give access to it."""
    if isinstance(source, OperatedStore) and isinstance(target, OperatedStore):
        yield ACCESS  # which ListNamespaces leaves out
    after = ""
    while page := source.read("*", ListNamespaces(after, PAGE)):
        yield from page
        after = page[-1]


def list_entries(store: Store, namespace: str, after: str = "") -> Iterator[Entry]:
    """Return the entries after a key, in the order of their keys."""
    while page := store.read(namespace, ListEntries("", after, PAGE, BYTES)):
        yield from page
        after = page[-1].key


def list_messages(store: Store, namespace: str, session: str, after: int = 0) -> Iterator[list[Message]]:
    """Return the messages after a seq, in pages."""
    while page := store.read(namespace, ListMessages(session, after, PAGE, room=BYTES)):
        yield page
        after = page[-1].seq


def list_sessions(store: Store, namespace: str) -> list[str]:
    """Return the sessions, oldest first, in the order to create them."""
    names: list[str] = []
    before = None
    while page := store.read(namespace, ListSessions(before, PAGE)):
        names += [session.name for session in page]
        before = page[-1].place
    return names[::-1]


class Batch:
    """Gathers operations on a namespace into few writes."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._waiting: list[Operation] = []
        self._room = BYTES
        self.keeps_times = isinstance(store, OperatedStore)
        """Whether entries and messages keep their times. A server sets its own."""

    def put(self, key: str, stored: Stored, times: tuple[int, int, int | None]) -> Put:
        """Return the operation that stores an entry with these times: created, updated, expires."""
        if self.keeps_times:
            return Put(key, stored, times=times)
        expires = times[2]
        return Put(key, stored, None if expires is None else max((expires - now()) / 1_000_000, 0.001))

    def add(self, operation: Operation) -> bool:
        """Add an operation; returns whether this has written all operations before it."""
        length = _length(operation)
        full = bool(self._waiting) and (length > self._room or len(self._waiting) == OPERATIONS)
        if full:
            self.flush()
        self._waiting.append(operation)
        self._room -= length
        return full

    def flush(self) -> None:
        """Write the operations that were added."""
        if self._waiting:
            self._store.write(self._namespace, list(_merged(self._waiting)))
        self._waiting, self._room = [], BYTES


def _length(operation: Operation) -> int:
    if isinstance(operation, Put):
        return size(operation.key) + size(operation.stored)
    if isinstance(operation, Append):
        return sum(size(message.id) + size(message.stored) for message in operation.messages)
    return 0


def _merged(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Return the operations with one append for adjacent messages of a session, which takes less time than many."""
    for session, group in groupby(operations, lambda one: one.session if isinstance(one, Append) else None):
        if session is None:
            yield from group
        else:
            appends = [one for one in group if isinstance(one, Append)]
            yield Append(session, tuple(message for one in appends for message in one.messages))
