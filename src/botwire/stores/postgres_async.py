"""The store in a PostgreSQL database, for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from ..plans import Plans
from ..records import ListChanges, Operation, Permit, Query, Result, Write
from ..store import Reader
from .following import AsyncFeed, Hub
from .postgres import PAUSES, PostgresStore
from .vectors import refuse_vectors

__all__ = ["AsyncPostgresStore", "PostgresStore"]

T = TypeVar("T")


class AsyncPostgresStore:
    """An `AsyncStore` over a `PostgresStore`, whose threads wait for the server."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self._hub = Hub(self, pauses=PAUSES)

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
        self.store.check_open()
        loop = asyncio.get_running_loop()
        read = partial(self.store.read, namespace, query, permit=permit)
        return await loop.run_in_executor(self.store.threads, read)

    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        permit: Permit | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`, gathered with whatever else is being written to the namespace into one commit."""
        self.store.check_open()
        refuse_vectors(operations)
        write = Write(namespace, tuple(operations), idempotency_key, permit)
        return await self.store.queue(namespace).write_async(write, self.store.timeout)

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
