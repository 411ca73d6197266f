"""What the stores for event loops have in common: one underneath for callers that wait in place."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from ...operations import Guard, Operation, Result
from ...plans import Plans
from ...queries import ListChanges, Query
from ...store import OperatedStore, Reader
from .feeds import AsyncFeed
from .poller import Poller

S = TypeVar("S", bound=OperatedStore)
T = TypeVar("T")


class AwaitedStore(ABC, Generic[S]):
    """An `AsyncStore` over a store; how reads and writes get off the event loop is for the subclass to say."""

    _poller: Poller

    def __init__(self, store: S) -> None:
        self.store = store

    @property
    def address(self) -> str:
        return self.store.address

    @property
    def plans(self) -> Plans:
        return self.store.plans

    @abstractmethod
    async def read(self, namespace: str, query: Query[T], *, guard: Guard | None = None) -> T:
        """As `GuardedStore.read`."""

    @abstractmethod
    async def write(
        self,
        namespace: str,
        operations: Sequence[Operation],
        *,
        idempotency_key: str | None = None,
        guard: Guard | None = None,
    ) -> list[Result]:
        """As `GuardedStore.write`."""

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        await asyncio.to_thread(self.store.set_plan, namespace, plan)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        return self.changes_for(self, namespace, query)

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        return AsyncFeed(reader, self._poller, namespace, query)

    async def close(self) -> None:
        await asyncio.to_thread(self.store.close)
