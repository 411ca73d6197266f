"""A store whose reads and writes are spans of OpenTelemetry. `tracing` defines their content."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...bridge import blocking, result_of
from ...operations import Operation, Result
from ...plans import Plans
from ...queries import ListChanges, Query
from ...store import AsyncFeed, AsyncStore, GuardedStore, Reader, Store

if TYPE_CHECKING:
    from .tracing import Tracing

T = TypeVar("T")


def is_wanted() -> bool:
    """Whether the environment lets botwire trace calls, by the variables that all instrumentations use."""
    unwanted = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return not is_disabled() and "botwire" not in [name.strip() for name in unwanted]


def is_disabled() -> bool:
    """Whether the environment switches all of OpenTelemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


class _Traced:
    """The logic of all traced stores. Watching is not a call, and has no span."""

    def __init__(self, store: Any, tracing: Tracing) -> None:
        self.store = store
        self.address: str = store.address
        self._tracing = tracing
        self._spans = tracing.of_store(self.address)

    async def _read(self, /, namespace: str, query: Query[T], **options: Any) -> T:
        with self._spans.read(query):
            return cast("T", await result_of(self.store.read(namespace, query, **options)))

    async def _write(self, /, namespace: str, operations: Sequence[Operation], **options: Any) -> list[Result]:
        with self._spans.write(operations):
            return cast("list[Result]", await result_of(self.store.write(namespace, operations, **options)))

    def changes(self, namespace: str, query: ListChanges) -> Any:
        return self.store.changes(namespace, query)

    def close(self) -> Any:
        return self.store.close()


class TracedStore(_Traced):
    """A traced `Store`."""

    store: Store

    read = blocking(_Traced._read)
    write = blocking(_Traced._write)

    def to_async(self) -> AsyncTracedStore:
        return AsyncTracedStore(self.store.to_async(), self._tracing)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self.store.propagate(fields)


class AsyncTracedStore(_Traced):
    """A traced `AsyncStore`."""

    store: AsyncStore

    read = _Traced._read
    write = _Traced._write


class TracedGuardedStore(AsyncTracedStore):
    """A traced `GuardedStore`."""

    store: GuardedStore

    @property
    def plans(self) -> Plans:
        return self.store.plans

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        await self.store.set_plan(namespace, plan)

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        return self.store.changes_for(reader, namespace, query)
