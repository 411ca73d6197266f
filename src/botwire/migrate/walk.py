"""Read everything in a store in pages, and write to it in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

from ..limits import ACCESS
from ..operations import Append, Edit, NewMessage, Operation, Put, Result, SetAbout, Summarize
from ..queries import GetContext, ListEntries, ListMessages, ListNamespaces, ListSessions
from ..records import About, Entry, Message, Session
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


def last_activity(messages: Sequence[Message]) -> int:
    """Return when one of these messages was last stored or edited, in microseconds."""
    return max((max(item.created, item.edited or 0) for item in messages), default=0)


def list_sessions(store: Store, namespace: str) -> Iterator[Session]:
    """Return the sessions, the newest first."""
    after = ""
    while page := store.read(namespace, ListSessions(order="created", after=after, limit=PAGE, room=BYTES)):
        yield from page
        after = page[-1].cursor


def session_names(store: Store, namespace: str) -> list[str]:
    """Return the names of the sessions, oldest first, in the order to create them."""
    return [session.name for session in list_sessions(store, namespace)][::-1]


def summary_of(store: Store, namespace: str, session: Session) -> tuple[int, str] | None:
    """Return the last seq that the summary of a session covers, and its text; None: there is none."""
    if not session.summarized:
        return None
    context = store.read(namespace, GetContext(session.name, 0))
    return None if context.summary is None else (context.summarized, context.summary)


def seconds_until(expires: int) -> float:
    """Return the time to live that ends then. It is more than 0, also if that has passed."""
    return max((expires - now()) / 1_000_000, 0.001)


class Batch:
    """Gathers operations on a namespace into few writes."""

    def __init__(self, store: Store, namespace: str) -> None:
        self.store = store
        self.namespace = namespace
        self._waiting: list[Operation] = []
        self._room = BYTES
        self._redacted: dict[tuple[str, str], Message] = {}
        self.keeps_times = isinstance(store, OperatedStore)
        """Whether entries, messages and sessions keep their times, and sessions their origin. A server sets its own."""

    def put(self, key: str, stored: Stored, times: tuple[int, int, int | None]) -> Put:
        """Return the operation that stores an entry with these times: created, updated, expires."""
        if self.keeps_times:
            return Put(key, stored, times=times)
        expires = times[2]
        return Put(key, stored, None if expires is None else seconds_until(expires))

    def append(self, session: str, message: Message) -> Append:
        """Return the operation that appends a message."""
        if self.keeps_times:
            new = NewMessage(
                message.id, message.stored, message.created, edited=message.edited, redacted=message.redacted
            )
            return Append(session, (new,))
        if message.redacted is not None:
            self._redacted[session, message.id] = message
        return Append(session, (NewMessage(message.id, message.stored),))

    def set_activity(self, session: str, updated: int) -> Iterator[Append]:
        """Return the operation that sets the last activity of a session, which may be later than its messages."""
        if self.keeps_times:
            yield Append(session, (), updated=updated)

    def set_about(self, session: str, about: About, origin: tuple[str, int] | None) -> SetAbout:
        """Return the operation that stores what is known about a session."""
        return SetAbout(session, about.stored, about.owner, about.tags, origin=origin if self.keeps_times else None)

    def add(self, operation: Operation) -> bool:
        """Add an operation; returns whether this has written all operations before it."""
        length = _length(operation)
        full = bool(self._waiting) and (length > self._room or len(self._waiting) == OPERATIONS)
        if full or (self._redacted and isinstance(operation, Summarize)):  # a later redaction deletes the summary
            full = True
            self.flush()
        self._waiting.append(operation)
        self._room -= length
        return full

    def flush(self) -> None:
        """Write the operations that were added."""
        if self._waiting:
            operations = list(_merged(self._waiting))
            results = self.store.write(self.namespace, operations)
            if self._redacted:
                self._redact(operations, results)
        self._waiting, self._room = [], BYTES

    def _redact(self, operations: Sequence[Operation], results: Sequence[Result]) -> None:
        """Mark the redacted ones of messages that a server has appended. It does not take the mark with them."""
        for operation, seqs in zip(operations, results, strict=True):
            if not isinstance(operation, Append) or not isinstance(seqs, list):
                continue
            for message, seq in zip(operation.messages, seqs, strict=True):
                redacted = self._redacted.pop((operation.session, message.id), None)
                if redacted is not None and isinstance(seq, int):
                    self._mark(operation.session, seq, redacted)

    def _mark(self, session: str, seq: int, message: Message) -> None:
        page = self.store.read(self.namespace, ListMessages(session, seq - 1, 1))
        for found in page:
            # A message that the session had before is left as it is.
            if (found.id, found.stored) == (message.id, message.stored) and found.redacted is None:
                edit = Edit(session, seq, found.stored, found.version, message.redacted, if_id=found.id)
                self.store.write(self.namespace, [edit])


def _length(operation: Operation) -> int:
    match operation:
        case Put():
            return size(operation.key) + size(operation.stored)
        case Append():
            return sum(size(message.id) + size(message.stored) for message in operation.messages)
        case Edit() | Summarize() | SetAbout():
            return size(operation.stored)
    return 0


def _merged(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Return the operations with one append for adjacent messages of a session, which takes less time than many."""
    for session, group in groupby(
        operations, lambda one: one.session if isinstance(one, Append) and one.messages else None
    ):
        if session is None:
            yield from group
        else:
            appends = [one for one in group if isinstance(one, Append)]
            yield Append(session, tuple(message for one in appends for message in one.messages))
