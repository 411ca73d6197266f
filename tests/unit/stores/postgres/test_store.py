"""What only PostgreSQL has: plans of statements, lost answers, connections, forks, migrations, addresses."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from botwire import AsyncMemory, InvalidArgument, Memory, StorageExceeded, StoreError, Timeout, Unavailable
from botwire.operations import (
    Append,
    Clear,
    Delete,
    Forget,
    Increment,
    NewMessage,
    Pop,
    Put,
    SetAbout,
    SetVectors,
    Write,
)
from botwire.plans import Plan, Plans
from botwire.queries import (
    CountMessages,
    GetEntries,
    GetEntry,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    Search,
    weight,
)
from botwire.stores import open_store
from botwire.stores.engine.statements import load_queries
from botwire.stores.postgres.connection import connect
from botwire.stores.postgres.statements import SQL, SQL_FOLDER, TEXTS
from botwire.stores.postgres.store import PostgresStore
from botwire.testing.vectors import MODEL, embed
from botwire.timestamps import new_id, now
from tests.cutter import Cutter
from tests.postgres import address_of, database, server_address


@pytest.fixture
def store(postgres):
    store = PostgresStore(postgres)
    yield store
    store.close()


def value(store, key, namespace="n"):
    entry = store.read(namespace, GetEntry(key))
    return None if entry is None else entry.value


# The schema

EXAMPLES = {
    "get_entry": ("n", "k", 0),
    "get_entries": ("n", '["k"]', 0, 1_000),
    "list_keys": ("n", "", "z", "", 0, 10, 1_000),
    "list_entries": ("n", "", "z", "", 0, -1, 1_000),
    "count_entries": ("n", "", "z", 0),
    "find_session": ("n", "s"),
    "messages_between": ("n", 1 << 32, 2 << 32, 10, 1_000),
    "newest_messages": ("n", 1 << 32, 2 << 32, 1_000),
    "get_session": ("n", "s"),
    "sessions_at": ("n", "[1]", '["s"]'),
    "sessions_by_activity": ("n", 1 << 62, 1 << 62, 10),
    "sessions_of_owner": ("n", 1 << 62, 1 << 62, 10, "ada"),
    "sessions_named": ("n", 1 << 62, 1 << 62, 10, "", "z"),
    "sessions_by_age": ("n", 9, 10),
    "sessions_by_age_named": ("n", 9, 10, "", "z"),
    "get_state": ("n",),
    "get_version": ("n",),
    "entry_version": ("n", "k", 0),
    "lock_state": ("n",),
    "get_progress": ("n",),
    "get_journal": ("n",),
    "journal_blocks": ("n", 0, 10),
    "add_blocks": ("n", '[{"place": 1, "version": 9, "since": 8, "records": "9 sk\\n"}]', 1),
    "session_name": ("n", 1),
    "add_state": ("n", 1, 1, 1, 1, None, "", "", None, 1, 1, 1, 1, None),
    "set_state": ("n", 1, 1, 1, 1, None, "", "", None, 1, 1, 1, 1, None),
    "set_plan": ("n", "free"),
    "set_retention": ("n", '[["", 1, 1]]'),
    "mark_destroyed": ("n", 1),
    "forget_responses": ("n",),
    "forget_popped": ("n",),
    "forget_changes": ("n",),
    "fetch_entries": ("n", '["k"]'),
    "fetch_values": ("n", '["k"]'),
    "put_entries": ("n", '[{"key": "new", "version": 1, "created": 1, "updated": 1, "text": "1"}]'),
    "drop_entries": ("n", '["k"]'),
    "measure_entries": ("n", "", "z", 0),
    "has_more_entries": ("n", "", "z", 0),
    "first_entries": ("n", "", "z", 0, 10),
    "delete_entries": ("n", "", "z"),
    "find_expired": ("n", 1, 10),
    "first_expiry": ("n",),
    "fetch_sessions": ("n", '["s"]'),
    "put_sessions": (
        "n",
        '[{"name": "new", "id": 7, "last_seq": 1, "bytes": 1, "version": 1, "created": 1, "updated": 1}]',
    ),
    "rename_session": ("n", 1, "t"),
    "settle_sessions": ("n", "[1]", '["s"]'),
    "delete_session": ("n", 1),
    "get_details": ("n", 1),
    "get_summary": ("n", 1),
    "put_details": ("n", 9, 1, "[]", "{}", None, 0, 0, None),
    "set_owner": ("n", 1, "ada"),
    "delete_details": ("n", 1),
    "expired_sessions": ("n", 1, 10),
    "idle_sessions": ("n", '[["s", 1, null], ["", null, 1]]', 1 << 62, 1 << 62, 10),
    "old_sessions": ("n", '[["s", null, 1], ["", 1, null]]', 1 << 62, 10),
    "first_session_expiry": ("n",),
    "some_sessions": ("n", 10),
    "fetch_messages": ("n", '[{"name": "s", "id": "i"}]'),
    "add_messages": ("n", f'[{{"place": {1 << 35}, "id": "i", "created": 1, "data": "1"}}]'),
    "copy_messages": ("n", 1 << 32, 2 << 32, 7 << 32, 8),
    "peek_message": ("n", (1 << 32) + 1),
    "edit_message": ("n", (1 << 32) + 1, "1", 1, None),
    "measure_messages": ("n", 1 << 32, 2 << 32),
    "last_messages": ("n", 1 << 32, 2 << 32, 10),
    "delete_messages": ("n", 1 << 32, 2 << 32),
    "fetch_responses": ("n", '["a"]'),
    "add_responses": ("n", '[{"idempotency_key": "new", "created": 1, "results": "[]"}]'),
    "purge_responses": ("n", 1, 10),
    "last_popped": ("n",),
    "find_popped": ("n", 1, 1),
    "keep_popped": ("n", 1, 1, "s", 1, "[]"),
    "drop_popped": ("n", 1),
    "erase_popped": ("n", "s"),
    "purge_popped": ("n", 1, 10),
    "wrong_sessions": ("n",),
    "correct_session": ("n", 1, 1, 1),
    "held_bytes": ("n",),
    "held_vector_bytes": ("n",),
    "set_vector_bytes": ("n", 1),
    "free_session": ("n", 1, 9),
    "free_entry_text": ("n", 1, 9),
    "peek_session": ("n", "s"),
    "add_texts": ("n", '[{"id": 1, "key": "k", "version": 1, "terms": "a b"}, {"id": 4294967299, "terms": "c"}]'),
    "drop_texts": ("n", "[1]"),
    "delete_texts": ("n", 0, 1 << 40),
    "delete_some_texts": ("n", 0, 1 << 40, 10),
    "delete_texts_of_entries": ("n", "", "z"),
    "delete_some_texts_of_entries": ("n", 10),
    "entries_to_index": ("n", '["k"]', 1_000),
    "messages_to_index": ("n", f"[{(1 << 32) + 1}, {(1 << 32) + 99}]", 1_000),
    "keys_to_index": ("n", "", 10),
    "sessions_from": ("n", 0, 10),
    "count_texts": ("n", '["blue", "none"]'),
    "texts_with_each": ("n", '["blue", "none"]', 0, 1 << 40),
    "newest_texts_with": ("n", "blue", 0, 1 << 40, 10),
    "newest_texts_with_both": ("n", "blue", '["bicycl"]', 0, 1 << 40, 10),
    "messages_at": ("n", f"[{(1 << 32) + 1}]", 1_000),
    "entries_at": ("n", "[1]", 0, 1_000),
    "entries_named": ("n", '["k"]', 0, 1_000),
    "texts_of_entries": ("n", "", "z", 10),
    "entries_without_vector": ("n", "another", "", 0, 10, 1_000),
    "messages_without_vector": ("n", "another", 1, 1 << 32, 10, 1_000),
    "keep_entry_vectors": ("n", '[["k", 1, "{2,1}"]]', "m"),
    "keep_message_vectors": ("n", '[["s", "i", {created}, "{{2,1}}"]]', "m"),
    "drop_vectors": ("n", '["k"]'),
    "drop_vectors_of_entries": ("n", "", "z"),
    "drop_vectors_of_messages": ("n", 1 << 32, 2 << 32),
    "delete_some_entry_vectors": ("n", 10),
    "delete_some_message_vectors": ("n", 1 << 32, 2 << 32, 10),
    "nearest_messages": ("n", 1, 2, MODEL, "[0,0,0,1]", 10),
    "nearest_entries": ("n", "", "z", MODEL, "[0,0,0,1]", 10, 0),
    "get_vector_bytes": ("n",),
}
FILES = ("queries.sql", "sessions.sql", "search.sql")
QUERIES = {name: text for file in FILES for name, text in load_queries(SQL_FOLDER / file).items()}
SPANNING = {
    "list_namespaces", "rely_on_guards", "change_guarded", "expiring", "redate_responses", "redate_popped", "sweep_responses",
    "end_sessions", "end_ruled_sessions", "expect_ended_sessions",
}  # fmt: skip
"""Statements about all namespaces: the operator's list, the lock of access rules, which touches no table, the statements
that run after the server's clock was set back, and the removal of old idempotency records."""
NOT_REACHED = {("count_texts", "namespaces")}
"""Tables that a statement reads only for more than 10,000 texts."""
TOUCHED = """
SELECT relname FROM pg_stat_xact_user_tables
WHERE coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del > 0
"""
PLANS = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = %s"


@pytest.fixture(scope="module")
def planned():
    """A connection to a database with a row in each table, the partition of all of them, and when a message was created."""
    with database() as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr("botwire.stores.engine.word_index.DUE", 1)
        with closing(PostgresStore(address)) as store:
            message = Append("s", (NewMessage("i", '"a blue bicycle"'),))
            about = SetAbout("s", '{"title":"t"}', owner="ada", tags=("x",))
            store.write("n", [Put("k", '"blue"', ttl=60.0), message, about], idempotency_key="a")
            assert store.read("n", Search(text="bicycle"))  # so that the index is not empty
            embed(store)
            (message,) = store.read("n", ListMessages("s"))
        with closing(connect(address, 10)) as connection:
            ((partition,),) = connection.raw.execute(
                "SELECT n FROM generate_series(0, 15) AS n WHERE satisfies_hash_partition"
                "('botwire.entries'::regclass, 16, n, 'n'::text)"
            ).fetchall()
            yield connection, partition, message.created


@pytest.mark.parametrize("name", sorted(set(QUERIES) - SPANNING))
@pytest.mark.parametrize("how", ["plan_once", "plan_custom"])
def test_a_statement_keeps_to_the_partition_of_its_namespace(planned, name, how):
    """Checks the plan, prepared as the store prepares it, and the tables that were read or changed."""
    connection, partition, created = planned
    raw, prepared = connection.raw, f"botwire_{name}"
    if name not in connection._prepared:
        connection.pgconn.prepare(prepared.encode(), SQL[name])
        connection._prepared.add(name)
    raw.execute("SELECT pg_stat_force_next_flush()")
    connection.run_all([("begin", ()), (how, ())])
    assert raw.execute(TOUCHED).fetchall() == []
    values = EXAMPLES[name]
    if name == "keep_message_vectors":
        values = values[0], values[1].format(created=created), values[2]
    if name == "add_state":
        raw.execute("DELETE FROM botwire.namespaces WHERE name = 'n'")
    before = raw.execute(PLANS, (prepared,)).fetchone()
    explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {} ({})").format(
        sql.Identifier(prepared), sql.SQL(", ").join(map(sql.Literal, values))
    )
    (([plan],),) = raw.execute(explain).fetchall()
    generic, custom = (now - old for now, old in zip(raw.execute(PLANS, (prepared,)).fetchone(), before, strict=True))
    touched = {relation for (relation,) in raw.execute(TOUCHED).fetchall()}
    connection.settle()
    assert (generic, custom) == ((1, 0) if how == "plan_once" else (0, 1))
    nodes = list(_nodes(plan["Plan"]))
    named = {node["Relation Name"] for node in nodes if "Relation Name" in node}
    ran = {node["Relation Name"] for node in nodes if "Relation Name" in node and node["Actual Loops"]}
    for relation in touched | named:  # an INSERT names the table that its rows are routed through
        assert not relation[-1].isdigit() or relation.endswith(f"_{partition}"), (relation, partition, plan)
    asked = set(re.findall(r"(?:FROM|JOIN|INTO|UPDATE) botwire\.(\w+)", TEXTS[name]))
    assert asked
    for table in asked:
        assert f"{table}_{partition}" in touched | ran or (name, table) in NOT_REACHED, (table, plan)
    # A generic plan has all partitions, and removes those of other namespaces when it starts.
    assert {node.get("Subplans Removed", 0) for node in nodes} <= ({0, 15} if how == "plan_once" else {0})


def _nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def test_every_statement_has_an_example():
    assert set(EXAMPLES) == set(QUERIES) - SPANNING
    elsewhere = [name for name in set(TEXTS) - set(QUERIES) if "botwire." in TEXTS[name]]
    assert elsewhere == []  # statements that read or change a table are in `FILES`


def test_migrations_at_once():
    with database() as address:
        barrier = threading.Barrier(6)

        def begin(_):
            barrier.wait()
            store = PostgresStore(address)
            store.write("n", [Increment("k"), SetVectors("m", ())])
            store.close()

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(begin, range(6)))
        assert Memory("n", address).get("k") == 6
        with psycopg.connect(address) as connection:
            connection.execute("UPDATE botwire.schema SET version = 99")
        with pytest.raises(StoreError, match="from a newer botwire"):
            PostgresStore(address)


def test_a_database_that_is_not_in_utf8(postgres):
    with psycopg.connect(server_address(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE botwire_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        with pytest.raises(StoreError, match="not in UTF-8"):
            PostgresStore(address_of("botwire_ascii"))
    finally:
        with psycopg.connect(server_address(), autocommit=True) as connection:
            connection.execute("DROP DATABASE botwire_ascii")


# Groups of writes in one transaction


def test_a_group_of_all_kinds_of_writes(store):
    """The writes have the same effect as one after the other. Refused writes have none."""
    message = NewMessage(new_id(), "1")
    writes = [
        [Put("a", "1")],
        [Put("b", "1"), Put("c", "1", if_version=7)],
        [Increment("a"), Append("s", (message,))],
        [Append("s", (message, NewMessage(new_id(), "2")))],
        [Clear("a"), Put("a", "5")],
        [Increment("a"), Delete("b"), Append("s", (message,)), Pop("s")],
        [Append("t", (message,)), Put("c", "1", if_version=7)],
        [Append("s", (NewMessage(new_id(), "3"),)), Append("t", (message,)), Forget("t")],
        [Append("t", (message,)), Increment("a")],
    ]
    outcomes = store._commit([Write("n", tuple(operations)) for operations in writes], time.monotonic() + 10)
    assert [type(outcome).__name__ if isinstance(outcome, Exception) else "" for outcome in outcomes] == [
        "", "Conflict", "", "", "", "", "Conflict", "", "",
    ]  # fmt: skip
    assert outcomes[2] == [2, [1]]
    assert outcomes[3] == [[1, 2]]
    assert outcomes[5][:3] == [6, False, [1]]
    assert [item.data for item in outcomes[5][3]] == [2]
    assert outcomes[7] == [[2], [1], 1]
    assert outcomes[8] == [[1], 7]
    assert store.read("n", ListKeys()) == ["a"]
    assert [item.data for item in store.read("n", ListMessages("s"))] == [1, 3]
    assert store.read("n", GetUsage()).bytes == 2 + 2 * 37 + 37


def test_what_has_expired_makes_room_in_a_group(postgres):
    """A write that needs space removes expired entries in the database. Other writes of the group are not affected."""
    store = PostgresStore(postgres, plans=Plans("t", {"t": Plan(max_bytes=1_000)}))
    store.write("n", [Put("old", f'"{"x" * 900}"', ttl=0.01)])
    time.sleep(0.02)
    big = Put("big", f'"{"x" * 900}"')
    writes = [[Put("a", "1")], [Put("b", "1"), big, Put("c", "1", if_version=9)], [Put("d", "1"), big], [Put("e", "1")]]
    outcomes = store._commit([Write("n", tuple(operations)) for operations in writes], time.monotonic() + 10)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False, False]
    assert store.read("n", ListKeys()) == ["a", "big", "d", "e"]
    assert store.read("n", GetUsage()).bytes == 6 + 905
    with pytest.raises(StorageExceeded):
        store.write("n", [Put("more", f'"{"x" * 100}"')])
    store.close()


def test_a_journal_keeps_its_newest_blocks(store, postgres, monkeypatch):
    monkeypatch.setattr("botwire.stores.postgres.rows.BLOCKS", 5)
    for turn in range(20):  # a block or two each
        store.write("n", [Put(f"{turn}/{number}/" + "k" * 100, "1") for number in range(12)])
    with psycopg.connect(postgres) as connection:
        found = connection.execute(
            "SELECT number FROM botwire.changes WHERE namespace = 'n' ORDER BY version"
        ).fetchall()
        assert [number for (number,) in found] == list(range(found[0][0], found[-1][0] + 1))
        assert found[0][0] > 1
        assert 5 <= len(found) <= 7
    newest = store.read("n", ListChanges(after=20 * 12 - 12))
    assert [change.entry.key for change in newest.changes] == [f"19/{number}/" + "k" * 100 for number in range(12)]


def test_responses_are_purged(store, postgres, monkeypatch):
    monkeypatch.setattr("botwire.stores.engine.idempotency.RESPONSES_KEPT", 0)
    for number in range(20):
        store.write("n", [Put("k", str(number))], idempotency_key=str(number))
        store.write("n", [Put("k", str(number))])
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM botwire.answers").fetchone()[0] < 5


# Lost connections, timeouts and conflicts


@pytest.fixture
def cutter(postgres):
    if not psycopg.conninfo.conninfo_to_dict(postgres).get("host", "").startswith("/"):
        pytest.skip("the proxy speaks to a Unix socket")
    cutter = Cutter(postgres)
    yield cutter
    cutter.close()


@pytest.mark.parametrize("how", ["cut before", "cut after"])
def test_a_write_is_applied_once_when_its_commit_is_lost(cutter, postgres, how):
    store = PostgresStore(cutter.address(postgres))
    store.write("n", [Increment("k")])
    for number in range(2, 6):
        cutter.plan = [how, how, "pass"]
        message = NewMessage(new_id(), str(number))
        assert store.write("n", [Increment("k"), Append("s", (message,))]) == [number, [number - 1]]
        cutter.plan = [how]
        assert store.write("other", [Append("s", (message,))]) == [[number - 1]]
    assert cutter.seen == 21  # a retry after a commit commits again, without changes, to wait for the replica
    assert value(store, "k") == 5
    assert store.read("n", CountMessages("s")) == 4
    assert store.read("other", CountMessages("s")) == 4
    store.close()


@pytest.mark.parametrize("remove", [Pop("s"), Forget("s")])
def test_an_append_whose_commit_was_lost_does_not_restore_removed_messages(cutter, postgres, monkeypatch, remove):
    store, other = PostgresStore(cutter.address(postgres)), PostgresStore(postgres)
    store.write("n", [Append("t", (NewMessage("i", "1"),))])
    may_retry = store._pool.may_retry

    def remove_first(*arguments):
        other.write("n", [remove])
        return may_retry(*arguments)

    monkeypatch.setattr(store._pool, "may_retry", remove_first)
    cutter.plan = ["cut after"]
    assert store.write("n", [Append("s", (NewMessage(new_id(), "1"),))]) == [[1]]
    assert store.read("n", CountMessages("s")) == 0
    store.close()
    other.close()


def test_a_commit_that_is_never_answered(cutter, postgres):
    store = PostgresStore(cutter.address(postgres), timeout=0.5)
    cutter.plan = ["cut after, and for good"]
    with pytest.raises(Timeout, match="may have happened"):
        store.write("n", [Increment("k")])
    cutter.refusing = False
    assert value(store, "k") == 1
    store.close()


@pytest.mark.parametrize("idempotency_key", [None, "key"])
def test_a_write_is_confirmed_when_its_session_ends_before_the_answer(store, postgres, idempotency_key):
    """The commit waits for a replica that does not exist. The write happens once, and returns when a replica has it."""
    store.write("n", [Increment("k")])
    write = [Increment("k"), Append("s", (NewMessage(new_id(), "1"),))]
    waiting_for_it = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND NOT pid = ANY (%s)"
    with psycopg.connect(postgres, autocommit=True) as admin, ThreadPoolExecutor(1) as pool:

        def wait_for_one(*but):
            deadline = time.monotonic() + 5
            while not (found := admin.execute(waiting_for_it, (list(but),)).fetchall()):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            return found[0][0]

        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            writing = pool.submit(store.write, "n", write, idempotency_key=idempotency_key)
            pid = wait_for_one()
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            wait_for_one(pid)
            assert not writing.done()
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
        assert writing.result() == [2, [1]]
    assert value(store, "k") == 2
    assert store.read("n", CountMessages("s")) == 1


def test_increments_while_connections_are_cut(postgres):
    """Each acknowledged write is applied once, although the server ends all connections repeatedly."""
    stores = [PostgresStore(postgres) for _ in range(2)]
    end = time.monotonic() + 2

    def work(writer):
        done = 0
        while time.monotonic() < end:
            stores[writer % 2].write(f"n{writer % 3}", [Increment("k")])
            done += 1
        return done

    with ThreadPoolExecutor(9) as pool, psycopg.connect(postgres, autocommit=True) as admin:
        running = [pool.submit(work, writer) for writer in range(9)]
        cuts = 0
        while time.monotonic() < end:
            time.sleep(0.05)
            cuts += len(
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'botwire'"
                ).fetchall()
            )
        done = sum(future.result() for future in running)
    assert cuts > 20
    assert sum(value(stores[0], "k", f"n{number}") for number in range(3)) == done
    for store in stores:
        store.close()


def test_a_locked_namespace_delays_no_other(store, postgres):
    hurried = PostgresStore(postgres, timeout=0.3)
    store.write("n", [Put("k", "1")])
    with psycopg.connect(postgres) as holder:
        holder.execute("SELECT * FROM botwire.namespaces WHERE name = 'n' FOR UPDATE")
        begun = time.monotonic()
        with pytest.raises(Timeout, match="nothing was written"):
            hurried.write("n", [Put("k", "2")])
        assert time.monotonic() - begun < 2
        hurried.write("other", [Put("k", "2")])
        assert value(hurried, "k") == 1
    hurried.write("n", [Put("k", "3")])
    assert value(store, "k") == 3
    hurried.close()


def test_a_deadlock_is_retried(store, postgres):
    """PostgreSQL cancels a transaction that has waited for a second: here that of the store."""
    store.write("n", [Put("k", "1")])
    with psycopg.connect(postgres) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT * FROM botwire.entries WHERE namespace = 'n' FOR UPDATE")
        waiting = pool.submit(store.write, "n", [Increment("k"), Append("s", (NewMessage(new_id(), "1"),))])
        time.sleep(0.3)
        holder.execute(
            "SELECT * FROM botwire.namespaces WHERE name = 'n' FOR UPDATE"
        )  # granted when the transaction of the store is undone
        holder.rollback()
        assert waiting.result() == [2, [1]]
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        holder.execute("SELECT pg_stat_force_next_flush()")
        assert holder.execute(deadlocks).fetchone()[0] >= 1
    assert value(store, "k") == 2


def test_serialization_failures_are_retried():
    with database() as address:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(
                f"ALTER DATABASE {connection.info.dbname} SET default_transaction_isolation = 'serializable'"
            )
        stores = [PostgresStore(address) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            work = [
                pool.submit(store.write, "n", [Increment("k"), Append("s", (NewMessage(new_id(), "1"),))])
                for _ in range(8)
                for store in stores
            ]
            assert sorted(future.result()[0] for future in work) == list(range(1, 33))
        assert stores[0].read("n", CountMessages("s")) == 32
        for store in stores:
            store.close()


def test_a_wait_does_not_set_the_clock_back(store, postgres):
    """A time that the server returned before it waited for a lock is old when it arrives."""
    store.write("n", [Put("k", "1")])
    with psycopg.connect(postgres) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT * FROM botwire.namespaces WHERE name = 'n' FOR UPDATE")
        waiting = pool.submit(store.write, "n", [Put("k", "2")])
        time.sleep(0.5)
        holder.rollback()
        waiting.result()
    assert abs(store._clock.now() - now()) < 250_000
    assert store.read("n", GetEntry("k")).updated <= now() + 250_000


def test_a_read_that_takes_too_long(postgres):
    store = PostgresStore(postgres, timeout=1.0)
    store.write("n", [Put("k", "1")])
    with psycopg.connect(postgres) as holder:
        holder.execute("LOCK botwire.entries IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Timeout):
            store.read("n", GetEntry("k"))
    assert value(store, "k") == 1
    with psycopg.connect(postgres, autocommit=True) as connection:
        time.sleep(0.1)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'botwire' AND state = 'active'"
        assert connection.execute(waiting).fetchone() == (0,)
    store.close()


def test_a_pooler_without_prepared_statements(store, postgres):
    """As PgBouncer in transaction mode: prepared statements are lost, and the store stops to use them."""
    for number in range(20):
        store.write("n", [Put("k", str(number))])
        assert value(store, "k") == number
    idle = list(store._pool.connections.idle)
    assert idle
    for connection in idle:
        connection.pgconn.exec_(b"DEALLOCATE ALL")
    store.write("n", [Put("k", "99")])
    assert value(store, "k") == 99
    assert not store._pool.prepares


def test_after_a_fork(store):
    store.write("n", [Increment("k")])
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=lambda: [store.write("n", [Increment("k")]) for _ in range(20)]) for _ in range(3)]
    for child in children:
        child.start()
    for _ in range(20):
        store.write("n", [Increment("k")])
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert value(store, "k") == 81


def test_a_finalizer_may_write_while_its_thread_holds_a_lock(store):
    """The garbage collector may run it at any allocation."""
    locks = [store._mutex, store._notifier._mutex, store.listener._mutex]
    for lock in locks:
        lock.acquire()
    try:
        for lock in locks:
            assert lock.acquire(blocking=False)  # a write would wait for ever otherwise
            lock.release()
        store.write("new", [Put("k", "1")])
        store._notifier.notify("new")
    finally:
        for lock in locks:
            lock.release()


# Addresses and errors


def test_no_server():
    with pytest.raises(Unavailable, match="cannot be reached"):
        PostgresStore("postgresql://postgres:secret@127.0.0.1:1/x", timeout=1)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@h:5/d", "postgresql://me@h:5/d"),
        (
            "postgres://me:secret@h1:1,h2:2/d?target_session_attrs=any",
            "postgresql://me@h1:1,h2:2/d?target_session_attrs=any",
        ),
        ("postgresql:///d?host=/tmp&password=secret&user=me", "postgresql:///d?host=/tmp&user=me"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    from botwire.stores.postgres.connection import without_password

    assert without_password(url) == shown
    with pytest.raises(InvalidArgument) as caught:
        without_password(url + ("&" if "?" in url else "?") + "nonsense=secret")
    assert "secret" not in str(caught.value)


def test_errors_hold_no_values(store, postgres):
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("ALTER TABLE botwire.entries ADD CONSTRAINT small CHECK (length(text) < 20)")
        try:
            with pytest.raises(StoreError) as caught:
                store.write("n", [Put("k", '"a value that no error contains"')])
        finally:
            connection.execute("ALTER TABLE botwire.entries DROP CONSTRAINT small")
    assert "a value" not in str(caught.value)
    assert store.read("n", ListKeys()) == []


def test_a_closed_store(postgres):
    store = open_store(postgres)
    store.write("n", [Put("k", "1")])
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write("n", [Put("k", "2")])
    with pytest.raises(StoreError, match="closed"):
        store.read("n", GetEntry("k"))


def test_on_an_event_loop(postgres):
    async def main():
        memory = Memory("n", postgres)
        async with AsyncMemory("n", postgres) as other_side, asyncio.TaskGroup() as tasks:
            for number in range(50):
                tasks.create_task(other_side.increment("k"))
                tasks.create_task(AsyncMemory.of(memory).history("s").append([number]))
        assert len(memory.history("s").messages()) == 50
        memory.close()
        return other_side

    other_side = asyncio.run(main())
    assert Memory("n", postgres).get("k") == 50

    async def closed():
        with pytest.raises(StoreError, match="closed"):
            await other_side.increment("k")
        with pytest.raises(StoreError, match="closed"):
            await other_side.get("k")

    asyncio.run(closed())


def test_processes_of_the_store_do_not_grow_connections(store, postgres):
    with ThreadPoolExecutor(40) as pool:
        list(pool.map(lambda number: store.write(f"n{number}", [Put("k", "1")]), range(200)))
    with psycopg.connect(postgres) as connection:
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'botwire' AND datname = current_database()"
        )
        assert 1 <= connection.execute(count).fetchone()[0] <= 8
    assert os.getpid()


@pytest.mark.parametrize("text", ["x", "é", "日", "\U0001f916"])
def test_a_page_that_ended_early_is_as_large_as_asked(postgres, text):
    """A server takes that as the sign that there is another page. PostgreSQL counts bytes of UTF-8, and Python those of a str."""
    room = 50_000
    with closing(PostgresStore(postgres)) as store:
        keys = [text * (500 // len(text.encode())) + f"{number:03}" for number in range(300)]
        store.write("n", [Put(key, f'"{text * 100}"') for key in keys])
        store.write("n", [Append("s", tuple(NewMessage(key, f'"{text * 500}"') for key in keys))])
        for query in (
            ListKeys(room=room),
            ListEntries(room=room),
            GetEntries(tuple(keys), room),
            ListMessages("s", room=room),
        ):
            rows = store.read("n", query)
            assert 0 < len(rows) < 300
            assert sum(map(weight, rows)) >= room > sum(map(weight, rows[:-1]))
