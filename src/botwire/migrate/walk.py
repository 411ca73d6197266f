"""Walk over everything that a store holds, in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ..limits import ACCESS
from ..queries import ListEntries, ListMessages, ListNamespaces, ListSessions
from ..records import Entry, Message
from ..store import Store
from ..values import size

T = TypeVar("T", Entry, Message)
PAGE = 500
"""Rows that are read at once, at the most."""
BYTES = 4 * 1024 * 1024
"""What is read and written at once, about; a value alone may be larger."""
OPERATIONS = 1_000
"""Operations that are written at once, at the most."""


def _namespaces(source: Store, target: Store) -> Iterator[str]:
    if not _is_server(source) and not _is_server(target):
        yield ACCESS  # which no server gives away
    after = ""
    while page := source.read("*", ListNamespaces(after, PAGE)):
        yield from page
        after = page[-1]


def _entries(store: Store, namespace: str) -> Iterator[Entry]:
    after, rows = "", PAGE
    while page := store.read(namespace, ListEntries("", after, rows)):
        yield from page
        after, rows = page[-1].key, _rows(page)


def _pages_of_messages(store: Store, namespace: str, session: str, after: int = 0) -> Iterator[list[Message]]:
    rows = PAGE
    while page := store.read(namespace, ListMessages(session, after, rows)):
        yield page
        after, rows = page[-1].seq, _rows(page)


def _rows(page: Sequence[T]) -> int:
    """Return how many rows to read next: fewer where values are large."""
    return max(1, min(PAGE, BYTES * len(page) // (sum(size(row.stored) for row in page) + 1)))


def _sessions(store: Store, namespace: str) -> list[str]:
    """Return the sessions, the oldest first, as they have to be begun."""
    names: list[str] = []
    before = None
    while page := store.read(namespace, ListSessions(before, PAGE)):
        names += [session.name for session in page]
        before = page[-1].place
    return names[::-1]


def _is_server(store: Store) -> bool:
    return not hasattr(store, "set_plan")
