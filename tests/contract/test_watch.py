"""The contract of watching, for each of our stores."""

from __future__ import annotations

import statistics
import time

from botwire import Memory
from botwire.testing.watch import WatchContract
from tests.contract.stores import Encrypted, InAFile, InMemory, InPostgres, OverHttp, OverTwoServers


class TestSqliteFile(InAFile, WatchContract):
    pass


class TestSqliteMemory(InMemory, WatchContract):
    examples = 10


class TestPostgres(InPostgres, WatchContract):
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
