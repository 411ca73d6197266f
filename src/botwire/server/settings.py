"""The settings of a server, checked before it listens."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from ..connections.peers import is_loopback
from ..errors import InvalidArgument
from ..plans import Plans
from ..search.embedding import local_embedder
from ..stores import open_to_serve
from .access.rules import Mode
from .budget import MAX_HELD
from .telemetry.exporters import exporters_of

_IN_MEMORY = "sqlite:///:memory:"


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that SIGHUP replaces in a running server.

    ``plans``: limits for the namespaces. ``tls_cert``, ``tls_key``: PEM files with the certificate chain and its key, without a
    password; None: serve http. ``log_level``: debug, info, warning or error.
    """

    plans: Plans
    tls_cert: str | None = None
    tls_key: str | None = None
    log_level: str = "info"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a server. Those outside of ``live`` apply from one start to the next.

    ``db``: ``sqlite:///path``, ``sqlite:///:memory:`` or ``postgresql://…``. ``port``: 0 for any free one. ``auth``: open: a namespace is
    open to every client until one claims it; required: every request needs a token. ``open``: listen on an interface that other
    machines reach without requiring tokens, and accept every ``Host`` field. ``workers``: processes; one that dies is replaced.
    ``max_connections``: open connections of each process, of which half may watch; further ones get 503 with Retry-After.
    ``max_held``: MiB of large requests and answers that each process holds at once; further ones get 503 with Retry-After.
    ``namespaces_per_address``: new namespaces that the clients without an issued token at one address may create or claim in a UTC
    day, see `Newcomers`; 0: no limit. ``keep_free``: bytes of the disk of a SQLite file that stay free, see `Disk`; None: 5 %, but at
    most 256 MiB; 0: none.
    ``traces``: exporters as in ``OTEL_TRACES_EXPORTER``; None: as the environment says. ``embedder``: a local model, see
    `local_embedder`, for questions that come without a vector.
    """

    db: str
    live: LiveSettings
    host: str = "127.0.0.1"
    port: int = 8765
    auth: Mode = "open"
    open: bool = False
    workers: int = 1
    max_connections: int = 1_000
    max_held: int = MAX_HELD >> 20
    namespaces_per_address: int = 1_000
    keep_free: int | None = None
    traces: str | None = None
    embedder: str | None = None

    def check(self) -> str:
        """Check everything that can be checked before the server listens, and return the store's address without its password.

        Raises:
            InvalidArgument: other machines can reach the interface, and neither ``auth`` nor ``open`` allows that, or both are
                given; several processes for a store in memory; a wrong certificate or key; an unknown trace exporter or model.
            StoreError, Unavailable: the file or the database cannot be opened.
        """
        if self.auth == "required" and self.open:
            raise InvalidArgument("--auth required and --open contradict each other: leave one of them out")
        if self.auth == "open" and not self.open and not is_loopback(self.host):
            raise InvalidArgument(
                f"other machines can reach {self.host}, and this server requires no token: add --auth required, or add "
                "--open to serve every client, or listen on 127.0.0.1"
            )
        if self.workers > 1 and self.db == _IN_MEMORY:
            raise InvalidArgument("several processes cannot share a store in memory: name a file, or omit --workers")
        check_tls(self.live)
        exporters_of(self.traces)
        if self.embedder is not None:
            local_embedder(self.embedder)
        store = open_to_serve(self.db, self.live.plans)
        store.close()
        return store.address

    def changed(self, new: Settings) -> list[str]:
        """Return the options that differ in new settings and need a restart, by their names on the command line."""
        fields = [name for name in self.__struct_fields__ if name != "live"]
        names = [name for name in fields if getattr(self, name) != getattr(new, name)]
        if (self.live.tls_cert is None) != (new.live.tls_cert is None):
            names += ["tls_cert", "tls_key"]
        return [f"--{name.replace('_', '-')}" for name in names]


def check_tls(live: LiveSettings) -> None:
    """Raise `InvalidArgument` unless the certificate and the key are given together, can be read and match."""
    if (live.tls_cert is None) != (live.tls_key is None):
        raise InvalidArgument("--tls-cert and --tls-key go together: name both files, or neither")
    if live.tls_cert is not None:
        tls_context(live)


def tls_context(live: LiveSettings) -> ssl.SSLContext:
    """Return a TLS context with the certificate, or raise `InvalidArgument`. Never asks for a password."""
    assert live.tls_cert is not None
    assert live.tls_key is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION  # one handshake for each connection
    try:
        context.load_cert_chain(live.tls_cert, live.tls_key, password=lambda: "")
    except FileNotFoundError as error:
        missing = next((file for file in (live.tls_cert, live.tls_key) if not Path(file).exists()), live.tls_cert)
        raise InvalidArgument(f"{missing} does not exist: --tls-cert and --tls-key name PEM files") from error
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(
            f"{live.tls_cert} and {live.tls_key} are not a certificate and its key, in PEM and without a password: {error}"
        ) from error
    return context
