"""``botwire doctor`` for PostgreSQL: version, durability, poolers. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

import psycopg

from ..errors import StoreError, Unavailable
from ..stores.postgres.connection import connect
from .finding import Finding, reached

Ask: TypeAlias = Callable[[str], tuple[Any, ...]]
"""Returns the first row of a statement."""


def findings(address: str, timeout: float) -> Iterator[Finding]:
    """Check the server at an address.

    Raises:
        Unavailable: the server cannot be reached.
        StoreError: the server cannot be used, or a query failed.
    """
    try:
        with closing(connect(address, timeout)) as connection:
            yield from _checks(connection.raw)
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"{str(error).strip().partition(chr(10))[0]}. Is the server running, and is the address right?"
        ) from error
    except psycopg.Error as error:
        raise StoreError(f"PostgreSQL failed: {error.diag.message_primary or error}") from error


def _checks(raw: psycopg.Connection[Any]) -> Iterator[Finding]:
    def ask(statement: str) -> tuple[Any, ...]:
        return raw.execute(statement.encode()).fetchone() or ()

    yield reached(lambda: ask("SELECT 1"))
    name, database, role = ask("SELECT current_setting('server_version'), current_database(), current_user")
    yield Finding("server", f"PostgreSQL {name}, database {database}, as {role}", ok=True)
    yield _tables(ask)
    yield from _takes_writes(ask)
    yield _durable(ask)
    yield _between(ask, raw.info.backend_pid)
    yield _private(ask)
    yield _vectors(ask)


def _tables(ask: Ask) -> Finding:
    if ask("SELECT to_regclass('botwire.schema') IS NOT NULL") == (True,):
        (version,) = ask("SELECT version FROM botwire.schema")
        return Finding("tables", f"present, in the schema botwire, version {version}", ok=True)
    if ask("SELECT has_database_privilege(current_database(), 'CREATE')") == (True,):
        return Finding("tables", "not present yet: the first use creates them in the schema botwire", ok=True)
    return Finding(
        "tables", "not present, and this role may not create them: run GRANT CREATE ON DATABASE … TO the role", ok=False
    )


def _takes_writes(ask: Ask) -> Iterator[Finding]:
    if ask("SELECT pg_is_in_recovery()") == (True,):
        found = "no: this is a replica; use the address of the primary, or of all servers with target_session_attrs=read-write"
        yield Finding("takes writes", found, ok=False)
    elif ask("SELECT current_setting('default_transaction_read_only')") == ("on",):
        yield Finding("takes writes", "no: default_transaction_read_only is on", ok=False)


def _durable(ask: Ask) -> Finding:
    settings = dict(
        zip(
            ("fsync", "full_page_writes", "synchronous_commit"),
            ask(
                "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')"
            ),
            strict=True,
        )
    )
    off = [name for name, value in settings.items() if value == "off"]
    if off:
        return Finding(
            "durable",
            f"no: {' and '.join(off)} {'is' if len(off) == 1 else 'are'} off; a power cut can lose writes",
            ok=False,
        )
    (standbys,) = ask("SELECT current_setting('synchronous_standby_names')")
    level = settings["synchronous_commit"]
    if standbys and level != "local":
        return Finding("durable", f"yes, and on replicas before a write returns ({level}: {standbys})", ok=True)
    return Finding("durable", "yes: fsync and synchronous_commit are on; no synchronous replica", ok=True)


def _between(ask: Ask, reported: int) -> Finding:
    """Through a pooler, the backend process id differs from the one reported on connection."""
    if ask("SELECT pg_backend_pid()") == (reported,):
        return Finding("pooler", "none detected")
    return Finding("pooler", "detected; supported, also in transaction mode")


def _private(ask: Ask) -> Finding:
    (local,) = ask(
        "SELECT coalesce(inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR host(inet_server_addr()) = '::1', true)"
    )
    row = ask("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    if row and row[0]:
        return Finding("tls", f"yes, {row[1]}", ok=True)
    if local:
        return Finding("tls", "none, and the server is on this machine")
    return Finding("tls", "none: the connection is not encrypted; add sslmode=require or verify-full to the address")


def _vectors(ask: Ask) -> Finding:
    row = ask("SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'vector'")
    if not row:
        return Finding("pgvector", "not installed on the server; needed for search by meaning")
    installed, available = row
    return Finding("pgvector", installed or f"{available} is available for search by meaning, and not used yet")
