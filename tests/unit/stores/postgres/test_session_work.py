"""What the database does for writes of sessions: round trips, index updates, rows left, and the migration of older sessions."""

from __future__ import annotations

import time
from contextlib import closing

import psycopg
import pytest

from botwire.operations import (
    Append,
    Destroy,
    Edit,
    Fork,
    NewMessage,
    Pop,
    Put,
    Replace,
    Retain,
    SetAbout,
    Summarize,
    Write,
)
from botwire.queries import CountMessages, GetContext, GetSession, ListMessages, ListNamespaces, ListSessions, Search
from botwire.stores.engine.journal import BLOCK_CHARS
from botwire.stores.engine.statements import load_migrations
from botwire.stores.postgres.connection import Connection
from botwire.stores.postgres.statements import SQL_FOLDER
from botwire.stores.postgres.store import PostgresStore
from botwire.testing.vectors import embed
from tests.postgres import database

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'botwire'::regnamespace AND relkind = 'p' ORDER BY relname"


@pytest.fixture
def store(postgres):
    with closing(PostgresStore(postgres)) as store:
        yield store


def messages(*ids):
    return tuple(NewMessage(id_, f'"text of {id_}"') for id_ in ids)


def rows(address, statement):
    with psycopg.connect(address, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def ids(store, session):
    return [message.id for message in store.read("n", ListMessages(session))]


@pytest.fixture
def round_trips(monkeypatch):
    """The statements of each round trip, by name."""
    trips = []
    run_all = Connection._run_all

    def counted(connection, statements):
        trips.append([name for name, _ in statements])
        return run_all(connection, statements)

    monkeypatch.setattr(Connection, "_run_all", counted)
    return trips


def test_an_append_with_conditions_takes_two_round_trips(store, round_trips):
    store.write("n", [Append("s", messages("a"))])
    for number, conditions in enumerate([{"if_last": 1}, {"if_version": 1}, {"ttl": 60.0}]):
        round_trips.clear()
        store.write("n", [Append("s", messages(f"{number}"), **conditions)])
        assert [trip[0] for trip in round_trips] == ["begin", "set_state"]


def test_many_sessions_are_destroyed_in_few_round_trips(store, round_trips):
    for number in range(0, 40, 8):
        store.write("n", [Append(f"{each}", messages("a")) for each in range(number, number + 8)])
    round_trips.clear()
    assert store.write("n", [Destroy()]) == [40]
    # In the first transaction: three to begin and to find them, and one that deletes them all. The second finds none.
    assert len(round_trips) == 4 + 4, round_trips
    assert store._pool.prepares  # although a statement is there often


def test_an_append_changes_no_index_of_sessions():
    """In a database of its own, because the counters are those of tables. A connection reports them when it is closed."""
    with database() as address:
        with closing(PostgresStore(address)) as store:
            store.write("n", [Append("s", messages("0"), ttl=3_600.0), SetAbout("s", "{}", owner="ada")])
        ((before, hot_before),) = rows(address, UPDATES)
        with closing(PostgresStore(address)) as store:
            for number in range(1, 60):
                store.write("n", [Append("s", messages(f"{number}"))])
        ((after, hot_after),) = rows(address, UPDATES)
        assert after - before >= 59
        assert (after - before) - (hot_after - hot_before) <= 2  # when the records of the journal move to a block


UPDATES = """
SELECT sum(n_tup_upd)::int, sum(n_tup_hot_upd)::int FROM (
    SELECT pg_stat_get_tuples_updated(oid) AS n_tup_upd, pg_stat_get_tuples_hot_updated(oid) AS n_tup_hot_upd
    FROM pg_class WHERE relname ~ '^sessions_[0-9]+$'
) AS counted
"""


def test_the_index_of_activity_follows_the_journal_within_a_group(store):
    """Records move to a block in the middle of a group of writes, of which one is refused and undone."""
    names = [f"{number:03}" + "s" * 100 for number in range(40)]
    writes = [Write("n", (Append(name, messages("a")), Append(name, messages("b")))) for name in names]
    writes.insert(20, Write("n", (Append(names[0], messages("c")), Put("k", "1", if_version=9))))
    outcomes = store._commit(writes, time.monotonic() + 10)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [number == 20 for number in range(41)]
    for _ in range(BLOCK_CHARS // 30):
        store.write("n", [Append(names[7], messages(f"{_}"))])
        store.write("n", [Append(names[3], messages(f"{_}"))])
    listed = [session.name for session in store.read("n", ListSessions())]
    assert listed[:2] == [names[3], names[7]]
    assert sorted(listed) == names
    assert len(store.read("n", ListSessions(limit=5))) == 5


def test_nothing_is_left_of_a_destroyed_namespace(store, postgres):
    for namespace in ("n", "other"):
        store.write(namespace, [Retain(idle=3_600.0), Put("k", '"blue"', ttl=60.0)])
        store.write(namespace, [Append("s", messages("a", "b")), SetAbout("s", "{}", owner="ada")], idempotency_key="1")
        store.write(namespace, [Summarize("s", 2, '["sum"]'), Fork("s", "t")])
        store.write(namespace, [Pop("t")], idempotency_key="2")
        store.write(namespace, [Put(f"{number}" + "x" * 100, "1") for number in range(20)])
        assert store.read(namespace, Search(text="blue"))
        embed(store, namespace)
    counted = {table: rows(postgres, f"SELECT count(*) FROM botwire.{table}") for (table,) in rows(postgres, TABLES)}
    assert min(count for ((count,),) in counted.values()) >= 2
    store.write("n", [Destroy()])
    for (table,) in rows(postgres, TABLES):
        column = "name" if table == "namespaces" else "namespace"
        left = rows(postgres, f"SELECT count(*) FROM botwire.{table} WHERE {column} = 'n'")
        # Its state, and the record that confirms the destruction if its answer is lost.
        assert left == [(table in {"namespaces", "answers"},)], table
        assert rows(postgres, f"SELECT count(*) > 0 FROM botwire.{table} WHERE {column} = 'other'") == [(True,)], table
    assert rows(postgres, "SELECT vectors, retention, sessions_due FROM botwire.namespaces WHERE name = 'n'") == [
        (0, None, None)
    ]
    assert store.read("n", ListNamespaces()) == ["other"]


def test_a_replacement_that_repeats_ids(store):
    """The first attempt assumes that no message exists. The others find those that are kept."""
    store.write("n", [Append("s", messages("a", "b", "c"))])
    assert store.write("n", [Replace("s", messages("b", "x"), after=1)]) == [[2, 3]]
    assert store.write("n", [Replace("s", messages("a", "y", "b"), after=2)]) == [[1, 3, 2]]
    assert ids(store, "s") == ["a", "b", "y"]
    assert store.recount("n") == []


def test_a_fork_and_more_in_one_write(store):
    store.write("n", [Append("s", messages("a", "b"))])
    operations = [Fork("s", "t", upto=1), Append("t", messages("b", "a")), Edit("t", 1, '"other"'), Pop("s")]
    fork, appended, _, popped = store.write("n", operations)
    assert (fork, appended, [message.id for message in popped]) == (1, [2, 1], ["b"])
    assert [message.data for message in store.read("n", ListMessages("t"))] == ["other", "text of b"]
    assert store.read("n", CountMessages("s")) == 1
    assert store.recount("n") == []


def test_a_context_is_of_one_moment(store, postgres, monkeypatch):
    """Another process replaces the session between two statements of the read."""
    store.write("n", [Append("s", messages("a", "b", "c")), Summarize("s", 1, '["sum"]')])
    with closing(PostgresStore(postgres)) as other:
        run = Connection.run_all
        due = [lambda: other.write("n", [Replace("s", messages("x", "y", "z"))])]

        def run_then_write(connection, statements):
            found = run(connection, statements)
            if statements[-1][0] == "find_session" and due:
                due.pop()()
            return found

        monkeypatch.setattr(Connection, "run_all", run_then_write)
        context = store.read("n", GetContext("s", last=10, head=1))
    assert not due
    assert (context.summarized, [message.id for message in context.messages]) == (1, ["b", "c"])
    assert [message.id for message in context.head] == ["a"]
    assert store.read("n", GetContext("s", last=10)).summarized == 0


def test_a_database_older_than_details_of_sessions():
    with database() as address:
        scripts = load_migrations(SQL_FOLDER / "migrations")[:5]
        with psycopg.connect(address) as connection:
            for script in scripts:
                connection.execute(script.encode())
            connection.execute(f"UPDATE botwire.schema SET version = {len(scripts)}")
            connection.execute("INSERT INTO botwire.namespaces (name, day, version, bytes) VALUES ('n', 1, 3, 30)")
            for name, number, updated in (("a", 1, 9), ("b", 2, 7), ("c", 3, 8)):
                connection.execute(
                    "INSERT INTO botwire.sessions VALUES ('n', %s, %s, 1, 4, 1, %s)", (name, number, updated)
                )
                place = (number << 32) + 1
                connection.execute(
                    "INSERT INTO botwire.messages VALUES ('n', %s, %s, 'i', 1, '\"m\"')", (place, number)
                )
        with closing(PostgresStore(address)) as store:
            assert [session.name for session in store.read("n", ListSessions())] == ["a", "c", "b"]
            store.write("n", [Append("b", messages("j")), Edit("b", 1, '"new"')])
            assert [session.name for session in store.read("n", ListSessions())] == ["b", "a", "c"]
            assert store.read("n", GetSession("b")).messages == 2
            assert store.read("n", ListNamespaces()) == ["n"]
