"""The contract of search, for each of our stores that can be searched."""

from __future__ import annotations

from contextlib import closing

import pytest

from botwire.records import Clear, Forget, ListSessions
from botwire.stores.http import HttpStore
from botwire.testing_search import SearchContract
from botwire.testing_vectors import VectorContract
from tests.contract.stores import InAFile, InMemory, InPostgres, OverTwoServers


class TestSqliteFile(InAFile, SearchContract):
    pass


class TestSqliteMemory(InMemory, SearchContract):
    examples = 10


class TestHttp(SearchContract):
    examples = 3
    steps = 20

    @pytest.fixture
    def store(self, server):
        store = HttpStore(server.url)
        yield store
        store.close()


class TestPostgres(InPostgres, SearchContract):
    examples = 5
    steps = 30


class TestVectorsInAFile(InAFile, VectorContract):
    pass


class TestVectorsInMemory(InMemory, VectorContract):
    pass


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


class TestVectorsInPostgres(InPostgres, VectorContract):
    examples = 5


class TestVectorsOverTwoServers(OverTwoServers, VectorContract):
    examples = 2
    steps = 10
