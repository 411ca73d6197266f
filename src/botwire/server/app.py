"""The app: its routes, and the life of its store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from ..search.embedding import Embedding
from ..store import GuardedStore
from ..version import __version__
from .access.gate import Gate
from .access.rules import Mode
from .admin import add_administration
from .console import add_console
from .docs_page import add_page
from .memory_routes import add_memory_routes
from .openapi import describe
from .problems import add_error_handlers, refusal
from .question_embedder import QuestionEmbedder
from .routes import ROUTES, Guard, Shortcut
from .search_routes import add_search_routes
from .telemetry.metrics import Metrics
from .usage_routes import add_usage_routes
from .watch import add_watch

log = logging.getLogger("botwire.server")


def create_app(
    store: GuardedStore,
    *,
    mode: Mode = "open",
    local_only: bool = True,
    max_watchers: int = 500,
    metrics: Metrics | None = None,
    embedding: Embedding | None = None,
) -> FastAPI:
    """Return the service over a store, which it closes when it shuts down.

    Args:
        store: where the namespaces are.
        mode: open, or required: every request needs a token.
        local_only: refuse requests that name a host other than this machine, see `gate.Gate`.
        max_watchers: the number of watchers at once; further ones get 503.
        metrics: where requests are counted.
        embedding: the model for questions by meaning that come without a vector.
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
    app.state.gate = gate = Gate(store, mode=mode, local_only=local_only)
    app.state.embedder = QuestionEmbedder(embedding)
    app.state.metrics = metrics or Metrics()
    app.router.routes.extend(ROUTES)
    add_memory_routes(app)
    add_search_routes(app)
    add_usage_routes(app)
    add_administration(app)
    add_watch(app, max_watchers, app.state.metrics)
    app.add_middleware(Guard, gate=gate, router=app.router, on_error=refusal)
    add_error_handlers(app)
    describe(app)
    add_page(app)
    add_console(app)
    return app


def shortcut(app: FastAPI, kind: Callable[..., Shortcut] = Shortcut) -> Shortcut:
    """Return the app for a server to run: the same answers, counted, and faster on the hot routes."""
    return kind(app, app.state.gate, refusal, app.state.metrics)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gate: Gate = app.state.gate
    log.info("serving", extra={"store": gate.store.address, "version": __version__, "auth": gate.mode})
    recording = asyncio.create_task(gate.recorder.run())
    yield
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
    app.state.embedder.close()
    await gate.store.close()
    log.info("stopped")
