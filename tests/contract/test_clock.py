"""Clocks that jump: the contract for our stores, and files that are closed or shared during the jump."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from functools import partial

import psycopg
import pytest

from botwire.operations import Append, Clear, Increment, Retain
from botwire.plans import Plan, Plans
from botwire.queries import GetEntry, ListKeys, ListSessions
from botwire.stores.http.store import HttpStore
from botwire.stores.postgres.statements import SQL
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing import ClockContract, WallClock, messages_of, put
from tests.servers import Server


def store_with(clock, path, **options):
    return type("ClockedStore", (SqliteStore,), {"_wall_ns": lambda _: clock() * 1000})(path, **options)


@pytest.fixture
def clock():
    return WallClock()


class TestSqliteFile(ClockContract):
    @pytest.fixture
    def store(self, tmp_path, clock):
        store = store_with(clock, tmp_path / "botwire.db")
        yield store
        store.close()


class TestSqliteMemory(ClockContract):
    @pytest.fixture
    def store(self, clock):
        store = store_with(clock, ":memory:")
        yield store
        store.close()


CLOCKED = """
CREATE SCHEMA IF NOT EXISTS clocked;
CREATE TABLE IF NOT EXISTS clocked.ahead (microseconds bigint);
DELETE FROM clocked.ahead;
INSERT INTO clocked.ahead VALUES (0);
CREATE OR REPLACE FUNCTION clocked.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
    'SELECT pg_catalog.clock_timestamp() + microseconds * interval ''1 microsecond'' FROM clocked.ahead';
"""


class ServersClock(WallClock):
    """The clock of a PostgreSQL server, replaced by a function. A write notices that it has jumped."""

    def __init__(self, address):
        super().__init__()
        self.connection = psycopg.connect(address, autocommit=True)
        self.connection.execute(CLOCKED)
        self.store = PostgresStore(address)

    def jump(self, seconds):
        super().jump(seconds)
        self.connection.execute("UPDATE clocked.ahead SET microseconds = %s", (self.ahead,))
        self.store.write("somewhere", [put("k", 1)])

    def close(self):
        self.store.close()
        self.connection.execute("DROP SCHEMA clocked CASCADE")
        self.connection.close()


def servers_clock(address, monkeypatch):
    for name in "pin", "pin_session":
        clocked = SQL[name].replace(b"'pg_catalog, pg_temp'", b"'clocked, pg_catalog, pg_temp'")
        monkeypatch.setitem(SQL, name, clocked)
    return ServersClock(address)


class TestPostgres(ClockContract):
    @pytest.fixture
    def clock(self, postgres, monkeypatch):
        clock = servers_clock(postgres, monkeypatch)
        yield clock
        clock.close()

    @pytest.fixture
    def store(self, clock):
        return clock.store


SERVE = """
import sys
from pathlib import Path
from botwire.timestamps import now
from botwire.stores.sqlite.store import SqliteStore
ahead = Path(sys.argv[1])
SqliteStore._wall_ns = staticmethod(lambda: 1000 * (now() + int(ahead.read_text())))
sys.argv = sys.argv[4:]
from botwire.cli import run
run()
"""


class FileClock(WallClock):
    """A clock in a file, which another process reads too."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.jump(0)

    def jump(self, seconds):
        super().jump(seconds)
        part = self.path.with_suffix(".part")
        part.write_text(str(self.ahead))
        part.replace(self.path)


def test_a_server(tmp_path):
    clock = FileClock(tmp_path / "ahead")
    with Server(tmp_path / "a.db", prefix=(sys.executable, "-c", SERVE, str(clock.path))) as server:
        store = HttpStore(server.url)
        contract = ClockContract()
        contract.test_entries_expired_for_a_writer_do_not_return(store, clock, -3600)
        contract.test_idempotency_records_are_kept(store, clock, 86_400)
        store.write("n", [Clear()])
        contract.test_entries_expired_for_a_reader_do_not_return(store, clock, -3600)
        contract.test_versions_and_sequence_numbers_continue(store, clock)
        store.close()


def test_expired_entries_do_not_return_in_a_file_closed_during_the_jump(tmp_path, clock):
    path = tmp_path / "a.db"
    store = store_with(clock, path)
    store.write("n", [put("k", 1, ttl=60.0), put("l", 1)])
    clock.jump(61)
    store.write("other", [put("k", 1)])
    store.close()
    clock.jump(-3600)
    store = store_with(clock, path)
    assert store.read("n", ListKeys()) == ["l"]
    store.close()
    store = store_with(clock, path)
    assert store.read("n", ListKeys()) == ["l"]
    store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request, tmp_path, monkeypatch):
    """A clock, and stores with plans that use it."""
    if request.param == "sqlite":
        clock = WallClock()
        make = partial(store_with, clock, tmp_path / "a.db")
    else:
        address = request.getfixturevalue("postgres")
        clock = servers_clock(address, monkeypatch)
        make = partial(PostgresStore, address)
    with ExitStack() as stack:
        yield clock, lambda plans: stack.enter_context(closing(make(plans=plans)))
    if request.param == "postgres":
        clock.close()


def test_sessions_expired_by_a_plan_do_not_return(opened):
    clock, make = opened
    named = {"short": Plan(session_idle_days=60 / 86_400), "long": Plan(session_idle_days=60), "none": Plan()}
    store = make(Plans("short", named))
    names = "long", "none", "default"
    for name in names:
        store.write(name, [Append(session, messages_of(1)) for session in ("a", "b")])
    store.set_plan("long", "long")
    store.set_plan("none", "none")
    store.write("none", [Retain("a", idle=60.0)])

    def held(seconds):
        clock.jump(seconds)
        store.write("another", [put("k", 1)])
        return [len(store.read(name, ListSessions())) for name in names]

    assert held(61) == [2, 1, 0]
    assert held(-3600) == [2, 1, 0]
    store = make(Plans("none", named))
    assert held(0) == [2, 1, 0]


def test_a_write_after_the_jump_is_kept_by_another_process(tmp_path, clock):
    one, two = (store_with(clock, tmp_path / "a.db") for _ in range(2))
    one.write("n", [put("old", 1, ttl=60.0)])
    clock.jump(86_400)
    assert one.read("n", GetEntry("old")) is None
    assert two.read("n", GetEntry("old")) is None
    clock.jump(-86_400)
    one.write("n", [put("new", 1, ttl=60.0)])
    assert two.read("n", ListKeys()) == ["new"]
    assert two.write("n", [Increment("new")]) == [2]
    assert one.read("n", ListKeys()) == ["new"]
    one.close()
    two.close()


def test_a_disk_that_fails_when_the_clock_goes_back(tmp_path, clock, monkeypatch):
    """Time stops until the disk works again."""
    store = store_with(clock, tmp_path / "a.db")
    store.write("n", [put("k", 1, ttl=60.0), put("l", 1)])
    clock.jump(61)
    assert store.read("n", ListKeys()) == ["l"]
    clock.jump(-3600)
    connection = store._connections.take()
    connection.execute("PRAGMA query_only = ON")
    store._connections.give(connection)
    assert store.read("n", ListKeys()) == ["l"]
    assert store.read("n", ListKeys()) == ["l"]
    assert store._clock.turns == 1
    store.close()


def test_no_answer_stays_from_the_future(tmp_path, clock):
    """It would never be old enough to be deleted, nor would those after it."""
    store = store_with(clock, tmp_path / "a.db")
    clock.jump(86_400)
    store.write("n", [Increment("k")], idempotency_key="one")
    clock.jump(-86_400)
    store.write("n", [Increment("k")], idempotency_key="two")
    connection = store._connections.take()
    assert connection.execute("SELECT max(created) <= ? FROM answers", (clock(),)).get
    store._connections.give(connection)
    store.close()
