"""The app: its routes, its error handlers, and the life of its store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route

from .. import wire
from ..errors import BotWireError, InvalidArgument
from ..search.embedding import Embedding
from ..store import GuardedStore
from ..version import __version__
from .access.authorizer import Authorizer
from .access.newcomers import Newcomers
from .access.rules import Mode
from .budget import MAX_HELD, Budget
from .console import add_console
from .disk import Disk
from .encoded import Encoder
from .openapi import add_routes
from .routes import Dispatcher, failure, problem, problem_response, refusal
from .telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ..stores.wrappers.tracing import Tracing
    from .telemetry.traces import TracedApp

log = logging.getLogger("botwire.server")

SWEEP_SECONDS = 60
"""How often old idempotency records are deleted."""


def create_app(
    store: GuardedStore,
    *,
    mode: Mode = "open",
    local_only: bool = True,
    max_watchers: int = 500,
    max_held: int = MAX_HELD,
    metrics: Metrics | None = None,
    embedding: Embedding | None = None,
    tracing: Tracing | None = None,
    namespaces_per_address: int = 0,
    keep_free: int | None = None,
) -> Dispatcher | TracedApp:
    """Return the service over a store, which it closes when it shuts down.

    ``mode`` and ``local_only``: see `Authorizer`. ``max_watchers``: watchers at once; further ones get 503. ``max_held``: bytes of
    large requests and answers at once; further ones get 503. ``embedding``: the model for questions by meaning that come without
    a vector. ``tracing``: makes a span for each request; None: nothing is traced.
    ``namespaces_per_address``: see `Newcomers`. ``keep_free``: see `Disk`.
    """
    app = FastAPI(
        title="botwire",
        version=__version__,
        summary="Persistent memory for AI agents.",
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,  # these pages load their scripts from other hosts
        redoc_url=None,
        # FastAPI's telemetry records whole URLs, and with them keys. `telemetry.traces` makes spans without them.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    metrics = app.state.metrics = metrics or Metrics()
    newcomers = _newcomers(namespaces_per_address, metrics)
    app.state.authorizer = Authorizer(store, mode=mode, local_only=local_only, newcomers=newcomers)
    app.state.disk = Disk(store.address, keep_free)
    app.state.disk.on_refusal = metrics.refusals.labels("disk").inc
    app.state.embedding, app.state.embedding_lock = embedding, asyncio.Lock()
    app.state.budget = Budget(max_held)
    app.state.encoder = Encoder(app.state.budget)
    app.state.max_watchers, app.state.watchers = max_watchers, asyncio.Semaphore(max_watchers)
    add_routes(app)
    _add_error_handlers(app)
    add_console(app)
    dispatcher = Dispatcher(app)
    if tracing is None:
        return dispatcher
    from .telemetry.traces import TracedApp

    return TracedApp(dispatcher, tracing, dispatcher.metrics)


def _newcomers(limit: int, metrics: Metrics) -> Newcomers:
    newcomers = Newcomers(limit)
    newcomers.on_refusal = metrics.refusals.labels("namespaces").inc
    metrics.namespaces_per_address.set(limit)
    return newcomers


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    authorizer: Authorizer = app.state.authorizer
    log.info("serving", extra={"store": authorizer.store.address, "version": __version__, "auth": authorizer.mode})
    tasks = [asyncio.create_task(authorizer.recorder.run()), asyncio.create_task(_sweep(authorizer.store))]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await authorizer.store.close()
    log.info("stopped")


async def _sweep(store: GuardedStore) -> None:
    """Delete old idempotency records regularly, also if no client writes."""
    while True:
        with suppress(BotWireError):  # if the disk fails, later
            await store.sweep()
        await asyncio.sleep(SWEEP_SECONDS)


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""

    @app.exception_handler(BotWireError)
    async def refused(_: Request, error: BotWireError) -> Response:
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        where = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
        return problem(InvalidArgument(where))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        headers = dict(error.headers or {})
        if "Allow" in headers:  # Starlette names the methods of the first route with this path only
            routes = [route for route in request.app.routes if isinstance(route, Route)]
            found = [route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE]
            headers["Allow"] = ", ".join(sorted(set().union(*found)))
        return problem_response(wire.encode(document), error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has disconnected and does not receive it

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem(failure())  # Starlette logs the traceback
