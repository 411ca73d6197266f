"""One process that serves: it builds the app, and reloads its live settings on SIGHUP without closing a connection."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from ..errors import BotWireError
from ..plans import Plan, Plans
from ..search.embedding import Embedding, local_embedder
from ..stores import open_served
from ..stores.wrappers.traced import TracedGuardedStore
from .app import create_app
from .settings import LiveSettings, Settings, tls_context
from .telemetry import logs
from .telemetry.exporters import begin, exporters_of
from .telemetry.metrics import Metrics

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

    def app(self) -> ASGIApp:
        """Return the app for uvicorn, which calls this in the event loop, before it accepts connections."""
        settings = self._settings
        logs.set_level(self._live.log_level)
        self._plans = ReplaceablePlans(self._live.plans)
        metrics = Metrics(self._metrics)
        tracing = begin(exporters_of(settings.traces))
        store = open_served(settings.db, self._plans, metrics.committed)
        app = create_app(
            store if tracing is None else TracedGuardedStore(store, tracing),
            mode=settings.auth,
            local_only=settings.auth == "open" and not settings.open,
            max_watchers=max(1, settings.max_connections // 2),
            metrics=metrics,
            embedding=None if settings.embedder is None else Embedding(local_embedder(settings.embedder)),
            tracing=tracing,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        # What exists by now stays: each full garbage collection that searched it took 45 ms.
        gc.collect()
        gc.freeze()
        return app

    def _reload(self) -> None:
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


class ReplaceablePlans(Plans):
    """Plans that a store keeps, and that change for all its following writes when they are replaced."""

    current: Plans

    def __init__(self, plans: Plans) -> None:
        self.replace(plans)

    def replace(self, plans: Plans) -> None:
        """Use these plans from now on."""
        vars(self).update(current=plans, default=plans.default, named=plans.named)

    def of(self, name: str | None) -> tuple[str, Plan]:
        """As `Plans.of`, from one version of the plans even while another thread replaces them."""
        return self.current.of(name)


class Certificate:
    """The certificate of a server, which can be replaced for all following connections.

    Each certificate gets a TLS context of its own. Loading it into the context in use would keep the old one beside it if
    its key is of another type, and would leave a certificate without its key if the files change in between.

    Args:
        live: with the files of the first certificate.
    """

    def __init__(self, live: LiveSettings) -> None:
        self._current = self.context = tls_context(live)
        self.context.sni_callback = self._use_current

    def replace(self, live: LiveSettings) -> None:
        """Use another certificate from now on, or raise `InvalidArgument`."""
        self._current = tls_context(live)

    def _use_current(self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        """OpenSSL calls it for each connection, also for one that names no server, before it chooses a certificate."""
        connection.context = self._current


def attempt(change: Callable[[], None]) -> bool:
    """Make a change. If it fails, log why: the server keeps serving with its old configuration."""
    try:
        change()
    except BotWireError as error:
        log.error("not reloaded", extra={"reason": error.message})  # noqa: TRY400 - an error of the operator
        return False
    except Exception:
        log.exception("not reloaded")
        return False
    return True
