"""One process that serves: it builds the app and reloads its live settings on SIGHUP."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search.embedding import Embedding, local_embedder
from ..store import GuardedStore
from ..stores import guarded_store, open_to_serve
from ..stores.sqlite.served import ServedSqliteStore
from ..stores.sqlite.store import SqliteStore
from ..stores.wrappers.traced import TracedGuardedStore
from .app import create_app, shortcut
from .reload import Certificate, ReplaceablePlans, attempt
from .routes import Shortcut
from .settings import LiveSettings, Settings
from .telemetry import logs
from .telemetry.exporters import begin, exporters_of
from .telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ..stores.wrappers.tracing import Tracing

log = logging.getLogger("botwire.server")


class Worker:
    """What a process that serves is made of. uvicorn calls its methods, in a worker process on a copy.

    Args:
        settings: what to serve and how.
        reread: returns the live settings as they are on SIGHUP, or raises `BotWireError`.
        metrics: the directory in which several processes count together; None: this one serves alone.
    """

    def __init__(self, settings: Settings, reread: Callable[[], LiveSettings], metrics: Path | None = None) -> None:
        self._settings = settings
        self._live = settings.live
        self._reread = reread
        self._metrics = metrics
        self._plans: ReplaceablePlans | None = None
        self._certificate: Certificate | None = None

    def renew(self, live: LiveSettings) -> None:
        """Start with other live settings, for copies that are made from now on."""
        self._live = live

    def tls_context(self, *_: Any) -> ssl.SSLContext:
        """Return the TLS context for uvicorn, which passes its configuration and its own way to make one."""
        self._certificate = Certificate(self._live)
        return self._certificate.context

    def app(self) -> Shortcut:
        """Return the app for uvicorn, which calls this in the event loop, before it accepts connections."""
        settings = self._settings
        logs.set_level(self._live.log_level)
        self._plans = ReplaceablePlans(self._live.plans)
        metrics = Metrics(self._metrics)
        tracing = begin(exporters_of(settings.traces))
        built = create_app(
            _served(settings.db, self._plans, metrics, tracing),
            mode=settings.auth,
            local_only=settings.auth == "open" and not settings.open,
            max_watchers=max(1, settings.max_connections // 2),
            metrics=metrics,
            embedding=None if settings.embedder is None else Embedding(local_embedder(settings.embedder)),
        )
        app = shortcut(built, Shortcut if tracing is None else _traced(tracing))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        # What exists by now stays: each full garbage collection that searched it took 45 ms.
        gc.collect()
        gc.freeze()
        return app

    def reload(self) -> None:
        """Apply the live settings as they are now, or log why not and keep the old ones."""
        if attempt(self._apply):
            log.info("reloaded", extra={"pid": os.getpid()})

    def _apply(self) -> None:
        live = self._reread()
        if self._certificate is not None and live.tls_cert is not None:
            self._certificate.replace(live)  # first, because it alone can fail
        assert self._plans is not None
        self._plans.replace(live.plans)
        logs.set_level(live.log_level)
        self._live = live


def _served(db: str, plans: ReplaceablePlans, metrics: Metrics, tracing: Tracing | None) -> GuardedStore:
    store = open_to_serve(db, plans)
    served: GuardedStore
    if isinstance(store, SqliteStore):
        served = ServedSqliteStore(store, on_commit=metrics.committed)
    else:
        served = guarded_store(store)
    return served if tracing is None else TracedGuardedStore(served, tracing)


def _traced(tracing: Tracing) -> Callable[..., Shortcut]:
    from .telemetry.traces import Traced

    return partial(Traced, tracing)
