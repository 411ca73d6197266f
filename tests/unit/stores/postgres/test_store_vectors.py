"""Vectors in PostgreSQL: servers without pgvector, counting and deletion, and the same hits as in a file."""

from __future__ import annotations

import random
from array import array

import psycopg
import pytest

from botwire import InvalidArgument, Memory, StorageExceeded
from botwire.migrate.copy import copy
from botwire.operations import Append, Clear, Delete, Forget, NewMessage, Pop, Put, SetVectors, Vector
from botwire.plans import Plan, Plans
from botwire.queries import GetUsage, ListTexts, Search
from botwire.search.embedding import vectors_of
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing import messages_of, put
from botwire.testing.vectors import MODEL, VectorContract, embed, vector
from botwire.timestamps import new_id
from tests.postgres import database


@pytest.fixture
def store(postgres):
    store = PostgresStore(postgres)
    yield store
    store.close()


near = VectorContract().near


def refuses_vectors(store):
    """Check that a store without vectors reports it."""
    queries = [ListTexts(MODEL), Search(text="dog", vector=vector("dog"), model=MODEL)]
    for query in queries:
        with pytest.raises(InvalidArgument, match="vectors"):
            store.read("n", query)
    for vectors in ((Vector(vector("dog"), "k", 1),), ()):
        with pytest.raises(InvalidArgument, match="vectors"):
            store.write("n", [put("k", "dog"), SetVectors(MODEL, vectors)])


def counted(address):
    """Return the counted and the stored bytes of vectors."""
    with psycopg.connect(address) as connection:
        held = "SELECT bytes FROM botwire.entry_vectors UNION ALL SELECT bytes FROM botwire.message_vectors"
        (total,) = connection.execute("SELECT coalesce(sum(vectors), 0) FROM botwire.namespaces").fetchone()
        (there,) = connection.execute(f"SELECT coalesce(sum(bytes), 0) FROM ({held}) AS held").fetchone()
    return int(total), int(there)


def test_a_server_without_pgvector():
    """Everything else works. A call that needs vectors reports what is missing, and works once it is installed."""
    with database() as address, psycopg.connect(address, autocommit=True) as connection:
        if connection.info.server_version < 180_000:
            pytest.skip("an older server looks for extensions in one place only")
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET extension_control_path = '/nowhere'")
        store = PostgresStore(address)
        refuses_vectors(store)
        with Memory("n", address, embedder=lambda texts: [[1.0] for _ in texts]) as memory:
            memory["k"] = "blue"
            memory.history("s").append(["so blue"])
            assert len(memory.search("blue", by="words")) == 2
            with pytest.raises(InvalidArgument, match=r"has no pgvector. Install it there .*/pgvector#installation"):
                memory.search("blue")
            connection.execute(f"ALTER DATABASE {connection.info.dbname} RESET extension_control_path")
        store.close()
        with Memory("n", address, embedder=lambda texts: [[1.0] for _ in texts]) as memory:
            assert len(memory.search("something", by="meaning")) == 2


def test_a_role_that_may_not_install_pgvector():
    """Also an extension in another schema, and a restore without the tables for vectors."""
    with database() as owners, psycopg.connect(owners, autocommit=True) as owner:
        name = owner.info.dbname
        address = owners.replace(f"{owner.info.user}:@", f"{name}:@", 1)
        assert address != owners
        owner.execute(f"CREATE ROLE {name} LOGIN")
        try:
            owner.execute(f"GRANT CREATE ON DATABASE {name} TO {name}")
            store = PostgresStore(address)
            owner.execute(f"REVOKE CREATE ON DATABASE {name} FROM {name}")
            store.write("n", [put("k", "dog"), Append("s", messages_of("dog"))])
            refuses_vectors(store)
            with pytest.raises(InvalidArgument, match=f"role '{name}' .* of the database '{name}'.*CREATE EXTENSION"):
                store.write("n", [SetVectors(MODEL, ())])
            owner.execute('CREATE SCHEMA "El se"; CREATE EXTENSION vector SCHEMA "El se"')
            owner.execute(f'GRANT USAGE ON SCHEMA "El se" TO {name}')
            assert embed(store) == 2
            assert near(store, "puppy") == ["dog", "dog"]
            store.close()
            owner.execute("DROP TABLE botwire.entry_vectors, botwire.message_vectors; DROP FUNCTION botwire.distance")
            store = PostgresStore(address)
            store.write("n", [put("k", "cat"), Pop("s"), Clear("z"), Append("s", messages_of("cat"))])
            assert embed(store) == 2
            assert near(store, "kitten") == ["cat", "cat"]
            assert counted(owners) == (2 * len(vector("")),) * 2
            store.close()
        finally:
            owner.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def test_a_value_replaced_by_an_older_botwire_is_not_found_by_its_old_vector(store, postgres):
    """An older version without vectors runs at the same time while servers are upgraded one by one."""
    store.write("n", [put("k", "dog"), put("l", "dog"), Append("s", messages_of("dog", "dog"))])
    embed(store)
    with psycopg.connect(postgres) as older:
        older.execute("UPDATE botwire.entries SET text = '\"cat\"', version = version + 9 WHERE key = 'k'")
        older.execute("DELETE FROM botwire.entries WHERE key = 'l'")
        older.execute(
            "UPDATE botwire.messages SET id = 'new', created = created + 1, data = '\"cat\"' WHERE place & 1 = 0"
        )
    assert near(store, "dog") == ["dog"]
    assert [text.text for text in store.read("n", ListTexts(MODEL))] == ["k\ncat", "cat"]
    assert embed(store) == 2
    assert near(store, "dog") == ["dog"]
    assert near(store, "cat") == ["cat", "cat"]


def test_counted_bytes_are_stored(store, postgres):
    drawn = random.Random(5)
    vectors = (Vector(vector("dog"), "k", 1), Vector(vector("dog"), "k", 7))
    assert store.write("n", [put("k", "dog"), SetVectors(MODEL, vectors[:1]), put("l", "dog")]) == [1, 1, 2]
    assert store.write("o", [put("k", "dog"), SetVectors(MODEL, vectors[:1]), Delete("k"), put("k", 1)]) == [
        1,
        1,
        True,
        3,
    ]
    assert counted(postgres) == (20, 20)
    for turn in range(30):
        operations = [
            [put("k", turn), put(f"x/{turn}", "dog"), put("short", "dog", ttl=0.001)],
            [Append(drawn.choice("st"), messages_of("dog", "cat"))],
            [Append("s", messages_of("cat")), Pop("s", drawn.randint(0, 3)), Delete(f"x/{turn - 3}")],
            [Clear("x/"), Forget("t"), Append("t", messages_of("dog"))],
        ]
        store.write("n", drawn.choice(operations))
        if drawn.random() < 0.5:
            embed(store, model=drawn.choice(["a", "b"]))
        said, there = counted(postgres)
        assert said == there
    assert embed(store) > 0
    assert store.read("n", GetUsage()).bytes > counted(postgres)[1] > 0
    store.set_index("n", on=False)
    assert counted(postgres) == (0, 0)
    with pytest.raises(InvalidArgument, match="index is off"):
        store.write("n", [SetVectors(MODEL, ())])


def test_vectors_count_for_the_plan(postgres):
    store = PostgresStore(postgres, plans=Plans("t", {"t": Plan(max_bytes=60)}))
    store.write("n", [put("k", "dog"), put("l", "cat")])  # 12 bytes; a vector has 20
    assert embed(store) == 2
    with pytest.raises(StorageExceeded, match="52 are in use"):
        store.write("n", [put("m", "dog and cat")])
    store.write("n", [put("k", "cat")])  # this deletes its vector
    store.write("n", [put("m", "dog and cat")])
    with pytest.raises(StorageExceeded, match="46 are in use"):
        embed(store)
    assert store.read("n", GetUsage()).bytes == 46
    store.close()


def test_a_copy_has_no_vectors(store, postgres):
    """From a file and back: vectors are made again, and the vector of a replaced value is deleted."""
    file, other = SqliteStore(":memory:"), SqliteStore(":memory:")
    file.write("n", [put("k", "dog"), put("l", "cat"), Append("s", messages_of("dog", "cat"))])
    store.write("n", [put("k", "cat"), put("gone", "cat"), put("l", "cat")])
    for one in file, store:
        embed(one)
    copy(file, store, namespaces=["n"], replace=True)
    assert [text.text for text in store.read("n", ListTexts(MODEL))] == ["k\ndog", "dog", "cat"]
    assert near(store, "cat") == ["cat"]
    assert counted(postgres) == (20, 20)
    assert embed(store) == 3
    assert sorted(near(store, "dog")) == sorted(near(file, "dog")) == ["dog", "dog"]
    copy(store, other, namespaces=["n"])
    assert len(other.read("n", ListTexts(MODEL))) == 4
    file.close()
    other.close()


def test_both_engines_find_the_same(store, postgres):
    """By meaning and by both, with vectors as long as those of a small model, which are returned unchanged."""
    file = SqliteStore(":memory:")
    drawn = random.Random(7)
    words = [f"w{number}" for number in range(30)]

    def draw():
        return vectors_of([[drawn.gauss(0, 1) * 10 ** drawn.randint(-2, 2) for _ in range(384)]], 1)[0]

    for number in range(12):
        new = tuple(NewMessage(new_id(), f'"{" ".join(drawn.choices(words, k=5))}"') for _ in range(10))
        for one in store, file:
            one.write("n", [Append("s", new), Put(f"k{number}", f'"{number} {words[number]}"')])
    vectors = {}
    for one in store, file:
        texts = one.read("n", ListTexts("m"))
        for text in texts:
            vectors.setdefault((text.key, text.id), draw())
        given = tuple(
            Vector(vectors[text.key, text.id], text.key, text.version, text.session, text.id) for text in texts[::2]
        )
        assert one.write("n", [SetVectors("m", given)]) == [66]
    with psycopg.connect(postgres) as connection:
        kept = connection.execute("SELECT vector::real[] FROM botwire.message_vectors").fetchall()
    assert {array("f", numbers).tobytes() for (numbers,) in kept} < set(vectors.values())
    for by_words in (False, True) * 4:
        asked = Search(text=" ".join(drawn.sample(words, 2)), vector=draw(), model="m", words=by_words, limit=200)
        here, there = (
            {hit.entry.key if hit.entry else hit.message.seq: hit.score for hit in one.read("n", asked)}
            for one in (store, file)
        )
        assert here == pytest.approx(there, abs=1e-5)
        assert len(here) >= 66
    file.close()
