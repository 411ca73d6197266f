"""The contract of search as a test class, for stores with search."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from ..errors import Conflict
from ..operations import Append, Clear, Delete, Destroy, Edit, Forget, Fork, Increment, Pop, Replace, Retain
from ..queries import Search
from ..records import Hit
from ..store import Store
from ..timestamps import now
from .reference import machine_of
from .strategies import Generated, messages_of, operations_on, put, repeating

MANY = 150
"""More texts than a store may leave unindexed."""

ODD_TEXTS = (
    "", " ", '"', '"near" OR', "* ^ NEAR(a b) {x}: -", "1_b", "\0", "'; DROP TABLE texts; --", "[1,2]", "{1,NULL}", "🤖" * 99,
)  # fmt: skip
"""Texts with a special meaning in a database query language."""
any_text = (st.text() | st.text("\"*^(){}:+-_~$. 'abAND OR NEAR", max_size=30)).map(
    lambda text: text.encode("utf-8", "ignore").decode()
)
SOME_KEYS = st.sampled_from(["a", "a/b", "c"])
SOME_SESSIONS = st.sampled_from(["s", "t"])
_WORDS = ("apple", "bicycle", "cloud", "drum", "engine")


def said(hits: list[Hit]) -> list[Any]:
    """Return the values and data of hits."""
    return [hit.value for hit in hits]


def keys_of(hits: list[Hit]) -> set[str]:
    """Return the keys of the entries among hits."""
    return {hit.entry.key for hit in hits if hit.entry}


class Finding(Generated):
    """What search by words and search by meaning have in common."""

    def find(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Hit]:
        """Search, by default for any number of hits and without neighbouring messages."""
        raise NotImplementedError

    def near(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Any]:
        """Return the values and data that match a text."""
        return said(self.find(store, text, namespace, **options))

    def prepare(self, store: Store) -> object:
        """Let what was written be found."""

    def fill(self, store: Store, namespace: str = "n") -> None:
        """Write enough other texts that everything before is indexed."""
        store.write(namespace, [Append("fill", messages_of(*(f"nothing {number}" for number in range(MANY))))])

    def test_filters(self, store: Store) -> None:
        first = {"w": "dog", "n": 1}
        store.write("n", [put("a/1", first), put("b/1", {"w": "dog", "n": True})])
        time.sleep(0.002)
        between = now()
        time.sleep(0.002)
        store.write("n", [Append("s", messages_of(["dog", {"n": [0, 1.0]}])), Append("t", messages_of("dog"))])
        self.prepare(store)
        for _ in range(2):
            assert self.near(store, "dog", prefix="a/", messages=False) == [first]
            assert self.near(store, "dog", session="t", entries=False) == ["dog"]
            assert self.near(store, "dog", session="none", entries=False) == []
            for two in ({"session": "t", "prefix": "a/"}, {"entries": False}, {"since": between}, {"until": between}):
                assert len(self.near(store, "dog", **two)) == 2
            assert self.near(store, "dog", where={"n": 1}) == [first]
            assert self.near(store, "dog", where={"w": "dog", "n": True}) == [{"w": "dog", "n": True}]
            assert self.near(store, "dog", where={"0": "dog", "1.n.1": 1}) == [["dog", {"n": [0, 1.0]}]]
            for path in ("x", "n.x", "1.n.9", "", ".", "$.n", "'; DROP TABLE entries; --", "9" * 5000):
                assert self.find(store, "dog", where={path: 1}) == []
            self.fill(store)

    def test_old_is_worth_less_if_wanted(self, store: Store) -> None:
        store.write("n", [put("k", "dog dog")])
        time.sleep(0.1)
        store.write("n", [put("l", "dog and cat")])
        self.prepare(store)
        assert said(self.find(store, "dog")) == ["dog dog", "dog and cat"]
        assert said(self.find(store, "dog", half_life=0.01)) == ["dog and cat", "dog dog"]

    def test_expiring_while_others_search(self, store: Store) -> None:
        def read() -> None:
            self.prepare(store)
            before = now()
            for hit in self.find(store, "dog"):
                assert hit.entry is not None
                assert hit.entry.expires is not None
                assert hit.entry.expires > before

        with repeating(read):
            for number in range(60):
                store.write("n", [put(f"k{number}", f"dog {number}", ttl=0.02), put("other", number)])


class SearchContract(Finding):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    examples = 20

    def find(self, store: Store, text: str, namespace: str = "n", **options: Any) -> list[Hit]:
        return store.read(namespace, Search(text=text, **{"neighbours": 0, "limit": 1000, **options}))

    def test_entries_and_messages(self, store: Store) -> None:
        new = messages_of({"role": "user", "content": "Where is my blue bicycle?"}, ["In the garage"], 7)
        store.write("n", [put("user/1/colour", {"favourite": "blue"}), Append("s", new), put("raw", b"blue bytes")])
        for _ in range(2):
            entry, message = sorted(self.find(store, "blue"), key=lambda hit: hit.entry is None)
            assert entry.entry is not None
            assert (entry.entry.key, entry.value) == ("user/1/colour", {"favourite": "blue"})
            assert (entry.message, entry.session) == (None, None)
            assert message.message is not None
            assert (message.session, message.message.seq, message.message.id) == ("s", 1, new[0].id)
            assert message.snippet == "Where is my blue bicycle?"
            assert self.near(store, "colours") == [{"favourite": "blue"}]
            assert self.near(store, "garage") == [["In the garage"]]
            assert self.find(store, "bytes") == []
            assert self.near(store, "user role") == [entry.value]
            assert self.find(store, "blue", "other") == []
            self.fill(store)

    def test_the_best_comes_first(self, store: Store) -> None:
        best = "a cat and a dog and a whale"
        store.write("n", [Append("s", messages_of("a dog and a cat", "a dog", best, "a bird"))])
        for _ in range(2):
            hits = self.find(store, "Is there a whale with a dog?")
            assert said(hits) == [best, "a dog", "a dog and a cat"]
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert self.near(store, "Is there a whale with a dog?", limit=1) == [best]
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
                    assert text in self.near(store, question), question
            self.fill(store)

    def test_neighbours(self, store: Store) -> None:
        talk = ["So far.", "Where did you park?", "Next to the mill.", "Thanks.", "Bye.", "Bye!"]
        store.write("n", [Append("before", messages_of("x")), Append("s", messages_of(*talk))])
        store.write("n", [put("k", "mill"), put("l", "y"), put("m", "z")])
        for _ in range(2):
            found = self.near(store, "where did you park", neighbours=1)
            assert found[0] == talk[1]
            assert set(found[1:]) == {talk[0], talk[2]}
            assert len(self.find(store, "park", neighbours=2)) == 4
            assert self.near(store, "park mill", neighbours=1, messages=False) == ["mill"]
            assert self.near(store, "y", neighbours=2) == ["y"]
            self.fill(store)

    def test_filters_among_many(self, store: Store) -> None:
        store.write("n", [put("a/1", {"w": "blue", "n": 1}), put("b/1", {"w": "blue", "n": True})])
        store.write("n", [put(f"c/{number}", f"blue {number}") for number in range(300)])
        assert keys_of(self.find(store, "blue", prefix="b/")) == {"b/1"}
        assert self.near(store, "blue", where={"n": True}) == [{"w": "blue", "n": True}]

    def test_any_text_is_a_question(self, store: Store) -> None:
        store.write("n", [put("k", "every near or and not star"), Append("s", messages_of("a 1_b x"))])
        self.fill(store)

        def ask(text: str) -> None:
            self.find(store, text)

        self.for_all(any_text, ask)
        for text in ODD_TEXTS:
            ask(text)
        long = " ".join(f"word{number}" for number in range(800))
        assert self.find(store, long) == []
        assert self.near(store, "star " + long) == ["every near or and not star"]
        assert len(self.find(store, "and or not")) == 1

    def test_a_long_text(self, store: Store) -> None:
        text = "beginning " + "lorem ipsum " * 4000 + "middle"
        store.write("n", [Append("s", messages_of(text, "x" * 100_000))])
        (hit,) = self.find(store, "middle beginning")
        assert hit.value == text
        assert hit.snippet.startswith("beginning lorem")
        assert len(hit.snippet) <= 250

    def test_deleted_data_is_not_found(self, store: Store) -> None:
        for _ in range(2):
            new = messages_of("old one", "old two", "old three")
            store.write("n", [put("k", "old"), put("l", "old"), put("m/1", "old"), put("t", "old", ttl=0.05)])
            store.write("n", [Append("s", new), Append("t", messages_of("old"))])
            self.fill(store)
            assert keys_of(self.find(store, "old")) >= {"k", "l", "m/1"}
            store.write("n", [put("k", "new"), Delete("l"), Clear("m/"), Pop("s", 1)])
            time.sleep(0.06)
            assert self.near(store, "old", entries=False) == ["old", "old two", "old one"]
            assert self.find(store, "old", messages=False) == []
            store.write("n", [Forget("s"), Append("s", messages_of("new")), Forget("t")])
            for fill in (self.fill, lambda _: None):
                assert self.find(store, "old") == []
                assert sorted(self.near(store, "new")) == ["new", "new"]
                fill(store)
            store.write("n", [Clear(), Forget("s"), Forget("fill")])

    def test_edited_data_is_found_by_its_new_words(self, store: Store) -> None:
        """And never by the old ones, whether it was indexed or not."""
        for round_ in range(3):
            name = f"s{round_}"
            store.write(
                "n", [Append(name, messages_of("old dog", "old cat", "old cow")), Append("t", messages_of("x"))]
            )
            if round_ != 1:
                self.fill(store)
            assert len(self.find(store, "old", session=name)) == 3
            store.write("n", [Edit(name, 2, '"new bird"'), Edit(name, 1, '"a secret [redacted]"', redacted="law")])
            for _ in range(2):
                (hit,) = self.find(store, "bird", session=name)
                assert hit.message is not None
                assert (hit.message.seq, hit.value, hit.snippet) == (2, "new bird", "new bird")
                assert self.find(store, "cat dog", session=name) == []
                assert self.near(store, "old", session=name) == ["old cow"]
                assert self.near(store, "redacted", session=name) == ["a secret [redacted]"]
                self.fill(store)
            store.write("n", [Edit(name, 1, '"[redacted]"', redacted=""), Edit(name, 2, '"old cat"')])
            assert self.find(store, "secret", session=name) == []
            assert sorted(self.near(store, "old", session=name)) == ["old cat", "old cow"]
            store.write("n", [Edit(name, 2, "7"), Edit(name, 2, '"last word"'), Edit(name, 3, '"last word"')])
            assert self.find(store, "old", session=name) == []
            assert len(self.find(store, "last", session=name)) == 2

    def test_replaced_data_is_not_found(self, store: Store) -> None:
        for fill in (self.fill, lambda _: None):
            new = messages_of("old dog", "old cat", "old cow")
            store.write("n", [Append("s", new)])
            fill(store)
            store.write("n", [Replace("s", (*messages_of("new"), new[2]), 1)])
            for _ in range(2):
                assert sorted(self.near(store, "old")) == ["old cow", "old dog"]
                assert self.near(store, "new") == ["new"]
                assert self.find(store, "cat") == []
                fill(store)
            store.write("n", [Replace("s", ())])
            assert self.find(store, "old new") == []

    def test_forks_are_found(self, store: Store) -> None:
        for name, fill in (("s", self.fill), ("t", lambda _: None)):
            store.write("n", [Append(name, messages_of("blue one", "blue two", "blue three"))])
            fill(store)
            store.write("n", [Fork(name, f"fork of {name}", 2)])
            for _ in range(2):
                assert sorted(self.near(store, "blue", session=f"fork of {name}")) == ["blue one", "blue two"]
                assert len(self.find(store, "blue", session=name)) == 3
                fill(store)
            store.write("n", [Edit(f"fork of {name}", 1, '"red one"')])
            assert self.near(store, "blue", session=f"fork of {name}") == ["blue two"]
            store.write("n", [Forget(name)])
            assert self.near(store, "blue") == ["blue two"]
            store.write("n", [Forget(f"fork of {name}")])
            assert self.find(store, "blue red") == []

    def test_expired_sessions_are_not_found(self, store: Store) -> None:
        for ttl, rule in ((0.05, None), (None, 0.05)):
            for fill in (self.fill, lambda _: None):
                store.write("n", [Append("x/s", messages_of("lost away", "lost too"), ttl=ttl), put("k", "lost key")])
                fill(store)
                store.write("n", [Retain("x/", rule)])
                time.sleep(0.07)
                for _ in range(2):
                    assert self.near(store, "lost") == ["lost key"]
                    assert self.find(store, "lost", session="x/s", entries=False) == []
                    fill(store)
                store.write("n", [Append("x/s", messages_of("new")), Retain("x/")])
                assert self.near(store, "lost") == ["lost key"]
                assert self.near(store, "new") == ["new"]
                store.write("n", [Forget("x/s"), Delete("k")])

    def test_a_destroyed_namespace_has_no_texts(self, store: Store) -> None:
        store.write("n", [put("k", "gone"), Append("s", messages_of("gone"))])
        self.fill(store)
        store.write("n", [Destroy()])
        for text in ("new", "newer"):
            assert self.find(store, "lost") == []
            store.write("n", [put("k", text), Append("s", messages_of(text))])
            assert self.near(store, text) == [text, text]
            self.fill(store)
            store.write("n", [Clear(), Forget("s")])

    def test_an_edit_is_found_while_others_write(self, store: Store) -> None:
        def work(worker: int) -> None:
            session = f"s{worker}"
            store.write("n", [Append(session, messages_of("begin", "begin"))])
            old = "begin"
            for number in range(20):
                word = f"w{worker}x{number}"
                store.write("n", [Edit(session, 1 + number % 2, f'"{word}"')])
                (hit,) = self.find(store, word)
                assert hit.message is not None
                assert (hit.session, hit.message.seq) == (session, 1 + number % 2)
                if number > 1:
                    assert self.find(store, old, session=session) == []
                old = f"w{worker}x{number - 1}" if number else old
                store.write("n", [put(f"{worker}/{index}", f"filler {index} {number}") for index in range(9)])

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))

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
        assert self.near(store, "one") == ["one"]

    def test_deleted_data_is_not_found_while_others_write(self, store: Store) -> None:
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

    def test_model(self, store: Store) -> None:
        self.run(_machine_of(store, self))


def _machine_of(store: Store, contract: SearchContract) -> type[RuleBasedStateMachine]:
    texts = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=3).map(" ".join)
    messages = st.lists(texts, max_size=3) | texts.map(lambda text: [text] * 40)
    operations = operations_on(SOME_KEYS, SOME_SESSIONS, texts | st.just(1), messages)

    class Machine(machine_of(store, operations)):  # type: ignore[misc]
        @invariant()
        def same(self) -> None:
            for word in _WORDS[:3]:
                hits = contract.find(store, word + "s", self.namespace)
                found = {
                    (hit.entry.key, hit.entry.version) if hit.entry else (hit.session, hit.message and hit.message.id)
                    for hit in hits
                }
                assert found == {place for place, text in self.reference.texts.items() if word in str(text)}
                assert len(hits) == len(found)

    return Machine
