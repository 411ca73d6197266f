"""What the stores of both databases have in common for event loops: each is over one for callers that wait in place."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from ...plans import Plans
from ...queries import ListChanges
from ...store import GuardedStore, OperatedStore, Reader
from .feeds import AsyncFeed
from .poller import Poller

S = TypeVar("S", bound=OperatedStore)


class AwaitedStore(GuardedStore, Generic[S]):
    """A `GuardedStore` over a store. The subclass defines how reads and writes leave the event loop."""

    _poller: Poller

    def __init__(self, store: S) -> None:
        self.store = store

    @property
    def address(self) -> str:
        return self.store.address

    @property
    def plans(self) -> Plans:
        return self.store.plans

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        await asyncio.to_thread(self.store.set_plan, namespace, plan)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        return self.changes_for(self, namespace, query)

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        return AsyncFeed(reader, self._poller, namespace, query)

    async def close(self) -> None:
        await asyncio.to_thread(self.store.close)
