"""Running the app: uvicorn with uvloop and httptools, on loopback unless the operator says otherwise."""

from __future__ import annotations

import ipaddress

import uvicorn

from ..errors import InvalidArgument
from ..plans import Plans
from ..stores.sqlite import SqliteStore
from ..stores.sqlite_served import ServedSqliteStore
from .app import create_app, shortcut
from .logs import config

GRACE = 10
"""Seconds that a shutdown waits for the requests under way."""


def serve(path: str, *, host: str, port: int, plans: Plans, open_to_all: bool = False, log_level: str = "info") -> None:
    """Serve a SQLite file until SIGTERM or SIGINT; returns when every request under way is answered.

    Args:
        path: the file, or ``:memory:``.
        host: the interface to listen on.
        port: 0 for any free one, which the log names.
        plans: limits for the namespaces.
        open_to_all: the operator's word that whoever reaches the interface may read and write everything.
        log_level: debug, info, warning or error.

    Raises:
        InvalidArgument: the interface can be reached from other machines and `open_to_all` was not said.
        StoreError: the file cannot be opened.
    """
    if not open_to_all and not is_loopback(host):
        raise InvalidArgument(
            f"{host} can be reached from other machines, and this server asks nobody for a token: add --open if that is "
            "what you want, or put it behind something that asks, or listen on 127.0.0.1"
        )
    app = create_app(ServedSqliteStore(SqliteStore(path, plans=plans)))
    uvicorn.run(
        shortcut(app),
        host=host,
        port=port,
        log_config=config(log_level),
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks where a request came from
        ws="none",
        timeout_graceful_shutdown=GRACE,
    )


def is_loopback(host: str) -> bool:
    """Whether an interface can be reached from this machine only (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
