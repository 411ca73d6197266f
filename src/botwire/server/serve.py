"""Running the app: uvicorn with uvloop and httptools, on loopback unless the operator says otherwise."""

from __future__ import annotations

import gc
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn

from ..errors import InvalidArgument
from ..plans import Plans
from ..search.embedding import Embedding, local_embedder
from ..store import GuardedStore
from ..stores import guarded_store, open_to_serve
from ..stores.sqlite.served import ServedSqliteStore
from ..stores.sqlite.store import SqliteStore
from ..stores.wrappers.traced import TracedGuardedStore
from ..version import __version__
from .access.gate import is_loopback
from .access.rules import Mode
from .app import create_app, shortcut
from .reload import One, Several, begin_anew, inherited
from .routes import Shortcut
from .telemetry import logs
from .telemetry.exporters import begin, exporters_of
from .telemetry.metrics import DIRECTORY, Metrics

if TYPE_CHECKING:
    from ..stores.wrappers.tracing import Tracing

try:
    import resource
except ImportError:  # Windows has no such limit.
    resource = None  # type: ignore[assignment]

log = logging.getLogger("botwire.server")

ACCEPTS = 16
"""Connections that are taken in one turn of the event loop."""
GRACE = 10
"""Seconds that a shutdown waits for the requests under way."""

_GIVEN = "BOTWIRE_SERVED"


def serve(
    address: str,
    *,
    host: str,
    port: int,
    plans: Callable[[], Plans],
    auth: Mode = "open",
    open_to_all: bool = False,
    tls: tuple[Path, Path] | None = None,
    log_level: str = "info",
    workers: int = 1,
    max_connections: int = 1_000,
    traces: str | None = None,
    announce: Callable[[dict[str, Any]], None] = lambda _: None,
    embedder: str | None = None,
) -> None:
    """Serve a SQLite file or a PostgreSQL database until SIGTERM or SIGINT; returns when every request under way is answered.

    SIGHUP lets it begin anew with the plans and the certificate that there are by then, without refusing anybody.

    Args:
        address: ``sqlite:///path``, ``sqlite:///:memory:`` or ``postgresql://…``.
        host: the interface to listen on.
        port: 0 for any free one, which the log names.
        plans: returns limits for the namespaces, also when it begins anew.
        auth: open: whoever comes may use a namespace until it is claimed; required: every request needs a token.
        open_to_all: listen on an interface that other machines can reach, although not everybody is asked for a token, and
            answer by whichever name they ask for it.
        tls: files with the certificate, and those that it rests on, and its key, in PEM: serve https.
        log_level: debug, info, warning or error.
        workers: processes that serve it together, for reads to use more than one core. One that dies is replaced.
        max_connections: connections that each process serves at once, half of which may watch; the next ones are refused with 503
            and Retry-After.
        traces: where traces of OpenTelemetry go, as ``OTEL_TRACES_EXPORTER`` says it; None: as the environment does.
        announce: is told where it listens, each time it begins.
        embedder: a local model, see `local_embedder`, with which each process makes vectors of the questions that come without.

    Raises:
        InvalidArgument: the interface can be reached from other machines, and neither was `auth` required nor
            `open_to_all` said, or both were; a store in memory is to have several processes; the files are not a
            certificate and its key; traces cannot go where they are to; there is no such local model.
        StoreError, Unavailable: the file or the database cannot be opened.
    """
    if auth == "required" and open_to_all:
        raise InvalidArgument("--auth required and --open say opposite things: leave one of them out")
    if auth == "open" and not open_to_all and not is_loopback(host):
        raise InvalidArgument(
            f"{host} can be reached from other machines, and this server asks nobody for a token: add --auth required, or "
            "add --open if it is to let in whoever comes, or listen on 127.0.0.1"
        )
    if tls is not None:
        _check_tls(*tls)
    if workers > 1 and address == "sqlite:///:memory:":
        raise InvalidArgument("several processes cannot share a store in memory: name a file, or leave out --workers")
    given = _Given(address, plans(), auth, auth == "open" and not open_to_all, max(1, max_connections // 2))
    given.exporters = exporters_of(traces)
    if embedder is not None:
        local_embedder(embedder)
        given.embedder = embedder
    store = open_to_serve(address, given.plans)  # whatever is wrong with it is said before anything listens
    store.close()
    _allow_files()

    def check() -> None:
        if address == "sqlite:///:memory:":
            raise InvalidArgument("a store in memory would be gone")
        if tls is not None:
            _check_tls(*tls)
        given.plans = plans()
        os.environ[_GIVEN] = msgspec.json.encode(given).decode()

    os.environ[_GIVEN] = msgspec.json.encode(given).decode()
    certificate, key = tls or (None, None)
    config = uvicorn.Config(
        f"{__name__}:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_config=logs.config(log_level),
        access_log=False,
        server_header=False,
        http=f"{__package__}.protocol:Protocol",
        limit_concurrency=max_connections,
        proxy_headers=False,  # nobody asks where a request came from
        ws="none",
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    listeners = _listeners(config)

    def say_where() -> None:
        url = _url(config, listeners)
        log.info("listening on %s", url)
        facts = {"url": url, "store": store.address, "auth": auth, "version": __version__}
        announce({**facts, "pid": os.getpid()})

    if workers > 1:
        say_where()
        with tempfile.TemporaryDirectory(prefix="botwire-metrics-") as counts:
            os.environ[DIRECTORY] = given.metrics = counts
            os.environ[_GIVEN] = msgspec.json.encode(given).decode()
            Several(config, listeners, check).run()
        return
    kept = listeners[0].dup()
    server = One(config, say_where, check)
    server.run(sockets=listeners)
    if server.begins_anew:
        begin_anew(kept)
    kept.close()


def _listeners(config: uvicorn.Config) -> list[socket.socket]:
    """Listen once, under several file descriptors.

    libuv accepts one connection for each of them in a turn of its loop. While 400 connections are served a turn takes 20 ms,
    and with one descriptor the last of 500 that came at once had to wait for 3 s.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = inherited() or socket.create_server(
            (config.host, config.port), family=family, backlog=config.backlog
        )
    except OSError as error:
        raise InvalidArgument(
            f"cannot listen on {config.host}, port {config.port}: {error.strerror or error}. Name another --host or --port"
        ) from error
    listener.set_inheritable(True)
    return [listener, *(listener.dup() for _ in range(ACCEPTS - 1))]


def _url(config: uvicorn.Config, listeners: list[socket.socket]) -> str:
    host, port, *_ = listeners[0].getsockname()
    return f"{'https' if config.is_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _allow_files() -> None:
    """Take as many open files as the system grants: it often begins with 1,024, and each connection is one."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def app() -> Shortcut:
    """Return what each of the processes runs. It is told what to serve by the environment: uvicorn hands on a name only."""
    given = msgspec.json.decode(os.environ[_GIVEN], type=_Given)
    store = open_to_serve(given.address, given.plans)
    metrics = Metrics(None if given.metrics is None else Path(given.metrics))
    served: GuardedStore
    if isinstance(store, SqliteStore):
        served = ServedSqliteStore(store, on_commit=metrics.committed)
    else:
        served = guarded_store(store)
    tracing = begin(given.exporters)
    if tracing is not None:
        served = TracedGuardedStore(served, tracing)
    made = create_app(
        served,
        mode=given.auth,
        local_only=given.local_only,
        max_watchers=given.max_watchers,
        metrics=metrics,
        embedding=None if given.embedder is None else Embedding(local_embedder(given.embedder)),
    )
    app = shortcut(made, Shortcut if tracing is None else _traced(tracing))
    # What is there by now stays: looking through it for garbage again and again took 45 ms each time.
    gc.collect()
    gc.freeze()
    return app


def _traced(tracing: Tracing) -> Callable[..., Shortcut]:
    from .telemetry.traces import Traced

    return partial(Traced, tracing)


class _Given(msgspec.Struct):
    """What each of the processes is told."""

    address: str
    plans: Plans
    auth: Mode
    local_only: bool
    max_watchers: int
    metrics: str | None = None
    exporters: list[str] | None = None
    embedder: str | None = None


def _check_tls(certificate: Path, key: Path) -> None:
    """Say what is wrong with the files before anything listens, and never ask for a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except FileNotFoundError as error:
        missing = next((file for file in (certificate, key) if not file.exists()), certificate)
        raise InvalidArgument(f"{missing} is not there: --tls-cert and --tls-key name files in PEM") from error
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(
            f"{certificate} and {key} are not a certificate and its key, in PEM and without a password: {error}"
        ) from error
