"""The contract of search, for each of our stores that can be searched."""

from __future__ import annotations

from contextlib import closing

import pytest

from botwire.records import Clear, Forget, ListSessions
from botwire.stores.http import HttpStore
from botwire.stores.postgres import PostgresStore
from botwire.stores.sqlite import SqliteStore
from botwire.testing_search import SearchContract
from botwire.testing_vectors import VectorContract, refuses_vectors


class TestSqliteFile(SearchContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteStore(tmp_path / "botwire.db")
        yield store
        store.close()


class TestSqliteMemory(SearchContract):
    examples = 10

    @pytest.fixture
    def store(self):
        store = SqliteStore(":memory:")
        yield store
        store.close()


class TestHttp(SearchContract):
    examples = 3
    steps = 20

    @pytest.fixture
    def store(self, server):
        store = HttpStore(server.url)
        yield store
        store.close()


class TestPostgres(SearchContract):
    examples = 5
    steps = 30

    @pytest.fixture
    def store(self, postgres):
        store = PostgresStore(postgres)
        yield store
        store.close()


class TestVectorsInAFile(VectorContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteStore(tmp_path / "botwire.db")
        yield store
        store.close()


class TestVectorsInMemory(VectorContract):
    @pytest.fixture
    def store(self):
        store = SqliteStore(":memory:")
        yield store
        store.close()


class TestVectorsOverHttp(VectorContract):
    examples = 3
    steps = 15

    @pytest.fixture
    def store(self, shared_server):
        with closing(HttpStore(shared_server.url)) as store:
            for namespace in ("n", "other"):
                forget = [Forget(session.name) for session in store.read(namespace, ListSessions())]
                store.write(namespace, [Clear(), *forget])
            yield store


def test_postgres_keeps_no_vectors(postgres):
    store = PostgresStore(postgres)
    try:
        refuses_vectors(store)
    finally:
        store.close()
