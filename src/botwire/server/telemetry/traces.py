"""OpenTelemetry traces: a span for each request, by the conventions for HTTP servers, in the trace of the client.

The path of a URL contains names and keys, so spans have the route, ``/memory/{namespace}/{name}``, instead. The telemetry of
FastAPI and of OpenTelemetry for ASGI records whole URLs, and does not see requests for the hot routes.
https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
"""

from __future__ import annotations

import threading

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...stores.wrappers.tracing import Tracing
from .metrics import ROUTE, Metrics

PROBES = frozenset({"/health", "/metrics"})
"""Paths that monitoring requests every few seconds; they are not traced."""
FLUSH_SECONDS = 3.0
"""Seconds that a stopping server waits for its last spans to be sent."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})


class TracedApp:
    """An app with a span for each request."""

    def __init__(self, app: ASGIApp, tracing: Tracing, metrics: Metrics) -> None:
        self._app = app
        self._tracing = tracing
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":

            async def flushed(message: Message) -> None:
                if message["type"] == "lifespan.shutdown.complete":
                    _flush()  # after this message a signal ends the process
                await send(message)

            await self._app(scope, receive, flushed)
            return
        if scope["type"] != "http" or scope["path"] in PROBES or self._tracing.tracer is None:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        name = "HTTP" if method == "_OTHER" else method
        parent = propagate.extract(_carried(scope))
        with self._tracing.call(name, attributes, kind=SpanKind.SERVER, parent=parent) as span:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _describe(span, name, scope.get(ROUTE), message["status"])
                await send(message)

            await self._app(scope, receive, answer)


def _carried(scope: Scope) -> dict[str, str]:
    """Return only the header fields that name the trace of a request."""
    fields = propagate.get_global_textmap().fields
    given = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in given if name in fields}


def _describe(span: Span, name: str, route: str | None, status: int) -> None:
    """Record the route and the status."""
    if route:
        path = route.replace(":path", "")
        span.update_name(f"{name} {path}")
        span.set_attributes({"http.route": path, "url.path": path})
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)


def _flush() -> None:
    """Send the remaining spans, if the collector accepts them in time. The event loop has no other work by now."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        thread = threading.Thread(target=flush, daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)
