"""``botwire doctor``: checks packages, address, connection and durability. Writes nothing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import apsw
import typer

from ..errors import AuthError, BotWireError, StoreError, Unavailable
from ..server.disk import space_of
from ..stores.address import default_path, default_token, is_postgres, sqlite_path
from ..version import __version__
from .base import Json, Url, address_from, app, is_server, memory_at, say

_EXTRAS = {
    "server": ("fastapi", "uvicorn", "typer"),
    "langchain": ("langchain-core",),
    "postgres": ("psycopg",),
    "encryption": ("cryptography",),
    "vectors": ("sqlite-vec",),
    "mcp": ("mcp",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
}
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_OVER_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})
_PROBE = "botwire-doctor"
_PATIENCE = 3.0
"""Seconds until a memory counts as unreachable."""


class _Finding(NamedTuple):
    """The result of one check; ``ok`` is None for information only."""

    what: str
    found: str
    ok: bool | None = None


_Findings: TypeAlias = Iterator[_Finding]


def _no(what: str, found: str) -> _Finding:
    return _Finding(what, f"no: {found}", ok=False)


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Check the installed packages, the address and its source, the connection, and durability.

    Writes nothing. Exits with 1 if a check fails.
    """
    wrong = False
    for finding in _findings(url):
        wrong = wrong or finding.ok is False
        mark = {None: " ", True: "✓", False: "✗"}[finding.ok]
        say(f"{mark} {finding.what:<12}  {finding.found}", finding._asdict(), as_json=as_json)
    if wrong:
        raise typer.Exit(1)


def _findings(url: str | None) -> _Findings:
    yield _Finding("botwire", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    yield _Finding("sqlite", f"{apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}")
    for extra, packages in _EXTRAS.items():
        yield _Finding(extra, _installed(extra, packages))
    try:
        yield from _checks(address_from(url), url)
    except (BotWireError, ImportError) as error:
        yield _no("reached", str(error))


def _checks(address: str, url: str | None) -> _Findings:
    if is_postgres(address):
        from ..stores.postgres.connection import without_password

        yield _Finding("address", f"{without_password(address)}, {_source(url)}")
        yield from _postgres(address)
        return
    yield _Finding("address", f"{address}, {_source(url)}")
    if is_server(address):
        token = "BOTWIRE_TOKEN is set" if os.environ.get("BOTWIRE_TOKEN") else "none: BOTWIRE_TOKEN is not set"
        yield _Finding("token", token)
    elif (path := sqlite_path(address)) != ":memory:" and not Path(path).exists():
        yield _missing(Path(path))
        return
    with memory_at(_PROBE, address, timeout=_PATIENCE) as memory:
        yield _reached(memory.usage)
        if is_server(address):
            yield _Finding("durable", "a returned write is on the server's disk")
            yield from _limits(address)
        elif memory.address == "sqlite:///:memory:":
            yield _no("durable", "it is in memory and ends with the process")
        else:
            yield from _file(Path(sqlite_path(memory.address)))


def _installed(extra: str, packages: tuple[str, ...]) -> str:
    try:
        return ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    except metadata.PackageNotFoundError:
        return f"not installed: pip install 'botwire[{extra}]'"


def _source(url: str | None) -> str:
    if url is not None:
        return "from --url"
    if os.environ.get("BOTWIRE_URL", "").strip():
        return "from the environment variable BOTWIRE_URL"
    return "the default, because neither --url nor BOTWIRE_URL is set"


def _missing(file: Path) -> _Finding:
    folder = file.parent
    if file == default_path() or (folder.is_dir() and os.access(folder, os.W_OK)):
        return _Finding("reached", "the file does not exist yet; the first write creates it", ok=True)
    why = "is not writable" if folder.is_dir() else "does not exist"
    return _no("reached", f"the folder {folder} {why}")


def _reached(read: Callable[[], Any]) -> _Finding:
    """Return the time of a second read, after a first one succeeded."""
    read()
    begun = time.perf_counter()
    read()
    return _Finding("reached", f"yes, a read takes {(time.perf_counter() - begun) * 1_000:.2f} ms", ok=True)


def _file(file: Path) -> _Findings:
    kind = _filesystem_of(file)
    where = f"the file system of {file}" + (f" ({kind})" if kind else "")
    if kind in _IN_MEMORY:
        yield _no("durable", f"{where} is in memory and does not survive a restart")
    elif kind in _OVER_NETWORK:
        yield _no("durable", f"{where} is on the network, where SQLite's locks are not reliable: use botwire serve")
    else:
        yield _Finding("durable", f"yes: each write is synced to {where}", ok=True)
    if mode := file.stat().st_mode & 0o077:
        yield _no("private", f"other users of this machine can access it ({mode:03o}): run chmod 600 {file}")
    yield _space(*space_of(file))


def _space(free: float, reserve: float) -> _Finding:
    found = f"{free / 1e9:,.1f} GB; a server refuses writes below {reserve / 1e9:,.2f} GB"
    return _Finding("free space", found, ok=free >= reserve)


def _limits(address: str) -> _Findings:
    """Return what a server says of its own limits, to those who may read its metrics."""
    from ..stores.http.messages import Request
    from ..stores.http.store import HttpStore

    with closing(HttpStore(address, token=default_token(), timeout=_PATIENCE)) as store:
        try:
            lines = store.ask(Request("GET", "/metrics")).decode().splitlines()
        except AuthError:
            yield _Finding("limits", "not shown: they need a token that may read everywhere")
            return
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("botwire_"))
    free, reserve = (float(values.get(f"botwire_disk_{name}_bytes", 0)) for name in ("free", "reserve"))
    if free or reserve:  # it is a file
        yield _space(free, reserve)
    if "botwire_namespaces_per_address" in values:
        limit = int(float(values["botwire_namespaces_per_address"]))
        found = f"{limit:,} new namespaces a day for each address of clients without a token" if limit else "none"
        yield _Finding("limits", found)


def _filesystem_of(file: Path) -> str:
    """Return the type of the file system of a file; empty if the system does not report it."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for _, mount, found, *_ in (line.split(" ") for line in mounts):
        inside = file.resolve().is_relative_to(mount.replace("\\040", " "))
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


_FACTS = """
SELECT current_setting('server_version') AS version, current_database() AS database, current_user AS role,
    to_regclass('botwire.schema') IS NOT NULL AS tables, has_database_privilege(current_database(), 'CREATE') AS may_create,
    pg_is_in_recovery() AS replica, current_setting('default_transaction_read_only') AS read_only,
    current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS standbys,
    pg_backend_pid() AS pid, (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls,
    coalesce(inet_server_addr() <<= '127.0.0.0/8' OR host(inet_server_addr()) = '::1', true) AS local,
    (SELECT installed_version FROM pg_available_extensions WHERE name = 'vector') AS pgvector,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS pgvector_available
"""


def _postgres(address: str) -> _Findings:
    import psycopg
    from psycopg.rows import namedtuple_row

    from ..stores.postgres.connection import connect, without_password
    from ..stores.postgres.statements import refuse_foreign_owners

    try:
        with closing(connect(address, _PATIENCE)) as connection, connection.transaction() as raw:
            yield _reached(lambda: raw.execute("SELECT 1"))
            facts: Any = raw.cursor(row_factory=namedtuple_row).execute(_FACTS).fetchone()
            refuse_foreign_owners(raw, without_password(address))
            schema = raw.execute("SELECT version FROM botwire.schema").fetchone() if facts.tables else None
            yield from _server(facts, schema)
            yield _durable(facts)
            # Through a pooler, the process that answers is another than the one that the connection names.
            pooled = facts.pid != raw.info.backend_pid
            yield _Finding("pooler", "detected; supported, also in transaction mode" if pooled else "none detected")
            yield from _features(facts)
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise Unavailable(f"{reason}. Is the server running, and is the address right?") from error
    except psycopg.Error as error:
        raise StoreError(f"PostgreSQL failed: {error.diag.message_primary or error}") from error


def _server(facts: Any, schema: tuple[Any, ...] | None) -> _Findings:
    found = f"PostgreSQL {facts.version}, database {facts.database}, as {facts.role}"
    yield _Finding("server", found, ok=True)
    if schema is not None:
        yield _Finding("tables", f"present, in the schema botwire, version {schema[0]}", ok=True)
    elif facts.may_create:
        yield _Finding("tables", "not present yet: the first use creates them in the schema botwire", ok=True)
    else:
        found = "not present, and this role may not create them: run GRANT CREATE ON DATABASE … TO the role"
        yield _Finding("tables", found, ok=False)
    if facts.replica:
        remedy = "use the address of the primary, or of all servers with target_session_attrs=read-write"
        yield _no("takes writes", f"this is a replica; {remedy}")
    elif facts.read_only == "on":
        yield _no("takes writes", "default_transaction_read_only is on")


def _durable(facts: Any) -> _Finding:
    off = [name for name in ("fsync", "full_page_writes") if getattr(facts, name) == "off"]
    if off:
        are = "is" if len(off) == 1 else "are"
        return _no("durable", f"{' and '.join(off)} {are} off; a power cut can lose writes")
    level = facts.synchronous_commit
    if level == "off":
        return _Finding(
            "durable", "yes: fsync is on; synchronous_commit is off, and botwire turns it on for itself", ok=True
        )
    if facts.standbys and level != "local":
        return _Finding("durable", f"yes, and on replicas before a write returns ({level}: {facts.standbys})", ok=True)
    return _Finding("durable", "yes: fsync and synchronous_commit are on; no synchronous replica", ok=True)


def _features(facts: Any) -> _Findings:
    if facts.tls:
        yield _Finding("tls", f"yes, {facts.tls}", ok=True)
    elif facts.local:
        yield _Finding("tls", "none, and the server is on this machine")
    else:
        yield _Finding("tls", "none: the connection is unencrypted; add sslmode=require or verify-full to the address")
    if facts.pgvector_available is None:
        yield _Finding("pgvector", "not installed on the server; needed for search by meaning")
    else:
        unused = f"{facts.pgvector_available} is available for search by meaning, and not used yet"
        yield _Finding("pgvector", facts.pgvector or unused)
