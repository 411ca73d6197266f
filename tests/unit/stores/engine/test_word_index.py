"""How much of the word index one transaction changes, in both databases."""

from __future__ import annotations

import json

import pytest

from botwire.operations import Append, NewMessage, Pop, Put
from botwire.queries import Search
from botwire.stores.engine import word_index
from botwire.timestamps import new_id
from tests.contract.stores import InAFile, InPostgres


def put(key, value):
    return Put(key, json.dumps(value))


def append(session, texts):
    return Append(session, tuple(NewMessage(new_id(), json.dumps(text)) for text in texts))


def find(store, text, **options):
    options = {"neighbours": 0, "limit": 1000, **options}
    return sorted(hit.entry.key if hit.entry else hit.value for hit in store.read("n", Search(text=text, **options)))


def begin_index(store):
    store.write("n", [put("begun", "begun")])
    assert find(store, "begun") == ["begun"]


@pytest.fixture
def indexed(monkeypatch):
    """The characters of each text, as it is indexed."""
    lengths = []
    terms_of = word_index.terms_of
    monkeypatch.setattr(word_index, "terms_of", lambda text: lengths.append(len(text)) or terms_of(text))
    return lengths


class Steps:
    def test_a_write_indexes_some_of_what_others_left(self, store, indexed):
        """Documents fill the list. The write that finds it full may hold the lock of the database, or be on an event loop."""
        begin_index(store)
        indexed.clear()
        most = word_index.STEP_BYTES + 60_000
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(word_index, "LARGE", word_index.STEP_BYTES)  # so that nothing is indexed for its size
            for number in range(90):
                store.write("n", [put(f"k{number}", f"word{number} " + "text " * 10_000)])
        assert not indexed
        for number in range(30):
            store.write("n", [put(f"small{number}", "small")])
            assert sum(indexed) <= most
            indexed.clear()
        assert find(store, "word0") == ["k0"]
        assert find(store, "word89") == ["k89"]
        assert len(find(store, "small")) == 30

    def test_a_large_text_is_indexed_by_its_own_write(self, store, indexed):
        """So no later write, and no search, has to read many of them."""
        begin_index(store)
        indexed.clear()
        for number in range(10):
            store.write("n", [put(f"k{number}", f"word{number} " + "text " * 10_000)])
            store.write("n", [append("s", [f"said{number} " + "text " * 10_000])])
            assert len(indexed) == 2 * (number + 1)
        assert find(store, "text word3") == [f"k{number}" for number in range(10)] + find(store, "text", entries=False)

    def test_a_large_append_is_indexed_in_steps(self, store, indexed):
        begin_index(store)
        indexed.clear()
        texts = [f"word{number} {'text ' * 300}" for number in range(2_000)]
        store.write("n", [append("s", texts)])
        assert 0 < sum(indexed) <= word_index.STEP_BYTES + word_index.LARGE
        store.write("n", [Pop("s", 10), append("s", ["popped"] * 5)])
        store.write("n", [put("k", "small")])
        assert len(indexed) <= 3 * word_index.STEP + 1
        assert find(store, "word1989") == [texts[1989]]
        assert find(store, "word1990") == []
        assert find(store, "popped") == ["popped"] * 5
        assert max(indexed) < 2_000
        assert len(indexed) <= 1_990 + 5 + 2
        assert find(store, "small") == ["k"]

    def test_many_entries_are_indexed_in_steps(self, store, indexed):
        begin_index(store)
        indexed.clear()
        store.write("n", [put(f"k{number}", f"word{number}") for number in range(2_000)])
        assert len(indexed) == word_index.STEP
        store.write("n", [append("s", ["hello"])])  # neither kind waits for the other
        assert len(indexed) == 2 * word_index.STEP + 1
        assert find(store, "word1999") == ["k1999"]
        assert len(indexed) == 2_001

    def test_the_list_has_an_end(self, store, monkeypatch):
        """Who writes faster than the index follows, waits for it."""
        monkeypatch.setattr(word_index, "LIST_CHARS", 10_000)
        begin_index(store)
        for turn in range(4):
            store.write("n", [put(f"{turn}/{number}", f"word{number}") for number in range(3_000)])
            pending = store._state("n").pending
            assert len(pending) <= 11_000
        assert find(store, "word2999") == [f"{turn}/2999" for turn in range(4)]

    def test_the_first_search_indexes_in_steps(self, store, indexed, monkeypatch):
        for number in range(12):
            store.write("n", [put(f"k{number}", f"word{number} " + "text " * 60_000)])
            store.write("n", [append("s", [f"said{number} " + "text " * 60_000])])
        steps = []
        step = word_index.step

        def counted(tables, state):
            begun = sum(indexed)
            step(tables, state)
            steps.append(sum(indexed) - begun)

        monkeypatch.setattr(word_index, "step", counted)
        assert find(store, "word7") == ["k7"]
        assert len(find(store, "said11")) == 1
        assert len(steps) > 4
        assert max(steps) <= 2 * word_index.STEP_BYTES

    def test_names_that_end_alike_are_not_mistaken(self, store):
        """The list of what is not indexed holds `e` and the key, so ``b`` was taken for the end of ``eb``."""
        begin_index(store)
        for key in ("eb", "b", "em4294967297"):
            store.write("n", [put(key, f"word {key}")])
        store.write("n", [append("s", ["said so"])])
        assert find(store, "word", messages=False) == ["b", "eb", "em4294967297"]
        assert find(store, "said") == ["said so"]


class TestInAFile(InAFile, Steps):
    pass


class TestInPostgres(InPostgres, Steps):
    pass
