"""A store whose reads and writes are spans of OpenTelemetry. `tracing` says what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from ...operations import Operation, Result
from ...plans import Plans
from ...queries import ListChanges, Query
from ...store import AsyncFeed, AsyncStore, Feed, GuardedStore, Reader, Store

if TYPE_CHECKING:
    from .tracing import Tracing

T = TypeVar("T")

_NONE: AbstractContextManager[None] = nullcontext()


def is_wanted() -> bool:
    """Whether the environment leaves it to the program to trace calls, by the variables that all instrumentations know."""
    unwanted = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return not is_disabled() and "botwire" not in [name.strip() for name in unwanted]


def is_disabled() -> bool:
    """Whether the environment switches all of OpenTelemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


class _Traced:
    """The spans of both."""

    def __init__(self, address: str, tracing: Tracing) -> None:
        from . import tracing as spans

        self.address = address
        """As `Store.address`."""
        self._tracing = tracing
        self._spans = spans
        self._place = spans.place_attributes(address)
        host, port = self._place.get("server.address"), self._place.get("server.port")
        self._target = f" {host}:{port}" if port else f" {host}" if host else ""

    def _reading(self, query: Query[Any]) -> AbstractContextManager[Any]:
        if self._tracing.tracer is None or type(query) is ListChanges:  # a watcher looks again and again
            return _NONE
        return self._call({"db.operation.name": self._spans.operation_name(type(query))})

    def _writing(self, operations: Sequence[Operation]) -> AbstractContextManager[Any]:
        if self._tracing.tracer is None:
            return _NONE
        return self._call(self._spans.write_attributes(operations))

    def _call(self, attributes: dict[str, Any]) -> AbstractContextManager[Any]:
        name = f"{attributes['db.operation.name']}{self._target}"
        return self._tracing.call(name, {**self._place, **attributes})


class TracedStore(_Traced):
    """A `Store` over another.

    Args:
        store: which does what is asked.
        tracing: makes the spans.
    """

    def __init__(self, store: Store, tracing: Tracing) -> None:
        super().__init__(store.address, tracing)
        self.store = store

    def read(self, namespace: str, query: Query[T]) -> T:
        with self._reading(query):
            return self.store.read(namespace, query)

    def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        with self._writing(operations):
            return self.store.write(namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace: str, query: ListChanges) -> Feed:
        """As `Store.changes`; watching is no call, and has no span."""
        return self.store.changes(namespace, query)

    def to_async(self) -> AsyncTracedStore:
        return AsyncTracedStore(self.store.to_async(), self._tracing)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self.store.propagate(fields)

    def close(self) -> None:
        self.store.close()


class AsyncTracedStore(_Traced):
    """`TracedStore` for event loops."""

    def __init__(self, store: AsyncStore, tracing: Tracing) -> None:
        super().__init__(store.address, tracing)
        self.store = store

    async def read(self, namespace: str, query: Query[T], **options: Any) -> T:
        with self._reading(query):
            return await self.store.read(namespace, query, **options)

    async def write(self, namespace: str, operations: Sequence[Operation], **options: Any) -> list[Result]:
        with self._writing(operations):
            return await self.store.write(namespace, operations, **options)

    def changes(self, namespace: str, query: ListChanges) -> AsyncFeed:
        """As `AsyncStore.changes`; watching is no call, and has no span."""
        return self.store.changes(namespace, query)

    async def close(self) -> None:
        await self.store.close()


class TracedGuardedStore(AsyncTracedStore):
    """The same for a server."""

    def __init__(self, store: GuardedStore, tracing: Tracing) -> None:
        super().__init__(store, tracing)
        self._guarded = store

    @property
    def plans(self) -> Plans:
        return self._guarded.plans

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        await self._guarded.set_plan(namespace, plan)

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        return self._guarded.changes_for(reader, namespace, query)
