"""The contract, for each of our stores."""

from __future__ import annotations

import itertools
import time
from contextlib import closing

import pytest

from botwire import InvalidArgument, Memory, generate_key
from botwire.records import CountEntries, Increment
from botwire.server.administer import OnStore
from botwire.stores.cipher import Cipher
from botwire.stores.encrypted import EncryptedStore
from botwire.stores.http import HttpStore
from botwire.stores.postgres import PostgresStore
from botwire.stores.sqlite import SqliteStore
from botwire.testing import StoreContract
from tests.servers import Server


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


class TestPostgres(StoreContract):
    @pytest.fixture
    def store(self, postgres):
        store = PostgresStore(postgres)
        yield store
        store.close()


@pytest.fixture(scope="module")
def two_servers(postgres_database):
    with Server(postgres_database) as one, Server(postgres_database) as other:
        yield one.url, other.url


class TestHttpOverPostgres(StoreContract):
    """Every call goes to the other one of two servers, so that none can rely on what it remembers."""

    examples = 5

    @pytest.fixture
    def store(self, postgres, two_servers):
        with closing(OnStore(postgres)) as administration:
            operator = administration.create(namespaces=["*"], can=["admin"], name="", expires_in=None)
        store = TakingTurns(*(HttpStore(url, token=operator["secret"]) for url in two_servers))
        yield store
        store.close()


def test_a_watcher_at_one_server_is_told_what_went_through_another(postgres, two_servers):
    """And what a program wrote without any."""
    with (
        Memory("n", two_servers[0]) as here,
        Memory("n", two_servers[1]) as there,
        Memory("n", postgres) as direct,
        here.watch(wait=10.0) as changes,
    ):
        for number, memory in enumerate((there, direct, here, there)):
            begun = time.monotonic()
            memory["k"] = number
            change = next(iter(changes))
            assert (change.kind, change.key, change.value) == ("set", "k", number)
            assert time.monotonic() - begun < 3


class TakingTurns:
    """A store behind several servers, each asked in turn."""

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


class TestHttp(StoreContract):
    examples = 10

    @pytest.fixture
    def store(self, server):
        with closing(OnStore(f"sqlite:///{server.db}")) as file:
            operator = file.create(namespaces=["*"], can=["admin"], name="", expires_in=None)
        store = HttpStore(server.url, token=operator["secret"])
        yield store
        store.close()


class TestEncrypted(StoreContract):
    examples = 5

    @pytest.fixture
    def store(self, tmp_path):
        store = EncryptedStore(SqliteStore(tmp_path / "botwire.db"), Cipher(generate_key()))
        yield store
        store.close()

    def counted(self, stored):
        plain = len(stored) if isinstance(stored, bytes) else len(stored.encode())
        return plain + 38

    def counted_message(self, stored):
        return 2 + 4 * -(-self.counted(stored) // 3)

    def test_a_write_under_a_known_key_happens_once(self, store):
        """The store beneath remembers what it answered, and it does not know the sums."""
        with pytest.raises(InvalidArgument, match="idempotency key"):
            store.write("n", [Increment("k")], idempotency_key="one")
        assert store.read("n", CountEntries()) == 0

    test_one_effect_of_many_writes_under_a_key = None
