"""What namespaces have used, over time."""

from __future__ import annotations

import asyncio
import json

import pytest

from botwire import Memory, Unavailable
from botwire.limits import ACCESS
from botwire.queries import ListEntries
from botwire.server.access.authorizer import Authorizer
from botwire.server.access.rules import Caller
from botwire.server.telemetry import usage_history
from botwire.server.telemetry.usage_history import Recorder
from botwire.stores.sqlite.served import ServedSqliteStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import moment
from tests.server.test_access import call
from tests.servers import Server

HOUR = 3_600_000_000


@pytest.fixture
def store(tmp_path):
    store = ServedSqliteStore(SqliteStore(tmp_path / "a.db"))
    yield store
    asyncio.run(store.close())


def write(store, namespace, key="k"):
    """Write as somebody does whom a server lets in; returns what it is to put down."""

    async def main():
        authorizer = Authorizer(store, mode="open", local_only=False)
        store_of_caller = await authorizer.authorized_store(Caller(""), namespace, "write")
        await store_of_caller.write(namespace, [usage_history.Put(key, "1")])
        return authorizer.recorder

    return asyncio.run(main())


def test_hour_by_hour(store, monkeypatch):
    noon = usage_history.now() // HOUR * HOUR
    for hours, key in ((-50, "a"), (-2, "b"), (-1, "c"), (-1, "d")):
        monkeypatch.setattr(usage_history, "now", lambda hours=hours: noon + hours * HOUR)
        asyncio.run(write(store, "n", key).record())
    monkeypatch.setattr(usage_history, "now", lambda: noon)
    history = asyncio.run(Recorder(store).history("n", 7))
    assert [(item.at - noon) // HOUR for item in history] == [-50, -2, -1]
    assert [item.bytes for item in history] == [2, 4, 8]  # of an hour, the last of it
    assert [item.writes for item in history] == [1, 2, 4]
    assert len(asyncio.run(Recorder(store).history("n", 1))) == 2
    entries = asyncio.run(store.read(ACCESS, ListEntries("usage/n/")))
    assert {round((entry.expires_at - entry.updated_at).total_seconds() / 86_400) for entry in entries} == {90}


def test_namespaces_do_not_get_in_each_others_way(store):
    for namespace in ("n", "n1", "n%", "*"):
        asyncio.run(write(store, namespace).record())
    for namespace in ("n", "n1", "n%", "*"):
        assert len(asyncio.run(Recorder(store).history(namespace, 90))) == 1
    assert asyncio.run(Recorder(store).history("", 90)) == []


def test_nothing_is_written_when_nothing_was(store):
    writing = write(store, "n")
    assert writing.written == {"n"}
    asyncio.run(writing.record())
    before = asyncio.run(store.read(ACCESS, ListEntries()))
    asyncio.run(writing.record())
    assert asyncio.run(store.read(ACCESS, ListEntries())) == before


def test_requested_namespaces_are_recorded_whichever_process_writes(store, tmp_path, monkeypatch):
    monkeypatch.setattr(usage_history, "_MAX_ASKED", 2)
    looking = Recorder(store)
    for namespace in ("forgotten", "empty", "n"):
        assert asyncio.run(looking.history(namespace, 1)) == []
    with Memory("n", f"sqlite:///{tmp_path / 'a.db'}") as memory, Memory("forgotten", memory.address) as other:
        for value in (1, 22, 22):
            memory["k"] = other["k"] = value
            asyncio.run(looking.record())
            before = asyncio.run(store.read(ACCESS, ListEntries()))
            asyncio.run(looking.record())
            assert asyncio.run(store.read(ACCESS, ListEntries())) == before  # nothing has changed
            (sample,) = asyncio.run(looking.history("n", 1))
            assert sample.bytes == memory.usage().bytes
    assert [entry.key.split("/")[1] for entry in before] == ["n"]


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), RuntimeError("a bug")])
def test_a_failed_recording_is_made_up_for(store, monkeypatch, caplog, error):
    monkeypatch.setattr(usage_history, "EVERY", 0.01)
    writing = write(store, "n")
    failures = iter([error])
    write_to_store = store.write

    async def failing(*arguments, **options):
        for failure in failures:
            raise failure
        return await write_to_store(*arguments, **options)

    monkeypatch.setattr(store, "write", failing)

    async def main():
        running = asyncio.create_task(writing.run())
        while not await Recorder(store).history("n", 1):  # one that nobody asked the recorder for
            await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(asyncio.wait_for(main(), 10))
    assert "usage was not recorded" in caplog.text
    assert not writing.written


def test_over_http(tmp_path):
    with Server(tmp_path / "a.db") as server:
        with Memory("n", server.url) as memory:
            memory.set_many({"a": 1, "b": 22})
        store = ServedSqliteStore(SqliteStore(tmp_path / "a.db"))
        asyncio.run(write(store, "n", "c").record())
        asyncio.run(store.close())
        status, body, _ = call(server, "GET", "/usage/n/history")
        assert status == 200
        then, now = json.loads(body)["history"]
        assert {**then, "at": 0} == {**now, "at": 0} == {"at": 0, "writes_today": 3, "bytes": 7}
        assert then["at"] < now["at"]
        assert now["at"][:10] == str(moment(usage_history.now()))[:10]
        assert call(server, "GET", "/usage/n/history?days=91")[0] == 422
