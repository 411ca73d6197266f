"""Traces of OpenTelemetry: a span for each request, by its conventions for servers of HTTP, in the trace of whoever asks.

The path of a URL has names and keys in it, so the route, ``/memory/{namespace}/{name}``, stands in its place. FastAPI's own
telemetry and OpenTelemetry's for ASGI put down whole URLs, and see nothing of what takes the shortcut.
https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import Message, Receive, Scope, Send

from ...stores.wrappers.tracing import Tracing
from ..routes import Shortcut
from .metrics import ROUTE

PROBES = frozenset({"/health", "/metrics"})
"""What machines ask for every few seconds, which nobody wants to see."""
FLUSH_SECONDS = 3.0
"""How long a server that stops waits for its last spans to be taken."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})


class Traced(Shortcut):
    """`Shortcut`, with a span for each request.

    Args:
        tracing: makes the spans.
        given: as for `Shortcut`.
    """

    def __init__(self, tracing: Tracing, *given: Any) -> None:
        super().__init__(*given)
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, _flushed(send))
            return
        if scope["type"] != "http" or scope["path"] in PROBES or self._tracing.tracer is None:
            await super().__call__(scope, receive, send)
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

            await super().__call__(scope, receive, answer)


def _carried(scope: Scope) -> dict[str, str]:
    """Return the header fields that say which trace a request is part of, and none of the others."""
    fields = propagate.get_global_textmap().fields
    given = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in given if name in fields}


def _describe(span: Span, name: str, route: str | None, status: int) -> None:
    """Put down which route it was, and how it is answered."""
    if route:
        path = route.replace(":path", "")
        span.update_name(f"{name} {path}")
        span.set_attributes({"http.route": path, "url.path": path})
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)


def _flushed(send: Send) -> Send:
    """Return what answers when the server has stopped, and waits for the last spans to be gone first."""

    async def answer(message: Message) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            await _flush()
        await send(message)

    return answer


async def _flush() -> None:
    """Send what is left, as far as whoever takes it is there: a signal ends the process before anything else would."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush()
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, daemon=True).start()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), FLUSH_SECONDS)
