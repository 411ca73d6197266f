"""A store of each database, and SQL beside it."""

from __future__ import annotations

from contextlib import closing

import apsw
import psycopg
import pytest

from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request, tmp_path):
    """Return a store, and a function that runs SQL in its database."""
    if request.param == "sqlite":
        store, path = SqliteStore(tmp_path / "a.db"), str(tmp_path / "a.db")

        def run(sql):
            with closing(apsw.Connection(path)) as connection:
                connection.set_busy_timeout(5_000)
                return connection.execute(sql.replace("botwire.", "")).fetchall()

    else:
        address = request.getfixturevalue("postgres")
        store = PostgresStore(address)

        def run(sql):
            with psycopg.connect(address, autocommit=True) as connection:
                done = connection.execute(sql)
                return done.fetchall() if done.description else []

    yield store, run
    store.close()
