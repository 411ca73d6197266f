"""Lists of sessions while others append, and lists that read many sessions to find few."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing

import pytest

from botwire.answers import mismatch
from botwire.errors import Timeout
from botwire.operations import Append, NewMessage, SetAbout
from botwire.queries import GetEntry, ListSessions
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing.strategies import repeating
from botwire.timestamps import new_id

NAMES = [f"s{number:03}" for number in range(60)]
FILTERS = [{"tag": "none"}, {"where": {"data.x": 1}}, {"where": {"owner": "ada", "title": "x"}}]


def test_a_list_has_every_session_in_order_while_others_append(tmp_path):
    """Each list is of one moment. Every append moves its session to the front."""
    with closing(SqliteStore(tmp_path / "a.db")) as writer, closing(SqliteStore(tmp_path / "a.db")) as reader:
        for name in NAMES:
            writer.write("n", [Append(name, (NewMessage(new_id(), "1"),))])

        def append():
            message = NewMessage(new_id(), f'"{"x" * 200}"')
            writer.write("n", [Append(random.choice(NAMES), (message,))])

        with repeating(append, threads=1):
            for _ in range(300):
                query = ListSessions(preview=True)
                found = reader.read("n", query)
                assert mismatch(query, found) is None
                assert sorted(session.name for session in found) == NAMES


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store with many sessions, and a server's store on it that gives a read little time."""
    file = tmp_path_factory.mktemp("many") / "a.db"
    with closing(SqliteStore(file)) as store:
        for start in range(0, 20_000, 1_000):
            names = range(start, start + 1_000)
            store.write("n", [SetAbout(f"s{name}", '{"data":{"x":2}}', "ada", ("work",)) for name in names])
        yield store


@pytest.mark.parametrize("filters", FILTERS)
def test_a_list_that_reads_many_sessions_ends_at_the_timeout(many, filters):
    async def run():
        store = many.to_async()
        many.timeout = 0.02
        with pytest.raises(Timeout, match="took longer than it may"):
            await store.read("n", ListSessions(limit=1, **filters))
        many.timeout = 60.0
        assert await store.read("n", ListSessions(limit=1, **filters)) == []
        assert await store.read("n", GetEntry("k")) is None

    asyncio.run(run())
