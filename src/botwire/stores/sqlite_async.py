"""The store in one SQLite file, for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from ..plans import Plans
from ..records import ListChanges, Operation, Permit, Query, Result, Write
from ..store import Reader
from .following import AsyncFeed, Hub
from .queries import is_short
from .sqlite import SqliteStore

T = TypeVar("T")


class AsyncSqliteStore:
    """An `AsyncStore` over a `SqliteStore`.

    A short read runs at once on the event loop: by key it takes some microseconds, a hop to a thread and back takes ten
    times as long. Long reads and commits run on threads.
    """

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self._hub = Hub(self, glance=store.glance)

    @property
    def address(self) -> str:
        """As `Store.address`."""
        return self.store.address

    @property
    def plans(self) -> Plans:
        """As `OperatedStore.plans`."""
        return self.store.plans

    async def read(self, namespace: str, query: Query[T], *, permit: Permit | None = None) -> T:
        """As `GuardedStore.read`."""
        if is_short(query):
            return self.store.read(namespace, query, permit=permit)
        return await asyncio.to_thread(self.store.read, namespace, query, permit=permit)

    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        permit: Permit | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`, gathered with whatever else is being written into one commit."""
        write = Write(namespace, tuple(operations), idempotency_key, permit)
        return await self.store.commits.write_async(write, self.store.timeout)

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        """As `OperatedStore.set_plan`."""
        await asyncio.to_thread(self.store.set_plan, namespace, plan)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        """As `AsyncStore.changes`."""
        return self.changes_for(self, namespace, query)

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        """As `GuardedStore.changes_for`."""
        return AsyncFeed(reader, self._hub, namespace, query)

    async def close(self) -> None:
        """As `Store.close`."""
        await asyncio.to_thread(self.store.close)
