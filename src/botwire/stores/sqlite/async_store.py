"""The store in one SQLite file, for event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

from ...operations import Guard, Operation, Result, Write
from ...queries import Query
from ..engine.answer import is_short
from ..engine.async_store import AwaitedStore
from ..engine.poller import Poller
from .store import SqliteStore

T = TypeVar("T")


class AsyncSqliteStore(AwaitedStore[SqliteStore]):
    """An `AsyncStore` over a `SqliteStore`.

    A short read runs at once on the event loop: by key it takes some microseconds, a hop to a thread and back takes ten
    times as long. Long reads and commits run on threads.
    """

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self._poller = Poller(self, peek_version=store.peek_version)

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        if is_short(query):
            return self.store.read(namespace, query, guard=guard)
        return await asyncio.to_thread(self.store.read, namespace, query, guard=guard)

    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`, gathered with whatever else is being written into one commit."""
        write = Write(namespace, tuple(operations), idempotency_key, guard)
        return await self.store.commits.write_async(write, time.monotonic() + self.store.timeout)
