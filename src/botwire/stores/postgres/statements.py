"""The SQL for PostgreSQL: statements by name, and the tables. It is in the files of the folder sql."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from ...errors import InvalidArgument, StoreError
from ..engine.statements import load_migrations, load_queries

Row: TypeAlias = tuple[Any, ...]
Statement: TypeAlias = tuple[str, Sequence[object]]
"""A statement by its name, and its values."""
SQL_FOLDER = Path(__file__).parent / "sql"
LOCK = 0x424F5457
"""The first number of botwire's advisory locks (``BOTW``); 1112495191 in the files."""
_MERGED = frozenset({"entries_without_vector", "messages_without_vector"})


_COLUMNS = """name, id, last_seq, created, updated, sessions.version, bytes, expires, active,
    known.version, owner, tags, about, origin, origin_seq, upto"""
"""A session in a list."""
_DETAILS = """LEFT JOIN LATERAL (
    SELECT version, tags, about, origin, origin_seq, upto
    FROM botwire.details
    WHERE namespace = $1 AND session = sessions.id
    OFFSET 0
) AS known ON true"""
"""Where its last columns are."""


def plan_of(name: str) -> Statement:
    """Return the statement that sets how a read is planned."""
    return ("plan_merge" if name in _MERGED else "plan_once", ())


def _texts() -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in ("transactions.sql", "queries.sql", "sessions.sql", "search.sql"):
        texts |= load_queries(SQL_FOLDER / file)
    removing = (SQL_FOLDER / "removing_vectors.sql").read_text("utf-8")
    for name, text in texts.items():
        if text.endswith("RETURNING bytes;"):  # it removes vectors, whose bytes are counted
            texts[name] = removing.replace("{removal}", text.removesuffix(";"))
        texts[name] = texts[name].replace("{columns}", _COLUMNS).replace("{details}", _DETAILS)
    return texts


TEXTS = _texts()
SQL = {name: text.encode() for name, text in TEXTS.items()}


# Creating and migrating the tables, and those for vectors if the server has pgvector

_MIGRATIONS = load_migrations(SQL_FOLDER / "migrations")
_VECTORS = (SQL_FOLDER / "vectors.sql").read_text("utf-8")


def migrate(connection: psycopg.Connection[Row], address: str) -> None:
    """Migrate the database to the newest schema, in a transaction. Of several processes, one does it and the others wait."""
    refuse_foreign_owners(connection, address)
    if _schema_version(connection, address) == len(_MIGRATIONS):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    refuse_foreign_owners(connection, address)  # another role may have created the schema before it was our turn
    for number, script in enumerate(_MIGRATIONS, 1):
        if number > _schema_version(connection, address):
            connection.execute(script.encode())
            connection.execute("UPDATE botwire.schema SET version = %s", (number,))


def refuse_foreign_owners(connection: psycopg.Connection[Row], address: str) -> None:
    """Raise `StoreError` if the schema, or a table or function in it, belongs to a role that this one is not a member of.

    The objects of a superuser are accepted: it may do everything anyway.
    """
    for what, owner in connection.execute(_FOREIGN).fetchall():
        raise StoreError(
            f"{address}: {what} belongs to the role {owner!r}, and {connection.info.user!r} is not a member of it. The owner "
            "could read, change and delete everything, and run code as this role. If you trust it, make this role a member of it "
            "with GRANT; if not, drop the schema botwire, or use another database"
        )


_FOREIGN = """
SELECT what, pg_get_userbyid(owner) FROM (
    SELECT 'the schema botwire', nspowner FROM pg_namespace WHERE nspname = 'botwire'
    UNION ALL
    SELECT 'botwire.' || relname, relowner FROM pg_class WHERE relnamespace = to_regnamespace('botwire')
    UNION ALL
    SELECT 'botwire.' || proname, proowner FROM pg_proc WHERE pronamespace = to_regnamespace('botwire')
) AS found (what, owner)
WHERE NOT pg_has_role(owner, 'MEMBER') AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = owner AND rolsuper)
LIMIT 1
"""


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
    """Create the tables for vectors and their extension if they are missing, in a transaction.

    A statement takes at most `timeout` seconds.
    """
    if _has(connection, "entry_vectors"):
        return
    connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(max(1, int(timeout * 1000))),))
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    if not _has(connection, "entry_vectors"):
        connection.execute(_VECTORS.replace("{pgvector}", _create_pgvector(connection, address)).encode())


def _create_pgvector(connection: psycopg.Connection[Row], address: str) -> str:
    """Return the schema of the extension, as SQL names it."""
    ((home,),) = connection.execute(_HOME_OF_EXTENSIONS).fetchall()
    try:
        connection.execute(f"CREATE EXTENSION IF NOT EXISTS vector SCHEMA {home}")
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
    ((schema,),) = connection.execute(_HOME_OF_PGVECTOR).fetchall()
    return str(schema)


_HOME_OF_EXTENSIONS = """
SELECT CASE WHEN count(*) > 0 THEN 'public' ELSE 'botwire' END
FROM pg_namespace WHERE nspname = 'public' AND has_schema_privilege(oid, 'CREATE')
"""
_HOME_OF_PGVECTOR = """
SELECT quote_ident(nspname)
FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'vector'
"""


def _has(connection: psycopg.Connection[Row], table: str) -> bool:
    # Not to_regclass: it reads a cache, which is not refreshed while the transaction waits for an advisory lock.
    there = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'botwire' AND tablename = %s"
    return bool(connection.execute(there, (table,)).rowcount)
