"""Running the app: uvicorn with uvloop and httptools, on loopback unless the operator says otherwise."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import socket

import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from ..errors import InvalidArgument
from ..plans import Plans
from ..store import AsyncStore
from ..stores import async_store, open_to_serve
from ..stores.sqlite import SqliteStore
from ..stores.sqlite_served import ServedSqliteStore
from . import logs
from .app import create_app, shortcut
from .routes import Shortcut

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
    plans: Plans,
    open_to_all: bool = False,
    log_level: str = "info",
    workers: int = 1,
    max_connections: int = 1_000,
) -> None:
    """Serve a SQLite file or a PostgreSQL database until SIGTERM or SIGINT; returns when every request under way is answered.

    Args:
        address: ``sqlite:///path``, ``sqlite:///:memory:`` or ``postgresql://…``.
        host: the interface to listen on.
        port: 0 for any free one, which the log names.
        plans: limits for the namespaces.
        open_to_all: listen on an interface that other machines can reach, although nobody is asked for a token.
        log_level: debug, info, warning or error.
        workers: processes that serve it together, for reads to use more than one core. One that dies is replaced.
        max_connections: connections that each process serves at once; the next ones are refused with 503 and Retry-After.

    Raises:
        InvalidArgument: the interface can be reached from other machines and `open_to_all` was not said, or a store in
            memory is to have several processes.
        StoreError, Unavailable: the file or the database cannot be opened.
    """
    if not open_to_all and not is_loopback(host):
        raise InvalidArgument(
            f"{host} can be reached from other machines, and this server asks nobody for a token: add --open if that is "
            "what you want, or put it behind something that asks, or listen on 127.0.0.1"
        )
    if workers > 1 and address == "sqlite:///:memory:":
        raise InvalidArgument("several processes cannot share a store in memory: name a file, or leave out --workers")
    open_to_serve(address, plans).close()  # whatever is wrong with it is said before anything listens
    _allow_files()
    os.environ[_GIVEN] = msgspec.json.encode((address, plans)).decode()
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
    )
    listeners = _listeners(config)
    if workers > 1:
        _say_where(listeners)
        Multiprocess(config, sockets=listeners).run()
    else:
        _Server(config).run(sockets=listeners)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _say_where(sockets or [])


def _listeners(config: uvicorn.Config) -> list[socket.socket]:
    """Listen once, under several file descriptors.

    libuv accepts one connection for each of them in a turn of its loop. While 400 connections are served a turn takes 20 ms,
    and with one descriptor the last of 500 that came at once had to wait for 3 s.
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


def _say_where(listeners: list[socket.socket]) -> None:
    host, port, *_ = listeners[0].getsockname()
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def _allow_files() -> None:
    """Take as many open files as the system grants: it often begins with 1,024, and each connection is one."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def app() -> Shortcut:
    """Return what each of the processes runs. It is told what to serve by the environment: uvicorn hands on a name only."""
    address, plans = msgspec.json.decode(os.environ[_GIVEN], type=tuple[str, Plans])
    store = open_to_serve(address, plans)
    served: AsyncStore = ServedSqliteStore(store) if isinstance(store, SqliteStore) else async_store(store)
    app = shortcut(create_app(served))
    # What is there by now stays: looking through it for garbage again and again took 45 ms each time.
    gc.collect()
    gc.freeze()
    return app


def is_loopback(host: str) -> bool:
    """Whether an interface can be reached from this machine only (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
