"""Runs the app, in one process or several: uvicorn with uvloop and httptools, on loopback unless the operator says otherwise.

On SIGHUP, the process that an operator signals reads the settings again and checks them. If they are wrong, it logs why and keeps
the old ones. A process that serves alone then applies them. With several workers, their parent writes them to a file and
signals the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from ..connections.config import Config
from ..errors import BotWireError, InvalidArgument
from ..plans import Plans
from ..search.embedding import Embedding, local_embedder
from ..stores import open_served
from ..version import __version__
from .app import create_app
from .parent import end_with_parent
from .settings import LiveSettings, Settings, check_tls, tls_context
from .telemetry import logs
from .telemetry.exporters import begin, exporters_of
from .telemetry.metrics import DIRECTORY, Metrics

log = logging.getLogger("botwire.server")

ACCEPTS = 16
"""Connections that are accepted in one turn of the event loop."""
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
SWITCH = 0.0002
"""Seconds after which a thread that computes passes Python's lock on. While a large body is checked, a thread that commits waits so
long after each statement: by default 5 ms."""
GRACE = 10
"""Seconds that a shutdown waits for the requests in progress."""


def serve(settings: Settings, *, reread: Callable[[], Settings], announce: Callable[[dict[str, Any]], None]) -> None:
    """Serve a SQLite file or a PostgreSQL database until SIGTERM or SIGINT, and return when every request is answered.

    SIGHUP replaces the live settings in place and closes no connection.

    Args:
        settings: what to serve and how.
        reread: returns the settings as they are given on SIGHUP.
        announce: receives where the server listens, once.

    Raises:
        InvalidArgument, StoreError, Unavailable: as `Settings.check`, or the interface or port cannot be used.
    """
    facts = {"store": settings.check(), "auth": settings.auth, "version": __version__}
    # Many systems start with 1,024 open files, and each connection is one.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reread_live = partial(_reread_live, settings, reread)
    if settings.workers == 1:
        config = _config(settings, Worker(settings, reread_live))
        listeners = _listeners(config)
        Server(config, partial(_announce, config, listeners, facts, announce)).run(listeners)
        return
    with tempfile.TemporaryDirectory(prefix="botwire-") as folder:
        os.environ[DIRECTORY] = folder  # before the workers import prometheus_client
        file = Path(folder, "live.json")
        worker = Worker(settings, partial(_read_live, file), Path(folder))
        config = _config(settings, worker)
        listeners = _listeners(config)
        _announce(config, listeners, facts, announce)
        Workers(config, listeners, partial(_publish, reread_live, worker, file)).run()


class Worker:
    """What a process that serves is made of. uvicorn calls its methods, in a worker process on a copy.

    Args:
        settings: what to serve and how.
        reread: returns the live settings as they are on SIGHUP, or raises `BotWireError`.
        metrics: the directory in which several processes count together; None: this one serves alone.
    """

    def __init__(self, settings: Settings, reread: Callable[[], LiveSettings], metrics: Path | None = None) -> None:
        self._settings = settings
        self.live = settings.live  # copies that are made later start with these
        self._reread = reread
        self._metrics = metrics
        self._plans: ReplaceablePlans | None = None
        self._certificate: Certificate | None = None

    def tls_context(self, *_: Any) -> ssl.SSLContext:
        """Return the TLS context for uvicorn, which passes its configuration and its own way to make one."""
        self._certificate = Certificate(self.live)
        return self._certificate.context

    def app(self) -> ASGIApp:
        """Return the app for uvicorn, which calls this in the event loop, before it accepts connections."""
        settings = self._settings
        _give_memory_back()
        sys.setswitchinterval(SWITCH)
        logs.set_level(self.live.log_level)
        if settings.workers > 1:
            end_with_parent(GRACE + 5)
        self._plans = ReplaceablePlans(self.live.plans)
        metrics = Metrics(self._metrics)
        tracing = begin(exporters_of(settings.traces))
        store = open_served(settings.db, self._plans, metrics.committed)
        if tracing is not None:
            from ..stores.wrappers.tracing import TracedGuardedStore

            store = TracedGuardedStore(store, tracing)
        app = create_app(
            store,
            mode=settings.auth,
            local_only=settings.auth == "open" and not settings.open,
            max_watchers=max(1, settings.max_connections // 2),
            max_held=settings.max_held << 20,
            metrics=metrics,
            embedding=None if settings.embedder is None else Embedding(local_embedder(settings.embedder)),
            tracing=tracing,
            namespaces_per_address=-(-settings.namespaces_per_address // settings.workers),
            keep_free=settings.keep_free,
        )
        metrics.namespaces_per_address.set(settings.namespaces_per_address)  # of all workers together
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
        self.live = live


class ReplaceablePlans(Plans):
    """Plans that a store keeps, and that change for all its following writes when they are replaced."""

    def __init__(self, plans: Plans) -> None:
        self.replace(plans)

    def replace(self, plans: Plans) -> None:
        """Use these plans from now on."""
        vars(self).update(current=plans, default=plans.default, named=plans.named)


class Certificate:
    """The certificate of a server, which can be replaced for all following connections.

    Each certificate gets a TLS context of its own. Loading it into the context in use would keep the old one beside it if
    its key is of another type, and would leave a certificate without its key if the files change in between.
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


def _give_memory_back() -> None:
    """Have each large piece of memory go back to the system as soon as it is freed.

    By default glibc keeps tens of megabytes for each thread (https://man7.org/linux/man-pages/man3/mallopt.3.html). Forty
    watchers of one value of 15 MB kept 270 MB, and with this setting 70 MB.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        library.mallopt(
            _M_ARENA_MAX, 2
        )  # each reserves 64 MiB of addresses, and they are one for each thread by default


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


class Server(uvicorn.Server):
    """A process that serves alone, and calls ``started`` when it accepts connections."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_started()


class Workers(Multiprocess):
    """The worker processes and their parent, which calls ``publish`` on SIGHUP and passes the signal on to them."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], publish: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._publish = publish

    def handle_hup(self) -> None:
        """Reload. A worker that has not finished its start ends by the signal, and its replacement has the new settings."""
        if attempt(self._publish):
            for process in self.processes:
                if process.pid is not None and process.exitcode is None:
                    os.kill(process.pid, signal.SIGHUP)


def _reread_live(running: Settings, reread: Callable[[], Settings]) -> LiveSettings:
    """Return what changes without a restart, and log what needs one; or raise `BotWireError`."""
    new = reread()
    check_tls(new.live)
    if changed := running.changed(new):
        log.warning("restart needed", extra={"options": changed})
    return new.live


def _publish(reread: Callable[[], LiveSettings], worker: Worker, file: Path) -> None:
    """Write the live settings for the running workers, and keep them for those that start later."""
    live = reread()
    unfinished = file.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode(live))
    unfinished.replace(file)
    worker.live = live
    logs.set_level(live.log_level)


def _read_live(file: Path) -> LiveSettings:
    return msgspec.json.decode(file.read_bytes(), type=LiveSettings)


def _config(settings: Settings, worker: Worker) -> Config:
    return Config(
        worker.app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=logs.config(settings.live.log_level),
        access_log=False,
        http=f"{__package__}.protocol:Protocol",
        limit_concurrency=settings.max_connections,
        proxy_headers=False,  # nothing depends on where a request came from
        timeout_graceful_shutdown=GRACE,
        ssl_context_factory=worker.tls_context if settings.live.tls_cert else None,
    )


def _listeners(config: uvicorn.Config) -> list[socket.socket]:
    """Listen once, with several file descriptors.

    libuv accepts one connection for each descriptor in a turn of its loop. While the server answers 400 connections a turn
    takes 20 ms, and with one descriptor the last of 500 that came at once waited for 3 s.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family, backlog=config.backlog)
    except OSError as error:
        raise InvalidArgument(
            f"cannot listen on {config.host}, port {config.port}: {error.strerror or error}. Name another --host or --port"
        ) from error
    listener.set_inheritable(True)
    return [listener, *(listener.dup() for _ in range(ACCEPTS - 1))]


def _announce(
    config: uvicorn.Config,
    listeners: list[socket.socket],
    facts: dict[str, Any],
    announce: Callable[[dict[str, Any]], None],
) -> None:
    host, port, *_ = listeners[0].getsockname()
    url = f"{'https' if config.is_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("listening on %s", url)
    announce({"url": url, **facts, "pid": os.getpid()})
