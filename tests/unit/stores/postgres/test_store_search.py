"""Search in PostgreSQL: the same hits as in a file, the size of the index, and databases older than the index."""

from __future__ import annotations

import json
import random
import re
import time

import psycopg
import pytest
from typer.testing import CliRunner

from botwire import InvalidArgument, Memory
from botwire.cli import app
from botwire.operations import Append, Clear, Delete, Forget, NewMessage, Pop, Put
from botwire.queries import Search
from botwire.stores.engine import search, word_index
from botwire.stores.engine.statements import load_migrations
from botwire.stores.postgres.statements import SQL_FOLDER, TEXTS
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import new_id
from tests.postgres import database


@pytest.fixture
def store(postgres):
    store = PostgresStore(postgres)
    yield store
    store.close()


def rows(address, statement):
    with psycopg.connect(address) as connection:
        return connection.execute(statement).fetchall()


def found(store, text, **options):
    hits = store.read("n", Search(text=text, **{"limit": 1000, "neighbours": 0, **options}))
    names = [hit.entry.key if hit.entry else (hit.session, hit.message.seq) for hit in hits]
    return sorted((str(name), round(hit.score, 9)) for name, hit in zip(names, hits, strict=True))


def begin_index(store):
    store.write("n", [Put("k", '"bicycle"')])
    assert found(store, "bicycle")
    store.write("n", [Delete("k")])


@pytest.mark.parametrize("budget", [search.BUDGET, 60])
def test_both_engines_find_the_same(store, monkeypatch, budget):
    """Also for words that are in too many texts to read all of them."""
    monkeypatch.setattr(search, "BUDGET", budget)
    monkeypatch.setattr(search, "SOME", 40)
    file = SqliteStore(":memory:")
    drawn = random.Random(7)
    words = [f"w{number}" for number in range(60)]
    weights = [1 / number for number in range(1, 61)]

    def text():
        return '"' + " ".join(drawn.choices(words, weights, k=drawn.randint(1, 12))) + '"'

    for _ in range(40):
        new = tuple(NewMessage(new_id(), text()) for _ in range(10))
        session = drawn.choice("abc")
        operations = drawn.choice(
            [
                [Append(session, new)],
                [Append(session, new), Put(f"k{drawn.randint(1, 30)}", text())],
                [Put(f"k{drawn.randint(1, 30)}", text()), Delete(f"k{drawn.randint(1, 30)}"), Append("d", new)],
                [Append(session, new), Pop(session, 3)],
            ]
        )
        for one in store, file:
            one.write("n", operations)
    for _ in range(30):
        question = " ".join(drawn.sample(words, drawn.randint(1, 4)))
        options = drawn.choice([{}, {"session": "a", "entries": False}, {"entries": False, "neighbours": 2}])
        if (
            budget == 60
        ):  # the newest texts differ if entries are among them, because the databases number entries differently
            options |= {"entries": False}
        assert found(store, question, **options) == found(file, question, **options), (question, options)
    file.close()


def test_nothing_is_left_in_the_index(store, postgres):
    begin_index(store)
    for turn in range(3):
        store.write("n", [Put(f"k{number}", f'"text {number} {turn}"') for number in range(100)])
        store.write("n", [Append("s", tuple(NewMessage(new_id(), f'"said {number}"') for number in range(100)))])
    store.write("n", [Delete(f"k{number}") for number in range(50)])
    store.write("n", [Pop("s", 150)])
    store.write("n", [Append("t", tuple(NewMessage(new_id(), '"x y"') for _ in range(100)))])
    assert rows(postgres, "SELECT count(*), (SELECT texts FROM botwire.namespaces) FROM botwire.texts") == [(300, 300)]
    ((keys, last),) = rows(
        postgres, "SELECT count(DISTINCT key), max(id) FROM botwire.texts WHERE id < 1::bigint << 32"
    )
    assert keys == 50
    assert last <= 101  # an entry keeps its id
    store.write("n", [Clear()])
    store.write("n", [Forget("s")])
    store.write("n", [Forget("t")])
    assert rows(postgres, "SELECT count(*) FROM botwire.texts") == [(0,)]
    assert rows(postgres, "SELECT texts, words FROM botwire.namespaces") == [(0, 0)]


def test_the_list_of_what_is_not_indexed_stays_short(store, postgres):
    begin_index(store)
    for number in range(130):
        store.write("n", [Put("hot", f'"{number}"'), Append("s", (NewMessage(new_id(), f'"said {number}"'),))])
    ((pending, held),) = rows(postgres, "SELECT pending, texts FROM botwire.namespaces")
    assert pending.count("\n") < word_index.DUE
    assert 65 <= held <= 131
    store.write("n", [Append("s", tuple(NewMessage(new_id(), '"more"') for _ in range(100)))])
    assert rows(postgres, "SELECT pending, texts FROM botwire.namespaces") == [("", 231)]


def test_off_and_on_again(store, postgres):
    store.write("n", [Put(f"k{number}", '"blue"') for number in range(600)] + [Put("bytes", b"blue")])
    store.write("n", [Append(f"s{number % 7}", (NewMessage(new_id(), '"blue"'),)) for number in range(600)])

    def botwire(*arguments):
        done = CliRunner().invoke(app, [*arguments, "--db", postgres], catch_exceptions=False)
        assert done.exit_code == 0, done.output

    botwire("index", "off", "n")
    assert rows(postgres, "SELECT count(*) FROM botwire.texts") == [(0,)]
    with pytest.raises(InvalidArgument, match="its index is off"):
        store.read("n", Search(text="blue"))
    store.write("n", [Put("later", '"blue"')])
    assert rows(postgres, "SELECT pending, behind FROM botwire.namespaces WHERE name = 'n'") == [("", "off")]
    botwire("index", "on", "n")
    assert rows(postgres, "SELECT count(*) FROM botwire.texts") == [(1201,)]
    assert len(store.read("n", Search(text="blue", limit=1000, messages=False))) == 601


def test_a_database_older_than_the_index():
    with database() as address:
        with psycopg.connect(address) as connection:
            connection.execute(load_migrations(SQL_FOLDER / "migrations")[0].encode())
            connection.execute("UPDATE botwire.schema SET version = 1")
            connection.execute(
                "INSERT INTO botwire.namespaces (name, day, sessions) VALUES ('n', 1, 1), (E'\\x01access', 1, 0)"
            )
            connection.execute("INSERT INTO botwire.entries VALUES ('n', 'k', 1, 1, 1, NULL, '\"blue\"')")
            connection.execute("INSERT INTO botwire.sessions VALUES ('n', 's', 1, 1, 10, 1, 1)")
            connection.execute(
                "INSERT INTO botwire.messages VALUES ('n', (1::bigint << 32) + 1, 1, 'i', 1, '\"so blue\"')"
            )
        with Memory("n", address) as memory:
            assert [hit.value for hit in memory.search("blue")] == ["so blue", "blue"]
            memory["other"] = "blue"
            assert len(memory.search("blue")) == 3
            behind = "SELECT behind FROM botwire.namespaces ORDER BY name"
            assert rows(address, behind) == [("off",), (None,)]


def test_indexing_does_not_read_the_whole_namespace():
    """A generic plan may choose a join that reads all entries to find a few.

    In a database of its own: what earlier tests deleted would still be counted in an index.
    """
    with database() as address, psycopg.connect(address, autocommit=True) as connection:
        store = PostgresStore(address)
        store.write("n", [Put(f"k{number}", f'"text {number}"') for number in range(5_000)])
        store.close()
        connection.execute("ANALYZE")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for name, values in (
            ("entries_to_index", ("n", '["k1", "k2"]', 1_000)),
            ("get_entries", ("n", '["k1", "k2"]', 0, 1_000)),
            ("messages_to_index", ("n", "[4294967297]", 1_000)),
            ("messages_at", ("n", "[4294967297]", 1_000)),
            ("entries_at", ("n", "[1, 2]", 0, 1_000)),
            ("entries_named", ("n", '["k1", "k2"]', 0, 1_000)),
            ("fetch_messages", ("n", '[{"name": "s", "id": "i"}]')),
        ):
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {TEXTS[name]}"
            ((plan,),) = psycopg.RawCursor(connection).execute(explain, values, prepare=True).fetchall()
            assert max(map(float, re.findall(r'"Actual Rows": ([\d.]+)', json.dumps(plan)))) <= 2, (name, plan)


def test_no_table_is_read_as_a_whole(postgres):
    """Not even if the table was small when the statement was planned."""
    store = PostgresStore(postgres)
    begin_index(store)
    store.write("n", [Put("k", '"word"'), Append("s", (NewMessage(new_id(), '"word"'),))])
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("VACUUM botwire.entries, botwire.texts, botwire.messages, botwire.sessions")
        looked_at = "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'botwire'"
        before = connection.execute(looked_at).fetchone()[0]
        later = PostgresStore(postgres)
        for turn in range(6):
            later.write("n", [Put(f"k{turn}/{number}", '"word"') for number in range(100)])
            later.write("n", [Append(f"s{turn}", tuple(NewMessage(new_id(), '"word"') for _ in range(100)))])
        later.close()
        store.close()
        time.sleep(0.3)  # until the statistics of closed connections are included
        after = connection.execute(looked_at).fetchone()[0]
    assert after - before < 1_500, (before, after)
