"""OpenTelemetry: stores whose calls are spans, and the context that requests carry to a server.

A span has the kind of a call, its host, duration and outcome, but never a namespace, key, value or token. Spans need
``pip install 'botwire[otel]'``, or `opentelemetry-api` and a tracer provider of the program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from ...bridge import blocking, result_of
from ...errors import BotWireError
from ...operations import Operation, Result
from ...plans import Plans
from ...queries import ListChanges, Query
from ...store import AsyncFeed, AsyncStore, GuardedStore, Reader, Store
from ...version import __version__

T = TypeVar("T")

SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class Tracing:
    """Makes spans with the tracer provider of the program, from the moment in which the program sets one."""

    def __init__(self) -> None:
        self._tracer: trace.Tracer | None = None
        trace.get_tracer_provider()  # loads the one that $OTEL_PYTHON_TRACER_PROVIDER names

    @property
    def tracer(self) -> trace.Tracer | None:
        """The tracer; None while there is no provider."""
        if self._tracer is None and _has_provider():
            self._tracer = trace.get_tracer("botwire", __version__, schema_url=SCHEMA)
        return self._tracer

    @contextmanager
    def call(
        self,
        name: str,
        attributes: Mapping[str, Any],
        *,
        kind: SpanKind = SpanKind.CLIENT,
        parent: Context | None = None,
    ) -> Iterator[Span]:
        """Make a span for a call, whose own calls become its children. It has no text of an error, which could contain keys."""
        assert self._tracer is not None
        with self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", error_type(error))
                span.set_status(StatusCode.ERROR)
                raise


def _has_provider() -> bool:
    # `get_tracer_provider` reads the environment each time, which takes a tenth of a whole read of the store.
    provider = getattr(trace, "_TRACER_PROVIDER", trace)
    if provider is trace:  # a version of OpenTelemetry without that global
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return provider is not None


class _Traced:
    """The logic of all traced stores. Watching is not a call, and has no span."""

    _read_in_span: Callable[..., Any]
    _write_in_span: Callable[..., Any]

    def __init__(self, store: Any, tracing: Tracing) -> None:
        self.store = store
        self.address: str = store.address
        self._tracing = tracing
        self._place = place_attributes(self.address)
        host, port = self._place.get("server.address", ""), self._place.get("server.port")
        self._target = f" {host}:{port}" if port else f" {host}".rstrip()

    # Without a tracer, a call goes straight to the store: many programs import OpenTelemetry only because a library does.

    def read(self, /, namespace: str, query: Query[Any], **options: Any) -> Any:
        if self._tracing.tracer is None or type(query) is ListChanges:  # a watcher repeats that one
            return self.store.read(namespace, query, **options)
        return self._read_in_span(namespace, query, **options)

    def write(self, /, namespace: str, operations: Sequence[Operation], **options: Any) -> Any:
        if self._tracing.tracer is None:
            return self.store.write(namespace, operations, **options)
        return self._write_in_span(namespace, operations, **options)

    async def _read(self, /, namespace: str, query: Query[T], **options: Any) -> T:
        with self._span({"db.operation.name": operation_name(type(query))}):
            return cast("T", await result_of(self.store.read(namespace, query, **options)))

    async def _write(self, /, namespace: str, operations: Sequence[Operation], **options: Any) -> list[Result]:
        with self._span_of_write(operations):
            return cast("list[Result]", await result_of(self.store.write(namespace, operations, **options)))

    def changes(self, namespace: str, query: ListChanges) -> Any:
        return self.store.changes(namespace, query)

    def close(self) -> Any:
        return self.store.close()

    def _span_of_write(self, operations: Sequence[Operation]) -> AbstractContextManager[Any]:
        names = {operation_name(type(operation)) for operation in operations}
        name = names.pop() if len(names) == 1 else ""
        if len(operations) == 1:
            return self._span({"db.operation.name": name})
        return self._span({"db.operation.name": f"BATCH {name}".rstrip(), "db.operation.batch.size": len(operations)})

    def _span(self, attributes: dict[str, str | int]) -> AbstractContextManager[Any]:
        return self._tracing.call(f"{attributes['db.operation.name']}{self._target}", {**self._place, **attributes})


class TracedStore(_Traced):
    """A traced `Store`."""

    store: Store

    _read_in_span = blocking(_Traced._read)
    _write_in_span = blocking(_Traced._write)

    def to_async(self) -> AsyncTracedStore:
        return AsyncTracedStore(self.store.to_async(), self._tracing)

    def propagate(self, fields: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self.store.propagate(fields)


class AsyncTracedStore(_Traced):
    """A traced `AsyncStore`."""

    store: AsyncStore

    _read_in_span = _Traced._read
    _write_in_span = _Traced._write


class TracedGuardedStore(AsyncTracedStore):
    """A traced `GuardedStore`."""

    store: GuardedStore

    @property
    def plans(self) -> Plans:
        return self.store.plans

    async def set_plan(self, namespace: str, plan: str | None) -> None:
        await self.store.set_plan(namespace, plan)

    async def sweep(self) -> None:
        await self.store.sweep()

    def changes_for(self, reader: Reader, namespace: str, query: ListChanges) -> AsyncFeed:
        return self.store.changes_for(reader, namespace, query)


def error_type(error: BaseException) -> str:
    """Return the code of a botwire error, or the name of another error's class."""
    if isinstance(error, BotWireError):
        return error.code
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def context_fields() -> tuple[tuple[str, str], ...]:
    """Return the header fields for the current span, as the program's propagators write them (W3C Trace Context)."""
    fields: dict[str, str] = {}
    propagate.inject(fields)
    return tuple(fields.items())


# The conventions for clients of databases: https://opentelemetry.io/docs/specs/semconv/database/database-spans/


_SYSTEMS = {"http": "botwire", "https": "botwire", "postgres": "postgresql"}


def place_attributes(address: str) -> dict[str, str | int]:
    """Return the kind of the store at an address, and its host."""
    scheme = address.partition(":")[0].lower()
    if scheme == "sqlite":
        return {"db.system.name": "sqlite"}
    attributes: dict[str, str | int] = {"db.system.name": _SYSTEMS.get(scheme, scheme)}
    try:
        host, port = urlsplit(address).hostname, urlsplit(address).port
    except ValueError:  # several hosts
        return attributes
    if host:
        attributes["server.address"] = host
    if port:
        attributes["server.port"] = port
    return attributes


@cache
def operation_name(kind: type) -> str:
    """Return the name of an operation or a query: ``get_entry`` for `GetEntry`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
