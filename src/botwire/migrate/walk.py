"""Read everything in a store, in pages."""

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
"""Maximum rows per read."""
BYTES = 4 * 1024 * 1024
"""Approximate bytes per read and write; a single value may be larger."""
OPERATIONS = 1_000
"""Maximum operations per write."""


def _namespaces(source: Store, target: Store) -> Iterator[str]:
    if not _is_server(source) and not _is_server(target):
        yield ACCESS  # a server never returns it
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
    """Return the number of rows to read next: fewer for large values."""
    return max(1, min(PAGE, BYTES * len(page) // (sum(size(row.stored) for row in page) + 1)))


def _sessions(store: Store, namespace: str) -> list[str]:
    """Return the sessions, oldest first, in the order to create them."""
    names: list[str] = []
    before = None
    while page := store.read(namespace, ListSessions(before, PAGE)):
        names += [session.name for session in page]
        before = page[-1].place
    return names[::-1]


def _is_server(store: Store) -> bool:
    return not hasattr(store, "set_plan")
