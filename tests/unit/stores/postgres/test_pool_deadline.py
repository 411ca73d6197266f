"""Calls end at their deadline although the server accepts connections and does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from botwire import InvalidArgument, Timeout, Unavailable
from botwire.operations import Increment, Put, SetVectors
from botwire.queries import GetEntry, Search
from botwire.stores import async_store
from botwire.stores.postgres.connection import connect_by, mapped
from botwire.stores.postgres.notify import Listener
from botwire.stores.postgres.store import PostgresStore
from tests.cutter import Cutter

TIMEOUT = 0.5
LIMIT = 1.5
"""libpq itself waits for at least two seconds."""


class Mute(Cutter):
    """A proxy that holds back all answers while `answers` is not set."""

    def __init__(self, address):
        self.answers = threading.Event()
        self.answers.set()
        super().__init__(address)

    def _changed(self, data):
        self.answers.wait()
        return data


@pytest.fixture
def mute(postgres):
    if not psycopg.conninfo.conninfo_to_dict(postgres).get("host", "").startswith("/"):
        pytest.skip("the proxy speaks to a Unix socket")
    proxy = Mute(postgres)
    yield proxy
    proxy.answers.set()
    proxy.close()


def ends_in_time(call):
    start = time.monotonic()
    with pytest.raises((Timeout, Unavailable)):
        call()
    assert time.monotonic() - start < LIMIT


CALLS = {
    "read": lambda store: store.read("n", GetEntry("k")),
    "search": lambda store: store.read("n", Search(text="blue")),
    "write": lambda store: store.write("n", [Put("k", "2")]),
    "write with a key": lambda store: store.write("n", [Put("k", "2")], idempotency_key="a"),
    "write alone": lambda store: store.write("n", [SetVectors("m", ())]),
    "set a plan": lambda store: store.set_plan("n", None),
    "async read": lambda store: asyncio.run(async_store(store).read("n", GetEntry("k"))),
    "async write": lambda store: asyncio.run(async_store(store).write("n", [Put("k", "2")])),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("connected", [True, False])
def test_a_call_ends_at_its_deadline(mute, postgres, call, connected):
    with closing(PostgresStore(mute.address(postgres), timeout=TIMEOUT)) as store:
        store.write("n", [Put("k", "1")])
        if not connected:
            while store._pool.connections.idle:
                store._pool.connections.drop(store._pool.connections.idle.pop())
        mute.answers.clear()
        try:
            ends_in_time(lambda: call(store))
        except InvalidArgument:
            pytest.skip("there is no pgvector")
        finally:
            mute.answers.set()
        assert store.write("n", [Increment("other")]) == [1]


def test_a_store_that_cannot_connect(mute, postgres):
    mute.answers.clear()
    ends_in_time(lambda: PostgresStore(mute.address(postgres), timeout=TIMEOUT))


def test_many_calls_connect_at_once(mute, postgres):
    """No call waits for the attempt of another call to connect."""
    with closing(PostgresStore(mute.address(postgres), timeout=TIMEOUT)) as store, ThreadPoolExecutor(16) as threads:
        mute.answers.clear()
        try:
            calls = [threads.submit(ends_in_time, lambda: store.read("n", GetEntry("k"))) for _ in range(32)]
            for call in calls:
                call.result()
        finally:
            mute.answers.set()


def test_a_connection_that_comes_too_late_is_closed(mute, postgres):
    mute.answers.clear()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        connect_by(time.monotonic() + 0.1, mute.address(postgres), 5)
    mute.answers.set()
    nothing_remains(postgres, "botwire-connect")


def test_closing_while_the_listener_connects(mute, postgres, caplog):
    """It is logged, and the connection is closed when it is established."""
    address = mute.address(postgres)
    listener = Listener(lambda: connect_by(time.monotonic() + 10, address, 10), "postgresql://here", set())
    mute.answers.clear()
    with listener.waiting("n", lambda: None):
        listener.pause(0)
        until(lambda: "botwire-connect" in names())
        listener.close()
    assert "postgresql://here: the thread that listens for changes" in caplog.text
    mute.answers.set()
    nothing_remains(postgres, "botwire-listen")


def nothing_remains(postgres, thread):
    until(lambda: thread not in names())
    clients = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'botwire' AND datname = current_database()"
    )
    with psycopg.connect(postgres, autocommit=True) as admin:
        until(lambda: admin.execute(clients).fetchone() == (0,))


def names():
    return [thread.name for thread in threading.enumerate()]


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_lost_commit_is_uncertain_although_later_attempts_are_certain(mute, postgres, monkeypatch):
    """The last attempt gets no connection. Its own error would say that nothing was written."""
    with closing(PostgresStore(mute.address(postgres), timeout=TIMEOUT)) as store:
        may_retry, held = store._pool.may_retry, []

        def hold_all_connections(*arguments):
            while store._pool._slots.acquire(blocking=False):
                held.append(True)
            return may_retry(*arguments)

        monkeypatch.setattr(store._pool, "may_retry", hold_all_connections)
        mute.plan = ["cut after"]
        with pytest.raises(Timeout, match="may have happened"):
            store.write("n", [Increment("k")])
        for _ in held:
            store._pool._slots.release()
        assert store.read("n", GetEntry("k")).value == 1


@pytest.mark.parametrize("state", [None, "57014"])
def test_a_late_answer_is_a_timeout(state):
    from botwire.stores.postgres.connection import Late

    error = Late("no answer in time") if state is None else psycopg.errors.QueryCanceled("cancelled")
    assert type(mapped("postgresql://here", error)) is Timeout
