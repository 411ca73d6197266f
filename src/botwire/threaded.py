"""The event loop's side of a store that has none of its own: each call runs in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from .operations import Operation, Result
from .queries import ListChanges, Query
from .records import Changes
from .store import AsyncFeed, AsyncStore, Feed, Store

T = TypeVar("T")


class ThreadedStore(AsyncStore):
    """The side for event loops of a store that has none: each call runs in a worker thread of the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def address(self) -> str:
        """As `Store.address`."""
        return self._store.address

    async def read(self, namespace: str, query: Query[T]) -> T:
        """As `Store.read`."""
        return await asyncio.to_thread(self._store.read, namespace, query)

    async def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        """As `Store.write`."""
        return await asyncio.to_thread(self._store.write, namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        """As `Store.changes`."""
        return ThreadedFeed(self._store.changes(namespace, query))

    async def close(self) -> None:
        """As `Store.close`."""
        await asyncio.to_thread(self._store.close)


class ThreadedFeed(AsyncFeed):
    """An `AsyncFeed` whose calls run in a worker thread, for at most `SLICE` seconds each."""

    SLICE = 0.5
    """How long a thread stays occupied after its caller was cancelled."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._asked: asyncio.Future[Changes] | None = None

    async def begin(self) -> int:
        """As `Feed.begin`."""
        return await asyncio.to_thread(self._feed.begin)

    async def next(self, seconds: float | None) -> Changes:
        """As `Feed.next`."""
        left = float("inf") if seconds is None else seconds
        while True:
            step = min(left, self.SLICE)
            # A call that was cancelled leaves its question here: the feed has moved past what it answers.
            asked = self._asked = self._asked or asyncio.ensure_future(asyncio.to_thread(self._feed.next, step))
            try:
                found = await asyncio.shield(asked)
            finally:
                if asked.done():
                    self._asked = None
            left -= step
            if found.changes or left <= 0:
                return found

    async def close(self) -> None:
        """As `Feed.close`."""
        await asyncio.to_thread(self._feed.close)
