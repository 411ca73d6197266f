"""The app: its routes, and the life of its store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from ..search.embedding import Embedding
from ..store import GuardedStore
from ..version import __version__
from .access.authorizer import Authorizer
from .access.rules import Mode
from .console import add_console
from .openapi import add_routes
from .problems import add_error_handlers
from .routes import Dispatcher
from .telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ..stores.wrappers.tracing import Tracing
    from .telemetry.traces import TracedApp

log = logging.getLogger("botwire.server")


def create_app(
    store: GuardedStore,
    *,
    mode: Mode = "open",
    local_only: bool = True,
    max_watchers: int = 500,
    metrics: Metrics | None = None,
    embedding: Embedding | None = None,
    tracing: Tracing | None = None,
) -> Dispatcher | TracedApp:
    """Return the service over a store, which it closes when it shuts down.

    Args:
        store: has the namespaces.
        mode: open, or required: every request needs a token.
        local_only: refuse requests that name a host other than this machine, see `Authorizer`.
        max_watchers: the number of watchers at once; further ones get 503.
        metrics: counts requests.
        embedding: the model for questions by meaning that come without a vector.
        tracing: makes a span for each request; None: nothing is traced.
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
    app.state.authorizer = Authorizer(store, mode=mode, local_only=local_only)
    app.state.embedding, app.state.embedding_lock = embedding, asyncio.Lock()
    app.state.metrics = metrics or Metrics()
    app.state.max_watchers, app.state.watchers = max_watchers, asyncio.Semaphore(max_watchers)
    add_routes(app)
    add_error_handlers(app)
    add_console(app)
    dispatcher = Dispatcher(app)
    if tracing is None:
        return dispatcher
    from .telemetry.traces import TracedApp

    return TracedApp(dispatcher, tracing, dispatcher.metrics)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    authorizer: Authorizer = app.state.authorizer
    log.info("serving", extra={"store": authorizer.store.address, "version": __version__, "auth": authorizer.mode})
    recording = asyncio.create_task(authorizer.recorder.run())
    yield
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
    await authorizer.store.close()
    log.info("stopped")
