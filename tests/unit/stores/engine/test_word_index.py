"""How much of the word index one transaction changes, in both databases."""

from __future__ import annotations

import asyncio
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


@pytest.fixture
def steps(monkeypatch, indexed):
    """How many texts, and characters, each transaction indexes of the list."""
    done = []
    index_pending = word_index.index_pending

    def counted(*arguments):
        begun = len(indexed)
        left = index_pending(*arguments)
        new = indexed[begun:]
        if new:
            done.append((len(new), sum(new)))
        return left

    monkeypatch.setattr(word_index, "index_pending", counted)
    return done


class Steps:
    def test_a_write_indexes_some_of_what_others_left(self, store, indexed, steps):
        """Documents fill the list. The write that finds it full may hold the lock of the database, or be on an event loop."""
        begin_index(store)
        indexed.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(word_index, "LARGE", word_index.STEP_BYTES)  # so that nothing is indexed for its size
            for number in range(90):
                store.write("n", [put(f"k{number}", f"word{number} " + "text " * 5_000)])
        assert not indexed
        for number in range(30):
            store.write("n", [put(f"small{number}", "small")])
        assert len(steps) > 3
        assert all(0 < chars <= word_index.STEP_BYTES + 26_000 for _, chars in steps)
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

    @pytest.mark.parametrize("awaited", [False, True])
    def test_a_large_write_is_indexed_in_steps(self, store, steps, awaited):
        """Between them others write. When it returns, a search finds everything indexed."""
        begin_index(store)
        texts = [f"word{number} {'text ' * 150}" for number in range(1_200)]
        operations = [append("s", texts), *(put(f"k{number}", f"word{number}") for number in range(1_200))]
        if awaited:
            asyncio.run(store.to_async().write("n", operations))
        else:
            store.write("n", operations)
        assert sum(count for count, _ in steps) == 2_400
        assert all(count <= 2 * word_index.STEP for count, _ in steps)
        assert all(chars <= word_index.STEP_BYTES + word_index.LARGE for _, chars in steps)
        assert not store._state("n").pending
        assert find(store, "word1199") == ["k1199", texts[1199]]

    def test_what_is_popped_before_it_was_indexed(self, store, monkeypatch):
        monkeypatch.setattr(store, "catch_up", lambda: None)
        begin_index(store)
        texts = [f"word{number} {'text ' * 300}" for number in range(600)]
        store.write("n", [append("s", texts)])
        assert store._state("n").pending
        store.write("n", [Pop("s", 10), append("s", ["popped"] * 5)])
        assert find(store, "word589") == [texts[589]]
        assert find(store, "word590") == []
        assert find(store, "popped") == ["popped"] * 5
        assert not store._state("n").pending

    def test_neither_kind_waits_for_the_other(self, store, indexed, monkeypatch):
        monkeypatch.setattr(store, "catch_up", lambda: None)
        begin_index(store)
        indexed.clear()
        store.write("n", [put(f"k{number}", f"word{number}") for number in range(2_000)])
        assert len(indexed) == word_index.STEP
        store.write("n", [append("s", ["hello"])])
        assert len(indexed) == 2 * word_index.STEP + 1
        assert find(store, "word1999") == ["k1999"]
        assert len(indexed) == 2_001

    def test_the_list_has_an_end(self, store, monkeypatch):
        """Who writes faster than the index follows, waits for it."""
        monkeypatch.setattr(store, "catch_up", lambda: None)
        monkeypatch.setattr(word_index, "LIST_CHARS", 10_000)
        begin_index(store)
        for turn in range(3):
            store.write("n", [put(f"{turn}/{number}", f"word{number}") for number in range(2_000)])
            pending = store._state("n").pending
            assert len(pending) <= 11_000
        assert find(store, "word1999") == [f"{turn}/1999" for turn in range(3)]

    def test_the_first_search_indexes_in_steps(self, store, indexed, monkeypatch):
        for number in range(10):
            store.write("n", [put(f"k{number}", f"word{number} " + "text " * 20_000)])
            store.write("n", [append("s", [f"said{number} " + "text " * 20_000])])
        steps = []
        step = word_index.step

        def counted(tables, state):
            begun = sum(indexed)
            step(tables, state)
            steps.append(sum(indexed) - begun)

        monkeypatch.setattr(word_index, "step", counted)
        assert find(store, "word7") == ["k7"]
        assert len(find(store, "said7")) == 1
        assert len(steps) >= 4
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
