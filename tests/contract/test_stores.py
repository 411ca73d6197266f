"""The contract, for each of our stores."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from botwire import InvalidArgument, Memory
from botwire.operations import Append, Edit, Fork, Increment
from botwire.queries import CountEntries, ListSessions
from botwire.server.operator import OnStore
from botwire.stores.http.store import HttpStore
from botwire.testing import StoreContract, messages_of
from botwire.testing.vectors import VectorContract
from tests.contract.stores import Apart, Encrypted, InAFile, InMemory, InPostgres, OverTwoServers


class TestSqliteFile(InAFile, StoreContract):
    pass


class TestSqliteMemory(InMemory, StoreContract):
    pass


class TestPostgres(InPostgres, StoreContract):
    pass


class TestHttpOverPostgres(OverTwoServers, StoreContract):
    examples = 5


class TestVectorsOverTwoServers(OverTwoServers, VectorContract):
    """Here, because the two servers already run."""

    examples = 1
    steps = 10


def test_a_watcher_receives_changes_made_through_another_server(postgres, two_servers):
    """And the writes of a program without a server."""
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


@pytest.fixture(scope="module")
def operator(shared_server):
    """A token for everything."""
    with closing(OnStore(f"sqlite:///{shared_server.db}")) as file:
        return file.create(namespaces=["*"], can=["admin"], name="", expires_in=None)["secret"]


class TestHttp(StoreContract):
    """`TestHttpOverPostgres` has a database for each test, and lists exactly its namespaces."""

    examples = 3

    @pytest.fixture
    def store(self, shared_server, operator):
        with closing(HttpStore(shared_server.url, token=operator)) as store:
            yield Apart(store)


class TestEncrypted(Encrypted, StoreContract):
    examples = 5

    def counted(self, stored):
        plain = len(stored) if isinstance(stored, bytes) else len(stored.encode())
        return plain + 38

    def counted_message(self, stored):
        return 2 + 4 * -(-self.counted(stored) // 3)

    unrepeatable = frozenset({"edit", "redact"})

    def edited_by_a_replacement(self, message):
        """The same data is another text when it is encrypted again."""
        return message.edited

    def test_sessions_where_title_and_data_are(self, store):
        for path in ("title", "data.customer.plan"):
            with pytest.raises(InvalidArgument, match="encrypted"):
                store.read("n", ListSessions(where={path: "x"}))

    def test_edits_and_forks_see_operations_before_them(self, store):
        """The client reads first what it encrypts for another place."""
        for last in (Edit("s", 1, "1"), Fork("s", "t")):
            with pytest.raises(InvalidArgument, match="use two writes"):
                store.write("n", [Append("s", messages_of("a")), last])
        assert store.read("n", ListSessions()) == []

    test_a_fork_with_copies = None
    """It makes the copies."""

    def test_a_write_with_a_used_idempotency_key_is_applied_once(self, store):
        """The inner store keeps the response, and it cannot compute sums."""
        with pytest.raises(InvalidArgument, match="idempotency key"):
            store.write("n", [Increment("k")], idempotency_key="one")
        assert store.read("n", CountEntries()) == 0

    test_one_effect_of_many_writes_under_a_key = None
