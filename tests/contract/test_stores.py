"""The contract, for each of our stores."""

from __future__ import annotations

import pytest

from botwire import InvalidArgument, generate_key
from botwire.records import CountEntries, Increment
from botwire.stores.cipher import Cipher
from botwire.stores.encrypted import EncryptedStore
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
