"""The store in a PostgreSQL database, for a server: one event loop with many callers."""

from __future__ import annotations

from typing import TypeVar

from ...operations import Guard
from ...queries import Query
from ..engine.stop import Stop
from ..engine.turns import ReadingTurns
from .pool import CONNECTIONS
from .store import AsyncPostgresStore, PostgresStore

T = TypeVar("T")


_SHARE = CONNECTIONS - 2
"""Reads of one namespace at once, so that it leaves connections to others."""


class ServedPostgresStore(AsyncPostgresStore):
    """An `AsyncPostgresStore` whose next read begins when the caller of one before has its rows.

    Otherwise its threads would be faster than a busy event loop, and all rows that wait for it would be in memory at once. A
    namespace whose clients read much waits for itself.
    """

    def __init__(self, store: PostgresStore) -> None:
        super().__init__(store)
        self._reading = ReadingTurns(CONNECTIONS, _SHARE)

    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        turns = self._reading.here()
        await turns.enter(namespace, Stop.after(self.store.timeout))
        try:
            return await super().read(namespace, query, guard=guard)
        finally:
            turns.leave(namespace)
