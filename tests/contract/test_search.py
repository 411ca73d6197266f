"""The contract of search, for each of our stores that can be searched."""

from __future__ import annotations

import pytest

from botwire.stores.http import HttpStore
from botwire.stores.postgres import PostgresStore
from botwire.stores.sqlite import SqliteStore
from botwire.testing_search import SearchContract


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
