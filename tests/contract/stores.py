"""The stores that the contracts test, as fixtures to inherit."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest

from botwire import generate_key
from botwire.limits import MAX_NAMESPACE_CHARS
from botwire.queries import ListNamespaces
from botwire.server.operator import OnStore
from botwire.stores.http.store import HttpStore
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore
from botwire.timestamps import new_id


class InAFile:
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteStore(tmp_path / "botwire.db")
        yield store
        store.close()


class InMemory:
    @pytest.fixture
    def store(self):
        store = SqliteStore(":memory:")
        yield store
        store.close()


class InPostgres:
    @pytest.fixture
    def store(self, postgres):
        store = PostgresStore(postgres)
        yield store
        store.close()


class Encrypted:
    @pytest.fixture
    def store(self, tmp_path):
        store = EncryptedStore(SqliteStore(tmp_path / "botwire.db"), Cipher(generate_key()))
        yield store
        store.close()


class Apart:
    """A store in which each test has its own namespaces, so that all can share a server."""

    def __init__(self, store):
        self._store = store
        self._prefix = new_id()
        self._names = {}

    def read(self, namespace, query):
        if isinstance(query, ListNamespaces):
            return self._list_namespaces(query)
        return self._store.read(self._name_of(namespace), query)

    def write(self, namespace, operations, *, idempotency_key=None):
        return self._store.write(self._name_of(namespace), operations, idempotency_key=idempotency_key)

    def changes(self, namespace, query):
        return self._store.changes(self._name_of(namespace), query)

    def _name_of(self, namespace):
        name = (self._prefix + namespace)[:MAX_NAMESPACE_CHARS]
        self._names[name] = namespace
        return name

    def _list_namespaces(self, query):
        """Answer from the list of all, some of which other tests have made."""
        known = [self._names[name] for name in self._store.read("", ListNamespaces()) if name in self._names]
        return [name for name in known if name.encode() > query.after.encode()][: query.limit]


class OverHttp:
    @pytest.fixture
    def store(self, shared_server):
        with closing(HttpStore(shared_server.url)) as store:
            yield Apart(store)


class OverTwoServers:
    """Calls alternate between two servers over PostgreSQL, so that no server can rely on its memory."""

    @pytest.fixture
    def store(self, postgres, two_servers):
        with closing(OnStore(postgres)) as administration:
            operator = administration.create(namespaces=["*"], can=["admin"], name="", expires_in=None)
        store = TakingTurns(*(HttpStore(url, token=operator["secret"]) for url in two_servers))
        yield store
        store.close()


class TakingTurns:
    """A store of several servers, called in turn."""

    def __init__(self, *stores):
        self.address = stores[0].address
        self._stores = stores
        self._turn = itertools.cycle(stores)

    def read(self, namespace, query):
        return next(self._turn).read(namespace, query)

    def write(self, namespace, operations, *, idempotency_key=None):
        return next(self._turn).write(namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace, query):
        return next(self._turn).changes(namespace, query)

    def close(self):
        for store in self._stores:
            store.close()
