"""The contract of vectors as a test class, for stores with vectors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ..errors import InvalidName
from ..limits import check_name
from ..operations import (
    Append,
    Clear,
    Delete,
    Destroy,
    Edit,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Operation,
    Pop,
    SetExpiry,
    SetVectors,
    Vector,
)
from ..queries import GetUsage, ListTexts, Search
from ..records import Hit, Text
from ..search.embedding import vectors_of
from ..store import Store
from .reference import machine_of
from .search import ODD_TEXTS, SOME_KEYS, SOME_SESSIONS, Finding, any_text, said
from .strategies import messages_of, operations_on, put, repeating

MODEL = "animals and colours"
_MEANINGS = ("dog puppy hound", "cat kitten", "red crimson", "blue azure")


def vector(text: str) -> bytes:
    """Return a vector in which words of the same meaning have the same dimension."""
    counts = [sum(word in text for word in words.split()) for words in _MEANINGS]
    return vectors_of([[*counts, 0.1]], 1)[0]


def embed(store: Store, namespace: str = "n", model: str = MODEL) -> int:
    """Make vectors for all texts without one; returns their number."""
    return sum(cast("int", store.write(namespace, [vectors])[0]) for vectors in _missing(store, namespace, model))


def _missing(store: Store, namespace: str, model: str) -> Iterator[SetVectors]:
    after = ""
    while texts := store.read(namespace, ListTexts(model, after, 3)):
        yield SetVectors(model, tuple(map(vector_of, texts)))
        after = texts[-1].place


def vector_of(text: Text) -> Vector:
    """Return the vector for a text."""
    return Vector(vector(text.text), text.key, text.version, text.session, text.id)


class VectorContract(Finding):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    examples = 10
    steps = 30

    def prepare(self, store: Store) -> object:
        return embed(store)

    def find(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Hit]:
        asked = Search(text=text, vector=vector(text), model=MODEL, words=False, neighbours=0, limit=1000)
        return store.read(namespace, msgspec.structs.replace(asked, **options))

    def near(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Any]:
        return said([hit for hit in self.find(store, text, namespace, **options) if hit.score > 0.5])

    def test_found_by_meaning(self, store: Store) -> None:
        store.write("n", [put("pet", "a puppy"), put("hue", {"hue": "crimson"}), put("raw", b"dog"), put("number", 7)])
        store.write("n", [Append("s", messages_of("the hound", ["kitten"], 3))])
        store.write("n", [Append("t", messages_of("azure hound"))])
        assert self.find(store, "dog") == []
        assert embed(store) == 5
        hits = self.find(store, "dog")
        assert sorted(said(hits)[:2]) == ["a puppy", "the hound"]
        assert said(hits)[2] == "azure hound"
        assert len(hits) == 5
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert {(hit.entry.key if hit.entry else hit.session) for hit in hits[:2]} == {"pet", "s"}
        assert hits[0].snippet in {"pet a puppy", "the hound"}
        assert self.near(store, "cat") == [["kitten"]]
        assert self.find(store, "dog", "other") == []
        assert self.find(store, "dog", model="another") == []
        assert self.find(store, "dog", vector=b"\0" * 20) == []
        assert self.find(store, "dog", vector=b"\0" * 4) == []
        assert len(self.find(store, "dog", limit=2)) == 2

    def test_by_words_and_by_meaning(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a puppy", "my dog", "azure sky"))])
        embed(store)
        store.write("n", [Append("s", messages_of("dog food, without a vector yet"))])
        hits = self.find(store, "dog", words=True)
        assert said(hits)[0] == "my dog"
        assert set(said(hits)) == {"my dog", "a puppy", "dog food, without a vector yet", "azure sky"}
        assert hits[-1].value == "azure sky"

    def test_any_text_is_a_question(self, store: Store) -> None:
        """By meaning alone, and together with its words: every text with a vector is among the hits."""
        store.write("n", [put("k", "every near or and not star"), Append("s", messages_of("a 1_b x"))])
        assert embed(store) == 2

        def ask(text: str) -> None:
            for words in (False, True):
                assert len(self.find(store, text, words=words)) == 2, (text, words)
            assert self.find(store, text, where={text: text}) == []
            with contextlib.suppress(InvalidName):
                name = check_name(text)
                assert self.find(store, "dog", model=name) == []
                assert len(self.find(store, name, session=name, prefix=name)) <= 1
                assert all(item.key is None or item.key > name for item in store.read("n", ListTexts(name, f"e{name}")))

        self.for_all(any_text, ask)
        for text in (*ODD_TEXTS, " ".join(f"word{number}" for number in range(400))):
            ask(text)

    def test_texts_without_vectors(self, store: Store) -> None:
        new = messages_of("first", "second")
        versions = store.write("n", [put("k", "one"), put("l", "two"), Append("s", new)])
        texts = store.read("n", ListTexts(MODEL))
        assert [(text.text, text.key, text.version, text.session, text.id) for text in texts[:2]] == [
            ("k\none", "k", versions[0], None, None),
            ("l\ntwo", "l", versions[1], None, None),
        ]
        assert [(text.text, text.key, text.session, text.id) for text in texts[2:]] == [
            ("first", None, "s", new[0].id),
            ("second", None, "s", new[1].id),
        ]
        for index, text in enumerate(texts):
            assert store.read("n", ListTexts(MODEL, text.place)) == texts[index + 1 :]
        assert store.read("n", ListTexts(MODEL, "", 3)) == texts[:3]
        assert store.read("other", ListTexts(MODEL)) == []
        twice = (vector_of(texts[0]), vector_of(texts[2])) * 2
        assert store.write("n", [SetVectors(MODEL, twice)]) == [2]
        assert store.read("n", ListTexts(MODEL)) == [texts[1], texts[3]]
        assert store.read("n", ListTexts("another")) == texts
        assert embed(store, model="another") == 4
        assert store.read("n", ListTexts(MODEL)) == texts
        assert self.find(store, "first") == []

    def test_vectors_of_changed_texts_are_not_stored(self, store: Store) -> None:
        new = messages_of("dog", "dog", "dog")
        store.write("n", [put("k", "dog"), put("l", "dog"), Append("s", new), Append("t", messages_of("dog"))])
        texts = store.read("n", ListTexts(MODEL))
        vectors = tuple(map(vector_of, texts))
        time.sleep(0.002)
        again = NewMessage(new[1].id, '"cat"')
        store.write("n", [put("k", "cat"), Delete("l"), Pop("s", 2), Forget("t"), Append("s", (again,))])
        assert store.write("n", [SetVectors(MODEL, vectors)]) == [1]
        assert said(self.find(store, "dog")) == ["dog"]
        assert store.write("other", [SetVectors(MODEL, vectors)]) == [0]
        assert self.find(store, "dog", "other") == []
        assert embed(store) == 2

    def test_a_vector_goes_with_its_text(self, store: Store) -> None:
        for ttl in (0.3, 3.0, 30.0):  # on a busy machine, the entry may expire before its vector was found
            namespace = f"n{ttl}"
            store.write(namespace, [put("stays", "cat")])
            embed(store, namespace)
            begun = store.read(namespace, GetUsage()).bytes
            store.write(namespace, [put(key, "dog") for key in ("k", "l", "m/1", "m/2")])
            expiry = time.monotonic() + ttl
            store.write(namespace, [put("number", "dog"), put("t", "dog", ttl=ttl)])
            store.write(namespace, [Append(name, messages_of(*["dog"] * 3)) for name in ("s", "t")])
            stored = store.read(namespace, GetUsage()).bytes
            found = embed(store, namespace), len(self.near(store, "dog", namespace))
            bytes_ = store.read(namespace, GetUsage()).bytes
            if time.monotonic() < expiry:
                break
        assert found == (12, 12)
        assert bytes_ == stored + 12 * len(vector(""))
        store.write(namespace, [put("k", "cat"), put("number", 1), Increment("number"), Delete("l"), Clear("m/")])
        store.write(namespace, [Pop("s", 1), Forget("t"), Append("t", messages_of("cat"))])
        time.sleep(max(0.0, expiry + 0.05 - time.monotonic()))
        assert self.near(store, "dog", namespace) == ["dog", "dog"]
        assert embed(store, namespace) == 2
        assert self.near(store, "dog", namespace) == ["dog", "dog"]
        store.write(namespace, [Forget("s"), Forget("t"), Delete("k"), Delete("number")])
        assert self.near(store, "dog", namespace) == []
        assert self.near(store, "cat", namespace) == ["cat"]
        assert store.read(namespace, GetUsage()).bytes == begun

    def test_an_edited_text_has_no_vector(self, store: Store) -> None:
        """A vector of the old text is neither kept nor stored later."""
        store.write("n", [Append("s", messages_of("dog", "dog", "dog", "dog"))])
        texts = store.read("n", ListTexts(MODEL))
        assert embed(store) == 4
        before = store.read("n", GetUsage()).bytes
        store.write("n", [Edit("s", 1, '"cat"'), Edit("s", 2, '"xxx"', redacted=""), Edit("s", 3, '"dog"')])
        assert self.near(store, "dog") == ["dog"]
        assert self.near(store, "cat") == []
        assert store.read("n", GetUsage()).bytes == before - 3 * len(vector(""))
        assert [text.text for text in store.read("n", ListTexts(MODEL))] == ["cat", "xxx", "dog"]
        assert store.write("n", [SetVectors(MODEL, tuple(map(vector_of, texts)))]) == [1]
        assert self.near(store, "dog") == ["dog"]
        assert embed(store) == 3
        assert self.near(store, "cat") == ["cat"]
        assert self.near(store, "dog") == ["dog", "dog"]
        assert store.read("n", GetUsage()).bytes == before

    def test_forks_and_expired_sessions(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("dog", "cat", "dog"))])
        embed(store)
        store.write("n", [Fork("s", "t", 2)])
        embed(store)
        assert self.near(store, "dog", session="t", entries=False) == ["dog"]
        assert self.near(store, "dog") == ["dog"] * 3
        store.write("n", [SetExpiry("s", 0.03)])
        time.sleep(0.05)
        assert self.near(store, "dog") == ["dog"]
        assert store.read("n", ListTexts(MODEL)) == []
        store.write("n", [Append("s", messages_of("cat"))])
        assert embed(store) == 1
        assert self.near(store, "cat") == ["cat", "cat"]
        store.write("n", [Destroy()])
        assert store.read("n", GetUsage()).bytes == 0
        assert self.near(store, "cat") == []

    def test_deleted_data_is_not_found_while_others_embed(self, store: Store) -> None:
        def work(worker: int) -> None:
            session = f"s{worker}"
            for number in range(15):
                kind = _MEANINGS[worker].split()[number % 2]
                store.write("n", [put(f"k{worker}", kind), Append(session, messages_of(kind))])
                embed(store)
                assert len(self.near(store, kind)) == 2
                change = Delete(f"k{worker}") if number % 2 else put(f"k{worker}", "nothing")
                store.write("n", [change, Pop(session, 1)])
                assert self.near(store, kind) == []

        with repeating(lambda: embed(store), 1), ThreadPoolExecutor(3) as threads:
            list(threads.map(work, range(3)))

    def test_model(self, store: Store) -> None:
        self.run(_machine_of(store, self))


def _machine_of(store: Store, contract: VectorContract) -> type[RuleBasedStateMachine]:
    texts = st.sampled_from([words.split()[0] for words in _MEANINGS])

    operations = operations_on(SOME_KEYS, SOME_SESSIONS, texts, st.lists(texts, max_size=3))
    others = operations.filter(lambda operation: not isinstance(operation, Fork))

    class Machine(machine_of(store, others)):  # type: ignore[misc]
        @rule(operation=operations)
        def write_any(self, operation: Operation) -> None:
            self.write(operation)
            if isinstance(operation, Fork):  # it may have the vectors already
                self.embed()

        @rule()
        def embed(self) -> None:
            for vectors in _missing(store, self.namespace, MODEL):
                self.write(vectors)
            texts = {place for place, held in self.reference.texts.items() if isinstance(held, str)}
            assert self.reference.embedded == texts

        @invariant()
        def same(self) -> None:
            reference = self.reference
            for words in _MEANINGS[:2]:
                text = words.split()[0]
                wanted = [one for place, one in reference.texts.items() if one == text and place in reference.embedded]
                assert contract.near(store, text, self.namespace) == wanted

    return Machine
