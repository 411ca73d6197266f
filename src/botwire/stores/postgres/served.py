"""The store in a PostgreSQL database, for a server: one event loop with many callers."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from ...operations import Guard
from ...queries import Query
from .pool import CONNECTIONS
from .store import AsyncPostgresStore, PostgresStore

T = TypeVar("T")


class ServedPostgresStore(AsyncPostgresStore):
    """An `AsyncPostgresStore` whose next read begins when the caller of one before has its rows.

    Otherwise its threads would be faster than a busy event loop, and all rows that wait for it would be in memory at once.
    """

    def __init__(self, store: PostgresStore) -> None:
        super().__init__(store)
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        async with self._free:
            return await super().read(namespace, query, guard=guard)
