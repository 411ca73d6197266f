"""The contract of search as a test class, for stores with search.

Use it like `botwire.testing.StoreContract`: provide a fixture ``store``. Needs pytest and hypothesis.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ..errors import Conflict
from ..operations import Append, Clear, Delete, Forget, Increment, NewMessage, Pop
from ..queries import Search
from ..records import Hit
from ..store import Store
from ..timestamps import new_id, now
from ..values import encode_json
from .strategies import messages_of, put

MANY = 150
"""More texts than a store may leave unindexed."""

ODD_TEXTS = (
    "", " ", '"', '"near" OR', "* ^ NEAR(a b) {x}: -", "1_b", "\0", "'; DROP TABLE texts; --", "[1,2]", "{1,NULL}", "🤖" * 99,
)  # fmt: skip
"""Texts with a special meaning in a database query language."""
any_text = (st.text() | st.text("\"*^(){}:+-_~$. 'abAND OR NEAR", max_size=30)).map(
    lambda text: text.encode("utf-8", "ignore").decode()
)
_WORDS = ("apple", "bicycle", "cloud", "drum", "engine")


def said(hits: list[Hit]) -> list[Any]:
    """Return the values and data of hits."""
    return [hit.value for hit in hits]


class SearchContract:
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    examples = 20
    steps = 40

    def find(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Hit]:
        """Search, by default without neighbouring messages."""
        return store.read(namespace, Search(text=text, **{"neighbours": 0, "limit": 1000, **options}))

    def fill(self, store: Store, namespace: str = "n") -> None:
        """Write enough other texts that everything before is indexed."""
        store.write(namespace, [Append("fill", messages_of(*(f"nothing {number}" for number in range(MANY))))])

    # Matches

    def test_entries_and_messages(self, store: Store) -> None:
        new = messages_of({"role": "user", "content": "Where is my blue bicycle?"}, ["In the garage"], 7)
        store.write("n", [put("user/1/colour", {"favourite": "blue"}), Append("s", new), put("raw", b"blue bytes")])
        for _ in range(2):
            entry, message = sorted(self.find(store, "blue"), key=lambda hit: hit.entry is None)
            assert entry.entry is not None
            assert (entry.entry.key, entry.value, entry.message, entry.session) == (
                "user/1/colour",
                {"favourite": "blue"},
                None,
                None,
            )
            assert message.message is not None
            assert (message.session, message.message.seq, message.message.id) == ("s", 1, new[0].id)
            assert message.snippet == "Where is my blue bicycle?"
            assert said(self.find(store, "colours")) == [{"favourite": "blue"}]
            assert said(self.find(store, "garage")) == [["In the garage"]]
            assert self.find(store, "bytes") == []
            assert said(self.find(store, "user role")) == [entry.value]
            assert self.find(store, "blue", "other") == []
            self.fill(store)

    def test_the_best_comes_first(self, store: Store) -> None:
        store.write(
            "n", [Append("s", messages_of("a dog and a cat", "a dog", "a cat and a dog and a whale", "a bird"))]
        )
        for _ in range(2):
            hits = self.find(store, "Is there a whale with a dog?")
            assert said(hits) == ["a cat and a dog and a whale", "a dog", "a dog and a cat"]
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert said(self.find(store, "Is there a whale with a dog?", limit=1)) == ["a cat and a dog and a whale"]
            assert self.find(store, "dog", limit=0) == []
            self.fill(store)

    def test_forms_of_words_and_scripts(self, store: Store) -> None:
        texts = {
            "Zoë's CAFÉ opened": ["zoe", "cafes", "Opening", "café"],
            "私は猫が好きです": ["猫", "好き"],
            "ฉันชอบแมว": ["แมว"],
            "Кошка спит": ["кошка"],
            "Ｆｕｌｌ ｗｉｄｔｈ": ["full"],
            "🤖 beeps": ["🤖", "beep"],
            "don't panic": ["PANIC!"],
            "हिन्दी पाठ": ["हिन्दी"],
        }
        store.write("n", [Append("s", messages_of(*texts))])
        for _ in range(2):
            for text, questions in texts.items():
                for question in questions:
                    assert text in said(self.find(store, question)), question
            self.fill(store)

    def test_neighbours(self, store: Store) -> None:
        talk = ["So far.", "Where did you park?", "Next to the mill.", "Thanks.", "Bye.", "Bye!"]
        store.write(
            "n",
            [
                Append("before", messages_of("x")),
                Append("s", messages_of(*talk)),
                put("k", "mill"),
                put("l", "y"),
                put("m", "z"),
            ],
        )
        for _ in range(2):
            hits = self.find(store, "where did you park", neighbours=1)
            assert said(hits)[0] == talk[1]
            assert set(said(hits)[1:]) == {talk[0], talk[2]}
            assert len(self.find(store, "park", neighbours=2)) == 4
            assert said(self.find(store, "park mill", neighbours=1, messages=False)) == ["mill"]
            assert said(self.find(store, "y", neighbours=2)) == ["y"]
            self.fill(store)

    def test_filters(self, store: Store) -> None:
        store.write("n", [put("a/1", {"w": "blue", "n": 1}), put("b/1", {"w": "blue", "n": True})])
        time.sleep(0.002)
        between = now()
        time.sleep(0.002)
        store.write("n", [Append("s", messages_of(["blue", {"n": [0, 1.0]}])), Append("t", messages_of("blue"))])
        for _ in range(2):
            keys = {hit.entry.key for hit in self.find(store, "blue", prefix="a/", messages=False) if hit.entry}
            assert keys == {"a/1"}
            assert said(self.find(store, "blue", session="t", entries=False)) == ["blue"]
            assert self.find(store, "blue", session="none", entries=False) == []
            assert len(self.find(store, "blue", session="t", prefix="a/")) == 2
            assert len(self.find(store, "blue", since=between)) == 2
            assert len(self.find(store, "blue", until=between)) == 2
            assert said(self.find(store, "blue", where={"n": 1})) == [{"w": "blue", "n": 1}]
            assert said(self.find(store, "blue", where={"1.n.1": 1})) == [["blue", {"n": [0, 1.0]}]]
            for path in ("x", "n.x", "1.n.9", "", ".", "$.n", "'; DROP TABLE entries; --", "9" * 5000):
                assert self.find(store, "blue", where={path: 1}) == []
            self.fill(store)
        store.write("n", [put(f"c/{number}", f"blue {number}") for number in range(300)])
        assert {hit.entry.key for hit in self.find(store, "blue", prefix="b/") if hit.entry} == {"b/1"}
        assert said(self.find(store, "blue", where={"n": True})) == [{"w": "blue", "n": True}]

    def test_old_is_worth_less_if_wanted(self, store: Store) -> None:
        store.write("n", [put("k", "dog dog")])
        time.sleep(0.1)
        store.write("n", [put("l", "a dog that walks")])
        assert said(self.find(store, "dog")) == ["dog dog", "a dog that walks"]
        assert said(self.find(store, "dog", half_life=0.01)) == ["a dog that walks", "dog dog"]

    def test_any_text_is_a_question(self, store: Store) -> None:
        store.write("n", [put("k", "every near or and not star"), Append("s", messages_of("a 1_b x"))])
        self.fill(store)

        @settings(max_examples=4 * self.examples, deadline=None)
        @given(any_text)
        def check(text: str) -> None:
            self.find(store, text)

        check()
        for text in ODD_TEXTS:
            self.find(store, text)
        long = " ".join(f"word{number}" for number in range(10_000))
        assert self.find(store, long) == []
        assert said(self.find(store, "star " + long)) == ["every near or and not star"]
        assert len(self.find(store, "and or not")) == 1

    def test_a_long_text(self, store: Store) -> None:
        text = "beginning " + "lorem ipsum " * 4000 + "middle"
        store.write("n", [Append("s", messages_of(text, "x" * 100_000))])
        (hit,) = self.find(store, "middle beginning")
        assert hit.value == text
        assert hit.snippet.startswith("beginning lorem")
        assert len(hit.snippet) <= 250

    # Deleted data

    def test_what_is_gone_is_not_found(self, store: Store) -> None:
        for _ in range(2):
            new = messages_of("old one", "old two", "old three")
            store.write("n", [put("k", "old"), put("l", "old"), put("m/1", "old"), put("t", "old", ttl=0.05)])
            store.write("n", [Append("s", new), Append("t", messages_of("old"))])
            self.fill(store)
            assert {"k", "l", "m/1"} <= {hit.entry.key for hit in self.find(store, "old") if hit.entry}
            store.write("n", [put("k", "new"), Delete("l"), Clear("m/"), Pop("s", 1)])
            time.sleep(0.06)
            assert said(self.find(store, "old", entries=False)) == ["old", "old two", "old one"]
            assert self.find(store, "old", messages=False) == []
            store.write("n", [Forget("s"), Append("s", messages_of("new")), Forget("t")])
            assert self.find(store, "old") == []
            assert sorted(said(self.find(store, "new"))) == ["new", "new"]
            self.fill(store)
            assert self.find(store, "old") == []
            assert sorted(said(self.find(store, "new"))) == ["new", "new"]
            store.write("n", [Clear(), Forget("s"), Forget("fill")])

    def test_a_number_in_place_of_a_text(self, store: Store) -> None:
        store.write("n", [put("count", "many")])
        self.fill(store)
        store.write("n", [put("count", 1), Increment("count")])
        assert self.find(store, "many") == []
        self.fill(store)
        assert self.find(store, "many") == []

    def test_a_refused_write_is_not_found(self, store: Store) -> None:
        store.write("n", [put("k", "one")])
        with pytest.raises(Conflict):
            store.write("n", [put("k", "two"), Append("s", messages_of("two")), put("l", 1, if_version=9)])
        self.fill(store)
        assert self.find(store, "two") == []
        assert said(self.find(store, "one")) == ["one"]

    def test_gone_while_others_write(self, store: Store) -> None:
        """Deleted data is never found again, with any concurrent writes."""

        def work(worker: int) -> None:
            for number in range(12):
                word, key = f"w{worker}x{number}", f"key/{worker}/{number}"
                store.write("n", [put(key, word), Append(word, messages_of(word, "filler", word))])
                assert len(self.find(store, word)) == 3
                store.write("n", [Pop(word, 1)])
                assert len(self.find(store, word)) == 2
                store.write("n", [put(key, "other") if number % 2 else Delete(key), Forget(word)])
                assert self.find(store, word) == []
                store.write("n", [put(f"{worker}/{index}", f"filler {index}") for index in range(9)])
            store.write("n", [Clear(f"{worker}/")])
            assert self.find(store, "filler", prefix=f"{worker}/", messages=False) == []

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))

    def test_expiring_while_others_search(self, store: Store) -> None:
        done = threading.Event()

        def read_on() -> None:
            while not done.is_set():
                before = now()
                for hit in self.find(store, "fleeting"):
                    assert hit.entry is not None
                    assert hit.entry.expires is not None
                    assert hit.entry.expires > before

        with ThreadPoolExecutor(2) as threads:
            reading = [threads.submit(read_on) for _ in range(2)]
            try:
                for number in range(60):
                    store.write("n", [put(f"k{number}", f"fleeting {number}", ttl=0.02), put("other", number)])
            finally:
                done.set()
            for future in reading:
                future.result()

    # Random operations, compared with a model

    def test_model(self, store: Store) -> None:
        """A search finds the same as a scan of all data."""
        run_state_machine_as_test(
            _model_of(store, self),
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=self.steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def _model_of(store: Store, contract: SearchContract) -> type[RuleBasedStateMachine]:
    texts = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=3).map(" ".join)
    keys = st.sampled_from(["a", "a/b", "c"])
    sessions = st.sampled_from(["s", "t"])

    class Model(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.entries: dict[str, str] = {}
            self.logs: dict[str, list[NewMessage]] = {}

        def write(self, *operations: Any) -> None:
            store.write(self.namespace, operations)

        @rule(key=keys, text=texts | st.just(""))
        def put(self, key: str, text: str) -> None:
            self.write(put(key, text or 1))
            self.entries[key] = text

        @rule(key=keys)
        def delete(self, key: str) -> None:
            self.write(Delete(key))
            self.entries.pop(key, None)

        @rule(key=keys)
        def clear(self, key: str) -> None:
            self.write(Clear(key))
            self.entries = {other: text for other, text in self.entries.items() if not other.startswith(key)}

        @rule(session=sessions, some=st.lists(texts, max_size=3))
        def append(self, session: str, some: list[str]) -> None:
            new = messages_of(*some)
            self.write(Append(session, new))
            self.logs.setdefault(session, []).extend(new)

        @rule(session=sessions, text=texts)
        def append_many(self, session: str, text: str) -> None:
            new = messages_of(*[text] * 40)
            self.write(Append(session, new))
            self.logs.setdefault(session, []).extend(new)

        @rule(session=sessions, count=st.integers(0, 30))
        def pop(self, session: str, count: int) -> None:
            self.write(Pop(session, count))
            log = self.logs.get(session, [])
            del log[max(len(log) - count, 0) :]

        @rule(session=sessions)
        def forget(self, session: str) -> None:
            self.write(Forget(session))
            self.logs.pop(session, None)

        @invariant()
        def same(self) -> None:
            for word in _WORDS[:3]:
                hits = contract.find(store, word + "s", self.namespace)
                wanted = {key for key, text in self.entries.items() if word in text}
                stored = encode_json(word)[1:-1]
                held = {item.id for log in self.logs.values() for item in log if stored in item.stored}
                assert {hit.entry.key for hit in hits if hit.entry} == wanted
                assert {hit.message.id for hit in hits if hit.message} == held
                assert len(hits) == len(wanted) + len(held)

    return Model
