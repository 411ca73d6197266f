"""Routes about usage and operation: the usage of a namespace, its history, metrics and health."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import PlainTextResponse, Response

from .. import wire
from ..limits import check_namespace
from ..queries import GetUsage
from ..version import __version__
from .routes import CallersStore, JsonResponse, Namespace
from .telemetry.metrics import MEDIA_TYPE
from .telemetry.usage_history import KEPT_DAYS


async def usage(store: CallersStore, namespace: Namespace) -> Response:
    """Return what a namespace holds, what it wrote today, and what its plan allows."""
    return JsonResponse(wire.encode_usage(namespace, await store.read(check_namespace(namespace), GetUsage())))


async def usage_history(
    request: Request,
    store: CallersStore,
    namespace: Namespace,
    days: Annotated[int, Query(ge=1, le=KEPT_DAYS, description="how far back")] = 7,
) -> Response:
    """Return what a namespace held and had written in its day, hour by hour, oldest first, and now."""
    samples = await request.app.state.gate.recorder.history(check_namespace(namespace), days)
    return JsonResponse(wire.encode_history(namespace, samples, await store.read(namespace, GetUsage())))


async def metrics(request: Request) -> Response:
    """Return the metrics of the server, for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=MEDIA_TYPE)


async def health(store: CallersStore) -> dict[str, str]:
    """Check that the store can be read."""
    await store.read("health", GetUsage())
    return {"status": "ok", "version": __version__}


def add_usage_routes(app: FastAPI) -> None:
    """Add these routes to the app."""
    app.add_api_route("/usage/{namespace}", usage, methods=["GET"], tags=["usage"])
    app.add_api_route("/usage/{namespace}/history", usage_history, methods=["GET"], tags=["usage"])
    app.add_api_route("/metrics", metrics, methods=["GET"], tags=["operations"], response_class=PlainTextResponse)
    app.add_api_route("/health", health, methods=["GET"], tags=["operations"])
