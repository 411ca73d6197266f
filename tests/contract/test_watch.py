"""The contract of watching, for each of our stores."""

from __future__ import annotations

from contextlib import closing

import pytest

from botwire import generate_key
from botwire.records import new_id
from botwire.server.administer import OnStore
from botwire.stores.cipher import Cipher
from botwire.stores.encrypted import EncryptedStore
from botwire.stores.http import HttpStore
from botwire.stores.postgres import PostgresStore
from botwire.stores.sqlite import SqliteStore
from botwire.testing_watch import WatchContract
from tests.contract.test_stores import TakingTurns, two_servers  # noqa: F401 - a fixture


class TestSqliteFile(WatchContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteStore(tmp_path / "botwire.db")
        yield store
        store.close()


class TestSqliteMemory(WatchContract):
    examples = 10

    @pytest.fixture
    def store(self):
        store = SqliteStore(":memory:")
        yield store
        store.close()


class TestPostgres(WatchContract):
    examples = 3
    steps = 20

    @pytest.fixture
    def store(self, postgres):
        store = PostgresStore(postgres)
        yield store
        store.close()


class Apart:
    """A store in which each test has namespaces of its own, so that one server does for all."""

    def __init__(self, store):
        self._store = store
        self._prefix = new_id()

    def read(self, namespace, query):
        return self._store.read(self._prefix + namespace, query)

    def write(self, namespace, operations):
        return self._store.write(self._prefix + namespace, operations)

    def changes(self, namespace, query):
        return self._store.changes(self._prefix + namespace, query)


class TestHttp(WatchContract):
    examples = 3
    steps = 20

    @pytest.fixture
    def store(self, shared_server):
        store = HttpStore(shared_server.url)
        yield Apart(store)
        store.close()


class TestHttpOverPostgres(WatchContract):
    """Each feed at the other one of two servers, and the writes at both."""

    examples = 1
    steps = 10

    @pytest.fixture
    def store(self, postgres, two_servers):  # noqa: F811
        with closing(OnStore(postgres)) as administration:
            operator = administration.create(namespaces=["*"], can=["admin"], name="", expires_in=None)
        store = TakingTurns(*(HttpStore(url, token=operator["secret"]) for url in two_servers))
        yield store
        store.close()


class TestEncrypted(WatchContract):
    examples = 3
    steps = 20

    @pytest.fixture
    def store(self, tmp_path):
        store = EncryptedStore(SqliteStore(tmp_path / "botwire.db"), Cipher(generate_key()))
        yield store
        store.close()
