"""Runs the app: uvicorn with uvloop and httptools, on loopback unless the operator says otherwise.

On SIGHUP, the process that an operator signals reads the settings again and checks them. If they are wrong, it logs why and keeps
the old ones. A process that serves alone then applies them. With several workers, their parent writes them to a file and
signals the workers.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from ..errors import InvalidArgument
from ..version import __version__
from .settings import LiveSettings, Settings, check_tls
from .telemetry import logs
from .telemetry.metrics import DIRECTORY
from .worker import Worker, attempt

log = logging.getLogger("botwire.server")

ACCEPTS = 16
"""Connections that are accepted in one turn of the event loop."""
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
    worker.renew(live)
    logs.set_level(live.log_level)


def _read_live(file: Path) -> LiveSettings:
    return msgspec.json.decode(file.read_bytes(), type=LiveSettings)


def _config(settings: Settings, worker: Worker) -> uvicorn.Config:
    return uvicorn.Config(
        worker.app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=logs.config(settings.live.log_level),
        access_log=False,
        server_header=False,
        http=f"{__package__}.protocol:Protocol",
        limit_concurrency=settings.max_connections,
        proxy_headers=False,  # nothing depends on where a request came from
        ws="none",
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
