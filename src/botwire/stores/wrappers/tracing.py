"""OpenTelemetry: the spans of calls, and the context that requests carry to a server.

A span has the kind of a call, its host, duration and outcome, but never a namespace, key, value or token. Spans need
``pip install 'botwire[otel]'``, or `opentelemetry-api` and a tracer provider of the program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from ...errors import BotWireError
from ...operations import Operation
from ...queries import ListChanges, Query
from ...version import __version__

_NO_SPAN: AbstractContextManager[None] = nullcontext()
SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class Tracing:
    """Makes spans with the tracer provider of the program, from the moment in which the program sets one."""

    def __init__(self) -> None:
        self._tracer: trace.Tracer | None = None

    @property
    def tracer(self) -> trace.Tracer | None:
        """The tracer; None while there is no provider."""
        if self._tracer is None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
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

    def of_store(self, address: str) -> StoreSpans:
        """Return the spans for calls of the store at an address."""
        return StoreSpans(self, address)


class StoreSpans:
    """The spans for calls of one store."""

    def __init__(self, tracing: Tracing, address: str) -> None:
        self._tracing = tracing
        self._place = place_attributes(address)
        host, port = self._place.get("server.address", ""), self._place.get("server.port")
        self._target = f" {host}:{port}" if port else f" {host}".rstrip()

    def read(self, query: Query[Any]) -> AbstractContextManager[Any]:
        """Return the span of a read; none for one that a watcher repeats."""
        if self._tracing.tracer is None or type(query) is ListChanges:
            return _NO_SPAN
        return self._span({"db.operation.name": operation_name(type(query))})

    def write(self, operations: Sequence[Operation]) -> AbstractContextManager[Any]:
        """Return the span of a write."""
        if self._tracing.tracer is None:
            return _NO_SPAN
        names = {operation_name(type(operation)) for operation in operations}
        name = names.pop() if len(names) == 1 else ""
        if len(operations) == 1:
            return self._span({"db.operation.name": name})
        return self._span({"db.operation.name": f"BATCH {name}".rstrip(), "db.operation.batch.size": len(operations)})

    def _span(self, attributes: dict[str, str | int]) -> AbstractContextManager[Any]:
        return self._tracing.call(f"{attributes['db.operation.name']}{self._target}", {**self._place, **attributes})


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
