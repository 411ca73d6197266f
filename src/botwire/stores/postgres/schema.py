"""Create and migrate the tables in a PostgreSQL database, and those for vectors if the server has pgvector."""

from __future__ import annotations

import psycopg

from ...errors import InvalidArgument, StoreError
from ..engine.statements import load_migrations
from .statements import LOCK, SQL_FOLDER, Row

_MIGRATIONS = load_migrations(SQL_FOLDER / "migrations")
_VECTORS = (SQL_FOLDER / "vectors.sql").read_text("utf-8")


def migrate(connection: psycopg.Connection[Row], address: str) -> None:
    """Migrate the database to the newest schema. Of several processes, one does it and the others wait."""
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
            f"{address} has schema version {version}, from a newer botwire; this one supports version {len(_MIGRATIONS)}. "
            "Upgrade botwire to use it"
        )
    return int(version)


def create_vectors(connection: psycopg.Connection[Row], address: str, timeout: float) -> None:
    """Create the tables for vectors and their extension if they are missing. A statement takes at most `timeout` seconds.

    Raises:
        InvalidArgument: the server has no pgvector, or the role may not create the extension.
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
            f"{address} cannot store vectors, because its server has no pgvector. Install it there "
            "(https://github.com/pgvector/pgvector#installation) and try again. Search by words works without it"
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        raise InvalidArgument(
            f"{address} cannot store vectors, because the role {connection.info.user!r} may not install pgvector. Ask the "
            f"owner of the database {connection.info.dbname!r} to run CREATE EXTENSION vector; in it, and try "
            "again. Search by words works without it"
        ) from None
    home = "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
    ((schema,),) = connection.execute(f"{home} WHERE extname = 'vector'").fetchall()
    return str(schema)


def _has(connection: psycopg.Connection[Row], table: str) -> bool:
    # Not to_regclass: it reads a cache, which is not refreshed while the transaction waits for an advisory lock.
    there = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'botwire' AND tablename = %s"
    return bool(connection.execute(there, (table,)).rowcount)
