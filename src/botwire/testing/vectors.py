"""The contract of vectors as a test class, for stores with vectors.

Use it like `botwire.testing.StoreContract`: provide a fixture ``store``. Needs pytest and hypothesis.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ..errors import InvalidArgument, InvalidName
from ..limits import check_name
from ..operations import Append, Clear, Delete, Forget, Increment, NewMessage, Pop, SetVectors, Vector
from ..queries import GetUsage, ListTexts, Search
from ..records import Hit, Text
from ..search.embedding import vectors_of
from ..store import Store
from ..timestamps import new_id, now
from .search import ODD_TEXTS, any_text, said
from .strategies import messages_of, put

MODEL = "animals and colours"
_MEANINGS = ("dog puppy hound", "cat kitten", "red crimson", "blue azure")


def vector(text: str) -> bytes:
    """Return a vector in which words of the same meaning have the same dimension."""
    counts = [sum(word in text for word in words.split()) for words in _MEANINGS]
    return vectors_of([[*counts, 0.1]], 1)[0]


def embed(store: Store, namespace: str = "n", model: str = MODEL) -> int:
    """Make vectors for all texts without one; returns their number."""
    kept, after = 0, ""
    while texts := store.read(namespace, ListTexts(model, after, 3)):
        (count,) = store.write(namespace, [SetVectors(model, tuple(map(vector_of, texts)))])
        assert isinstance(count, int)
        kept += count
        after = texts[-1].place
    return kept


def vector_of(text: Text) -> Vector:
    """Return the vector for a text."""
    return Vector(vector(text.text), text.key, text.version, text.session, text.id)


class VectorContract:
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    examples = 10
    steps = 30

    def find(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Hit]:
        """Search, by default by meaning only."""
        asked = Search(text=text, vector=vector(text), model=MODEL, words=False, neighbours=0, limit=1000)
        return store.read(namespace, msgspec.structs.replace(asked, **options))

    def near(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Any]:
        """Return the values of the texts with a similar meaning."""
        return said([hit for hit in self.find(store, text, namespace, **options) if hit.score > 0.5])

    def test_found_by_meaning(self, store: Store) -> None:
        store.write("n", [put("pet", "a puppy"), put("hue", {"hue": "crimson"}), put("raw", b"dog"), put("number", 7)])
        store.write(
            "n", [Append("s", messages_of("the hound", ["kitten"], 3)), Append("t", messages_of("azure hound"))]
        )
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

    def test_filters(self, store: Store) -> None:
        store.write("n", [put("a/1", {"is": "dog", "n": 1}), put("b/1", {"is": "dog", "n": 2})])
        time.sleep(0.002)
        between = now()
        store.write("n", [Append("s", messages_of(["dog", "s"])), Append("t", messages_of(["dog", "t"]))])
        embed(store)
        assert self.near(store, "dog", prefix="a/", messages=False) == [{"is": "dog", "n": 1}]
        assert self.near(store, "dog", session="t", entries=False) == [["dog", "t"]]
        assert self.near(store, "dog", session="none", entries=False) == []
        assert len(self.near(store, "dog", session="t", prefix="a/")) == 2
        assert len(self.near(store, "dog", entries=False)) == 2
        assert len(self.near(store, "dog", since=between)) == 2
        assert len(self.near(store, "dog", until=between)) == 2
        assert self.near(store, "dog", where={"n": 2}) == [{"is": "dog", "n": 2}]
        assert self.near(store, "dog", where={"0": "dog", "1": "s"}) == [["dog", "s"]]

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

        settings(max_examples=self.examples, deadline=None)(given(any_text)(ask))()
        for text in (*ODD_TEXTS, " ".join(f"word{number}" for number in range(10_000))):
            ask(text)

    def test_old_is_worth_less_if_wanted(self, store: Store) -> None:
        store.write("n", [put("k", "dog")])
        time.sleep(0.1)
        store.write("n", [put("l", "dog and cat")])
        embed(store)
        assert said(self.find(store, "dog")) == ["dog", "dog and cat"]
        assert said(self.find(store, "dog", half_life=0.02)) == ["dog and cat", "dog"]

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

    def test_of_what_has_changed_meanwhile(self, store: Store) -> None:
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
        store.write("n", [put("stays", "cat")])
        embed(store)
        begun = store.read("n", GetUsage()).bytes
        store.write("n", [put(key, "dog") for key in ("k", "l", "m/1", "m/2")])
        store.write("n", [put("number", "dog"), put("t", "dog", ttl=3.0)])
        expiry = time.monotonic() + 3.05
        store.write("n", [Append("s", messages_of(*["dog"] * 3)), Append("t", messages_of(*["dog"] * 3))])
        stored = store.read("n", GetUsage()).bytes
        assert embed(store) == 12
        assert store.read("n", GetUsage()).bytes == stored + 12 * len(vector(""))
        assert len(self.near(store, "dog")) == 12
        store.write(
            "n", [put("k", "cat"), put("number", 1), Increment("number"), Delete("l"), Clear("m/"), Pop("s", 1)]
        )
        store.write("n", [Forget("t"), Append("t", messages_of("cat"))])
        time.sleep(max(0.0, expiry - time.monotonic()))
        assert self.near(store, "dog") == ["dog", "dog"]
        assert embed(store) == 2
        assert self.near(store, "dog") == ["dog", "dog"]
        store.write("n", [Forget("s"), Forget("t"), Delete("k"), Delete("number")])
        assert self.near(store, "dog") == []
        assert self.near(store, "cat") == ["cat"]
        assert store.read("n", GetUsage()).bytes == begun

    def test_gone_while_others_embed(self, store: Store) -> None:
        """Deleted data is never found again, with concurrent embedding."""
        done = threading.Event()

        def keep_embedding() -> None:
            while not done.is_set():
                embed(store)

        def work(worker: int) -> None:
            session = f"s{worker}"
            for number in range(15):
                kind = _MEANINGS[worker].split()[number % 2]
                store.write("n", [put(f"k{worker}", kind), Append(session, messages_of(kind))])
                embed(store)
                assert len(self.near(store, kind)) == 2
                store.write(
                    "n", [Delete(f"k{worker}") if number % 2 else put(f"k{worker}", "nothing"), Pop(session, 1)]
                )
                assert self.near(store, kind) == []

        with ThreadPoolExecutor(4) as threads:
            embedding = threads.submit(keep_embedding)
            try:
                list(threads.map(work, range(3)))
            finally:
                done.set()
            embedding.result()

    def test_expiring_while_others_search(self, store: Store) -> None:
        for number in range(30):
            store.write("n", [put(f"k{number % 3}", f"dog {number}", ttl=0.01), put("other", number)])
            embed(store)
            before = now()
            for hit in self.find(store, "dog"):
                assert hit.entry is not None
                assert hit.entry.expires is not None
                assert hit.entry.expires > before

    def test_model(self, store: Store) -> None:
        """A search finds what was embedded and still exists."""
        run_state_machine_as_test(
            _model_of(store, self),
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=self.steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def refuses_vectors(store: Store) -> None:
    """Check that a store without vectors reports it."""
    with pytest.raises(InvalidArgument, match="vectors"):
        store.read("n", ListTexts(MODEL))
    with pytest.raises(InvalidArgument, match="vectors"):
        store.read("n", Search(text="dog", vector=vector("dog"), model=MODEL))
    with pytest.raises(InvalidArgument, match="vectors"):
        store.write("n", [put("k", "dog"), SetVectors(MODEL, (Vector(vector("dog"), "k", 1),))])
    with pytest.raises(InvalidArgument, match="vectors"):
        store.write("n", [SetVectors(MODEL, ())])


def _model_of(store: Store, contract: VectorContract) -> type[RuleBasedStateMachine]:
    texts = st.sampled_from([words.split()[0] for words in _MEANINGS])
    keys = st.sampled_from(["a", "a/b", "c"])
    sessions = st.sampled_from(["s", "t"])

    class Model(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.entries: dict[str, tuple[str, bool]] = {}
            self.logs: dict[str, list[tuple[str, bool]]] = {}

        def write(self, *operations: Any) -> None:
            store.write(self.namespace, operations)

        @rule(key=keys, text=texts)
        def put(self, key: str, text: str) -> None:
            self.write(put(key, text))
            self.entries[key] = text, False

        @rule(key=keys)
        def delete(self, key: str) -> None:
            self.write(Delete(key))
            self.entries.pop(key, None)

        @rule(key=keys)
        def clear(self, key: str) -> None:
            self.write(Clear(key))
            self.entries = {other: held for other, held in self.entries.items() if not other.startswith(key)}

        @rule(session=sessions, some=st.lists(texts, max_size=3))
        def append(self, session: str, some: list[str]) -> None:
            self.write(Append(session, messages_of(*some)))
            self.logs.setdefault(session, []).extend((text, False) for text in some)

        @rule(session=sessions, count=st.integers(0, 4))
        def pop(self, session: str, count: int) -> None:
            self.write(Pop(session, count))
            log = self.logs.get(session, [])
            del log[max(len(log) - count, 0) :]

        @rule(session=sessions)
        def forget(self, session: str) -> None:
            self.write(Forget(session))
            self.logs.pop(session, None)

        @rule()
        def embed(self) -> None:
            missing = sum(not embedded for _, embedded in self.held)
            assert embed(store, self.namespace) == missing
            self.entries = {key: (text, True) for key, (text, _) in self.entries.items()}
            self.logs = {session: [(text, True) for text, _ in log] for session, log in self.logs.items()}

        @property
        def held(self) -> list[tuple[str, bool]]:
            return [*self.entries.values(), *(item for log in self.logs.values() for item in log)]

        @invariant()
        def same(self) -> None:
            for words in _MEANINGS[:2]:
                text = words.split()[0]
                wanted = [text for held, embedded in self.held if held == text and embedded]
                assert contract.near(store, text, self.namespace) == wanted

    return Model
