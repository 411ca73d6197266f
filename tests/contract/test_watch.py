"""The contract of watching, for each of our stores."""

from __future__ import annotations

import math
import statistics
import time

from botwire import Memory
from botwire.operations import Append, Put, SetExpiry
from botwire.queries import GetProgress
from botwire.testing.strategies import messages_of
from botwire.testing.watch import WatchContract
from tests.contract.stores import Encrypted, InAFile, InMemory, InPostgres, OverHttp, OverTwoServers


class Progressing:
    """For databases. A client of a server does not ask for the progress of a namespace."""

    def test_the_time_until_a_session_expires(self, store):
        store.write("n", [Append("s", messages_of(1))])
        assert store.read("n", GetProgress()).due_in == math.inf
        store.write("n", [SetExpiry("s", 600.0)])
        assert 500 < store.read("n", GetProgress()).due_in <= 600
        store.write("n", [Put("k", "1", ttl=60.0)])
        assert 50 < store.read("n", GetProgress()).due_in <= 60


class TestSqliteFile(Progressing, InAFile, WatchContract):
    pass


class TestSqliteMemory(InMemory, WatchContract):
    examples = 10


class TestPostgres(Progressing, InPostgres, WatchContract):
    examples = 3
    steps = 20


class TestHttp(OverHttp, WatchContract):
    examples = 3
    steps = 20


class TestHttpOverPostgres(OverTwoServers, WatchContract):
    """Feeds alternate between two servers; writes go to both."""

    examples = 1
    steps = 10

    def test_milliseconds_from_one_server_to_the_other(self, two_servers, postgres):
        url, other = two_servers
        took = []
        with Memory("n", other) as writer, Memory("n", url) as watcher, watcher.watch(wait=5) as watch:
            for number in range(15):
                time.sleep(0.02 + 0.03 * (number % 4))
                writer.set("k", number)
                written = time.monotonic()
                assert next(watch).value == number
                took.append(time.monotonic() - written)
        assert statistics.median(took) < 0.015


class TestEncrypted(Encrypted, WatchContract):
    examples = 3
    steps = 20
