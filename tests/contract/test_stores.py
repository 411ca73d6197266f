"""The contract, for each of our stores."""

from __future__ import annotations

import pytest

from botwire.stores.http import HttpStore
from botwire.stores.sqlite import SqliteStore
from botwire.testing import StoreContract


class TestSqliteFile(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteStore(tmp_path / "botwire.db")
        yield store
        store.close()


class TestSqliteMemory(StoreContract):
    @pytest.fixture
    def store(self):
        store = SqliteStore(":memory:")
        yield store
        store.close()


class TestHttp(StoreContract):
    examples = 10

    @pytest.fixture
    def store(self, server):
        store = HttpStore(server.url)
        yield store
        store.close()
