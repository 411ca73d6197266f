"""The store in a PostgreSQL database, for event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from ...operations import Guard, Operation, Result, Write
from ...queries import Query
from ..engine.async_store import AwaitedStore
from ..engine.poller import Poller
from ..engine.vectors import needs_vectors
from .store import PostgresStore

__all__ = ["AsyncPostgresStore", "PostgresStore"]

T = TypeVar("T")


class AsyncPostgresStore(AwaitedStore[PostgresStore]):
    """An `AsyncStore` over a `PostgresStore`, whose threads wait for the server."""

    def __init__(self, store: PostgresStore) -> None:
        super().__init__(store)
        self._poller = Poller(self, signal=store.listener)

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        self.store.check_open()
        loop = asyncio.get_running_loop()
        read = partial(self.store.read, namespace, query, guard=guard)
        return await loop.run_in_executor(self.store.threads, read)

    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`, gathered with whatever else is being written to the namespace into one commit."""
        self.store.check_open()
        deadline = time.monotonic() + self.store.timeout
        if needs_vectors(operations):
            await asyncio.get_running_loop().run_in_executor(self.store.threads, self.store.create_vectors, deadline)
        write = Write(namespace, tuple(operations), idempotency_key, guard)
        return await self.store.queue(namespace).write_async(write, deadline)
