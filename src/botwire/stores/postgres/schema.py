"""The tables in a PostgreSQL database: made and brought up to date, and those for vectors where there is pgvector."""

from __future__ import annotations

import psycopg

from ...errors import InvalidArgument, StoreError
from ..engine.statements import load_migrations
from .statements import LOCK, SQL_FOLDER, Row

_MIGRATIONS = load_migrations(SQL_FOLDER / "migrations")
_VECTORS = (SQL_FOLDER / "vectors.sql").read_text("utf-8")


def migrate(connection: psycopg.Connection[Row], address: str) -> None:
    """Bring the database to the newest schema; of several processes one does it and the others find it done."""
    if _schema_version(connection, address) == len(_MIGRATIONS):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        for number, script in enumerate(_MIGRATIONS, 1):
            if number > _schema_version(connection, address):
                connection.execute(script.encode())
                connection.execute("UPDATE botwire.schema SET version = %s", (number,))


def _schema_version(connection: psycopg.Connection[Row], address: str) -> int:
    if not _has(connection, "schema"):
        return 0
    ((version,),) = connection.execute("SELECT version FROM botwire.schema").fetchall()
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"{address} is of schema version {version}, from a newer botwire; this one knows version {len(_MIGRATIONS)}. "
            "Upgrade botwire to use it"
        )
    return int(version)


def create_vectors(connection: psycopg.Connection[Row], address: str, timeout: float) -> None:
    """Make the tables for vectors if they are not there, and before them the extension that they take.

    Args:
        connection: to the database.
        address: what it is called in errors.
        timeout: seconds that a statement may take.

    Raises:
        InvalidArgument: the server has no pgvector, or we may not begin to use it.
    """
    if _has(connection, "entry_vectors"):
        return
    with connection.transaction():
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(max(1, int(timeout * 1000))),))
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if not _has(connection, "entry_vectors"):
            connection.execute(_VECTORS.replace("{pgvector}", _create_pgvector(connection, address)).encode())


def _create_pgvector(connection: psycopg.Connection[Row], address: str) -> str:
    """Return the schema of the extension, as SQL names it."""
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
        raise InvalidArgument(
            f"{address} keeps no vectors, because its server has no pgvector: install it there "
            "(https://github.com/pgvector/pgvector#installation) and try again. Search by words needs none"
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        raise InvalidArgument(
            f"{address} keeps no vectors, because the role {connection.info.user!r} may not begin to use pgvector: let the "
            f"owner of the database {connection.info.dbname!r}, or a superuser, run CREATE EXTENSION vector; in it, and try "
            "again. Search by words needs none"
        ) from None
    home = "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
    ((schema,),) = connection.execute(f"{home} WHERE extname = 'vector'").fetchall()
    return str(schema)


def _has(connection: psycopg.Connection[Row], table: str) -> bool:
    # Not by to_regclass, which answers from a cache that waiting for an advisory lock does not bring up to date.
    there = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'botwire' AND tablename = %s"
    return bool(connection.execute(there, (table,)).rowcount)
