"""OpenTelemetry: the spans of calls, and the context that requests carry to a server.

A span says what kind of call it was, where it went, how long it took and how it ended; never a namespace, key, value or token.
Needs ``pip install 'botwire[otel]'``, or `opentelemetry-api` and whatever else a program sets up to trace itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from ...errors import BotWireError
from ...operations import Operation
from ...version import __version__

SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class Tracing:
    """Makes spans with whatever tracer provider the program has set, also later; none as long as it has set none."""

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
        """Let a call be a span, and the calls that it makes its children.

        What an error says stays out of it: there may be keys in that.
        """
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


def error_type(error: BaseException) -> str:
    """Return what kind of error it is: our code, or the name of its class."""
    if isinstance(error, BotWireError):
        return error.code
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def context_fields() -> tuple[tuple[str, str], ...]:
    """Return the header fields for the span that is current, as the program's propagators write them (W3C Trace Context)."""
    fields: dict[str, str] = {}
    propagate.inject(fields)
    return tuple(fields.items())


# The conventions for clients of databases: https://opentelemetry.io/docs/specs/semconv/database/database-spans/


_SYSTEMS = {"http": "botwire", "https": "botwire", "postgres": "postgresql"}


def place_attributes(address: str) -> dict[str, str | int]:
    """Return what kind of store is at an address, and which machine it is on."""
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


def write_attributes(operations: Sequence[Operation]) -> dict[str, str | int]:
    """Return what a write does."""
    names = {operation_name(type(operation)) for operation in operations}
    name = names.pop() if len(names) == 1 else ""
    if len(operations) == 1:
        return {"db.operation.name": name}
    return {"db.operation.name": f"BATCH {name}".rstrip(), "db.operation.batch.size": len(operations)}


@cache
def operation_name(kind: type) -> str:
    """Return the name of an operation or a query: ``get_entry`` for `GetEntry`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
