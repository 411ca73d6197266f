"""After every step, on every store, the accounted bytes are the bytes of the rows, and within the plan."""

from __future__ import annotations

import time
from contextlib import closing, suppress

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from botwire import Conflict, InvalidArgument, InvalidValue, QuotaExceeded, StorageExceeded
from botwire.operations import (
    Append,
    Clear,
    Delete,
    Destroy,
    Edit,
    Expire,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Pop,
    Put,
    Replace,
    Retain,
    SetExpiry,
    SetVectors,
    Summarize,
    Write,
)
from botwire.plans import Plan, Plans
from botwire.queries import ListTexts, Search
from botwire.stores.http.store import HttpStore
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing.strategies import about_of
from botwire.testing.vectors import vector_of
from botwire.timestamps import new_id
from tests.servers import Server

MOST = 900
TIGHT = Plans("tight", {"tight": Plan(writes_per_day=60, max_bytes=MOST)})
REFUSALS = (StorageExceeded, QuotaExceeded, Conflict, InvalidArgument, InvalidValue)

ROWS = """
SELECT bytes, vectors,
    coalesce((SELECT sum({length}(key) + {value}) FROM {entries} AS e WHERE e.namespace = n.{id}), 0)
    + coalesce((SELECT sum({length}(m.id) + {length}(m.data)) FROM {messages} AS m {of_namespace}), 0)
    + coalesce((SELECT sum({length}(s.owner)) FROM {sessions} AS s WHERE s.namespace = n.{id}), 0)
    + coalesce((SELECT sum({length}(d.tags) + {length}(d.about) + coalesce({length}(d.summary), 0)) FROM {details}), 0),
    coalesce((SELECT sum({size}) FROM {entry_vectors} AS v WHERE v.namespace = n.{id}), 0)
    + coalesce((SELECT sum({size}) FROM {message_vectors} AS v WHERE v.namespace = n.{id}), 0)
FROM {namespaces} AS n WHERE name = {name}
"""
IN_SQLITE = ROWS.format(
    length="octet_length", value="octet_length(value)", entries="entries", id="id", messages="messages", size="octet_length(vector)",
    of_namespace="JOIN sessions AS s ON s.id = m.session WHERE s.namespace = n.id", entry_vectors="entry_vectors",
    message_vectors="message_vectors", namespaces="namespaces", name="?", sessions="sessions",
    details="details AS d JOIN sessions AS s ON s.id = d.session WHERE s.namespace = n.id",
)  # fmt: skip
IN_POSTGRES = ROWS.format(
    length="octet_length", value="coalesce(octet_length(text), octet_length(bytes))", entries="botwire.entries", id="name",
    messages="botwire.messages", of_namespace="WHERE m.namespace = n.name", size="bytes", entry_vectors="botwire.entry_vectors",
    message_vectors="botwire.message_vectors", namespaces="botwire.namespaces", name="%s", sessions="botwire.sessions",
    details="botwire.details AS d WHERE d.namespace = n.name",
)  # fmt: skip

keys = st.sampled_from(["a", "b", "é/c"])
sessions = st.sampled_from(["s", "t"])
seqs = st.integers(0, 3)
ttls = st.sampled_from([None, None, 0.001, 60.0])
lengths = st.integers(0, 420)
"""Two or three of the longest values reach the limit."""
ids = st.sampled_from(["1", "2", "3", "4"])
reasons = st.sampled_from([None, "", "asked for"])
owners = st.sampled_from([None, "ada", "é"])
tags = st.lists(st.sampled_from(["red", "ü"]), max_size=2, unique=True)
operations = st.one_of(
    st.builds(lambda key, n, ttl: Put(key, f'"{"x" * n}"', ttl), keys, lengths, ttls),
    st.builds(lambda key, n, ttl: Put(key, "7", ttl), keys, lengths, ttls),
    st.builds(lambda key, n: Put(key, b"y" * n, keep_ttl=True), keys, lengths),
    st.builds(lambda key, version: Put(key, '"z"', if_version=version), keys, st.integers(0, 3)),
    st.builds(Increment, keys, st.sampled_from([1, 10**30])),
    st.builds(Delete, keys),
    st.builds(lambda name, id_, n: Append(name, (NewMessage(id_, f'"{"m" * n}"'), NewMessage("5", "1"))), sessions, ids, lengths),
    st.builds(Pop, sessions, st.integers(0, 2)),
    st.builds(Forget, sessions),
    st.builds(Clear, st.sampled_from(["", "a"])),
    st.builds(Expire),
    st.builds(lambda name, id_, n, after: Replace(name, (NewMessage(id_, f'"{"r" * n}"'),), after), sessions, ids, lengths, seqs),
    st.builds(Fork, sessions, sessions | st.just("fork"), st.none() | seqs),
    st.builds(lambda name, seq, n, reason: Edit(name, seq, f'"{"e" * n}"', redacted=reason), sessions, seqs, lengths, reasons),
    st.builds(lambda name, upto, n: Summarize(name, upto, f'["{"s" * n}"]' if upto else "[]"), sessions, seqs, lengths),
    st.builds(lambda name, n, owner, tags: about_of(name, "t" * n, owner, tags), sessions, lengths, owners, tags),
    st.builds(SetExpiry, sessions, ttls),
    st.builds(Retain, st.sampled_from(["", "t"]), st.sampled_from([None, None, 0.001])),
    st.builds(Destroy),
)  # fmt: skip


def machine(store, rows, *, groups=False, vectors=False, expires=True):
    class Accounts(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.namespace = new_id()

        @rule(ops=st.lists(operations, min_size=1, max_size=3), key=st.none() | st.sampled_from(["k1", "k2"]))
        def write(self, ops, key):
            ops = [op for op in ops if expires or not isinstance(op, Expire)]
            with suppress(*REFUSALS):
                store.write(self.namespace, ops, idempotency_key=None if key is None else key + repr(ops)[:40])

        @rule(several=st.lists(st.lists(operations, min_size=1, max_size=2), min_size=2, max_size=4))
        def group(self, several):
            if groups:
                writes = [Write(self.namespace, tuple(ops)) for ops in several]
                for outcome in store._commit(writes, time.monotonic() + 5):
                    assert isinstance(outcome, (list, *REFUSALS)), outcome

        @rule()
        def wait(self):
            time.sleep(0.002)

        @rule()
        def index(self):
            store.read(self.namespace, Search(text="x m"))

        @rule()
        def embed(self):
            if vectors:
                texts = store.read(self.namespace, ListTexts("m"))
                with suppress(*REFUSALS):
                    store.write(self.namespace, [SetVectors("m", tuple(map(vector_of, texts)))])

        @invariant()
        def accounted(self):
            for said, said_of_vectors, held, vectors_held in rows(self.namespace):
                assert (said, said_of_vectors) == (held, vectors_held)
                assert 0 <= said + said_of_vectors <= MOST

    return Accounts


def check(store, rows, examples, **options):
    config = settings(max_examples=examples, stateful_step_count=15, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lambda: machine(store, rows, **options)(), settings=config)  # noqa: PLW0108 - a class for each run


def rows_of_sqlite(store):
    def rows(namespace):
        connection = store._connections.take()
        try:
            return connection.execute(IN_SQLITE, (namespace,)).fetchall()
        finally:
            store._connections.give(connection)

    return rows


@pytest.mark.parametrize("where", ["file", "memory"])
def test_sqlite(tmp_path, where):
    with closing(SqliteStore(":memory:" if where == "memory" else tmp_path / "a.db", plans=TIGHT)) as store:
        check(store, rows_of_sqlite(store), 25, groups=True, vectors=True)


def test_postgres(postgres):
    store, connection = PostgresStore(postgres, plans=TIGHT), psycopg.connect(postgres, autocommit=True)
    with closing(store), closing(connection):
        store.create_vectors()
        check(store, lambda name: connection.execute(IN_POSTGRES, (name,)).fetchall(), 12, groups=True, vectors=True)


def test_a_server(tmp_path):
    (tmp_path / "plans.toml").write_text(f"[tight]\nwrites_per_day = 60\nmax_bytes = {MOST}\n")
    server = Server(tmp_path / "a.db", "--plans", str(tmp_path / "plans.toml"), "--plan", "tight")
    with server, closing(HttpStore(server.url)) as store, closing(SqliteStore(tmp_path / "a.db")) as beside:
        check(store, rows_of_sqlite(beside), 8, vectors=True, expires=False)  # a server expires by itself


def test_the_case_that_was_found(tmp_path):
    """The written key has expired, and making room deletes it: its bytes were subtracted twice."""
    for value in ('"' + "z" * 1150 + '"', None):
        with closing(
            SqliteStore(tmp_path / f"{value is None}.db", plans=Plans("t", {"t": Plan(max_bytes=2_000)}))
        ) as store:
            store.write("n", [Put("k", "1" * 900, 0.05), Put("filler", '"' + "y" * 1000 + '"')])
            time.sleep(0.1)
            with suppress(StorageExceeded):
                store.write("n", [Put("k", value) if value else Increment("k", 10**1100)])
            ((said, _, held, _),) = rows_of_sqlite(store)("n")
            assert said == held
