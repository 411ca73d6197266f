"""A session on a server with other users: only PostgreSQL's own functions run, and a commit waits for the disk."""

from __future__ import annotations

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from botwire import Memory, StoreError, Unavailable
from botwire.stores.postgres.connection import connect
from botwire.stores.postgres.statements import SQL
from botwire.stores.postgres.store import PostgresStore
from tests.postgres import database
from tests.unit.stores.postgres.test_notify import Pooler

ROLES = "botwire_test_app", "botwire_test_stranger"
TRAP = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trap'; END $$"
TRAPS = [
    # These are chosen wherever the schema is in the search path, because their types fit better.
    *[f"FUNCTION public.unnest({kind}[]) RETURNS SETOF {kind}" for kind in ("text", "bigint", "integer", "bytea")],
    "FUNCTION public.cardinality(real[]) RETURNS integer",
    "FUNCTION public.times(numeric, integer) RETURNS numeric",
    "FUNCTION public.plus(bigint, integer) RETURNS bigint",
    # These are chosen if the schema comes first.
    "FUNCTION public.set_config(text, text, boolean) RETURNS text",
    "FUNCTION public.current_setting(text) RETURNS text",
    "FUNCTION public.clock_timestamp() RETURNS timestamptz",
    "FUNCTION public.pg_backend_pid() RETURNS integer",
    "FUNCTION public.to_regclass(text) RETURNS regclass",
    "FUNCTION public.octet_length(text) RETURNS integer",
    "FUNCTION public.pg_try_advisory_lock(integer, integer) RETURNS boolean",
    "FUNCTION public.pg_advisory_xact_lock(bigint) RETURNS void",
    "FUNCTION public.pg_notify(text, text) RETURNS void",
    "FUNCTION public.same(text, text) RETURNS boolean",
]
OPERATORS = [
    "public.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.times)",
    "public.+ (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = public.plus)",
    "public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same)",
]


@pytest.fixture
def shared():
    """A database in which two users may create what they like: its address, and those of the two."""
    with database() as address, psycopg.connect(address, autocommit=True) as owner:
        name = owner.info.dbname
        for role in ROLES:
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                owner.execute(f"CREATE ROLE {role} LOGIN")
            owner.execute(f"GRANT CREATE ON DATABASE {name} TO {role}")
        owner.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")  # as every database up to PostgreSQL 14 has it
        yield address, *(re.sub(r"//[^@]*@", f"//{role}@", address) for role in ROLES)
        for role in ROLES:
            owner.execute(f"DROP OWNED BY {role} CASCADE")
            owner.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_no_function_or_operator_of_another_user_runs(shared, pooled):
    admin, app, stranger = shared
    with psycopg.connect(stranger, autocommit=True) as other:
        for trap in TRAPS:
            other.execute(f"CREATE {trap} {TRAP}".encode())
        for operator in OPERATORS:
            other.execute(f"CREATE OPERATOR {operator}".encode())
    with psycopg.connect(admin, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {owner.info.dbname} SET search_path = public, pg_catalog".encode())
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(closing(Pooler(app))).address(app) if pooled else app
        with Memory("n", address) as memory:
            use(memory)
        with closing(connect(address, 10)) as connection:
            shown = connection.raw.execute("SHOW search_path").fetchone()
            # Through a pooler, other clients use this session too, so it must be as it was.
            assert shown == (("public, pg_catalog" if pooled else "pg_catalog, pg_temp"),)


def use(memory):
    """Run nearly every kind of statement."""
    with memory.watch() as watch, ThreadPoolExecutor(1) as threads:
        told = threads.submit(next, watch)
        memory.set("k", "a word", ttl=1000)
        assert told.result(20).key == "k"
    assert memory.increment("n") == 1
    history = memory.history("s")
    history.append(["hello", "you"])
    assert [hit.value for hit in memory.search("word")] == ["a word"]
    assert [message.data for message in history.pop(1)] == ["you"]
    assert memory.delete("k")
    history.clear()
    assert memory.usage().bytes >= 0


def test_a_commit_waits_for_the_disk_whatever_the_database_says(shared, monkeypatch):
    admin, app, _ = shared
    monkeypatch.setitem(SQL, "level", b"SELECT pg_catalog.current_setting('synchronous_commit')")
    with closing(Pooler(app)) as pooler, psycopg.connect(admin, autocommit=True) as owner:
        for level, wanted in (("off", "on"), ("remote_apply", "remote_apply"), ("local", "local")):
            owner.execute(f"ALTER DATABASE {owner.info.dbname} SET synchronous_commit = {level}".encode())
            for address in (app, pooler.address(app)):
                with closing(connect(address, 10)) as connection:
                    *_, ((found,),), _ = connection.run_all([("begin", ()), ("level", ()), ("commit", ())])
                    assert found == wanted
                    assert connection.run("level") == [(wanted,)]


def test_a_schema_of_a_stranger_is_refused(shared):
    admin, app, stranger = shared
    with psycopg.connect(stranger, autocommit=True) as other, psycopg.connect(admin, autocommit=True) as owner:
        other.execute("CREATE SCHEMA botwire")
        other.execute("GRANT ALL ON SCHEMA botwire TO PUBLIC")
        with pytest.raises(StoreError, match=f"the schema botwire belongs to the role '{ROLES[1]}'"):
            PostgresStore(app)
        assert owner.execute("SELECT FROM pg_tables WHERE schemaname = 'botwire'").fetchall() == []
        owner.execute(f"GRANT {ROLES[1]} TO {ROLES[0]}".encode())
        with Memory("n", app) as memory:
            memory.set("k", 1)


def test_a_table_of_a_stranger_is_refused(shared):
    admin, app, _ = shared
    with Memory("n", app) as memory:
        memory.set("k", 1)
    with psycopg.connect(admin, autocommit=True) as owner:
        # A superuser's is none, as the functions of an extension.
        owner.execute("CREATE FUNCTION botwire.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        PostgresStore(app).close()
        owner.execute(f"ALTER TABLE botwire.entries OWNER TO {ROLES[1]}".encode())
        with pytest.raises(StoreError, match=r"botwire\.entries belongs to the role"):
            PostgresStore(app)


def test_a_database_that_takes_no_writes_says_so(shared):
    admin, app, _ = shared
    with closing(PostgresStore(app, timeout=1)), psycopg.connect(admin, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {owner.info.dbname} SET default_transaction_read_only = on".encode())
    with Memory("n", app, timeout=1) as memory:
        assert memory.get("k") is None
        with pytest.raises(Unavailable, match="takes no writes"):
            memory.set("k", 1)
