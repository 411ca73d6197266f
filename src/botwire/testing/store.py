"""The contract of a store as a test class, for the stores here and in other packages.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            store = MyStore(tmp_path)
            yield store
            store.close()

Needs pytest and hypothesis.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ..errors import Conflict, InvalidArgument, InvalidValue
from ..operations import Append, Clear, Delete, Forget, Increment, NewMessage, Operation, Pop
from ..queries import (
    CountEntries,
    CountMessages,
    GetEntries,
    GetEntry,
    GetUsage,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
)
from ..records import Entry, Message
from ..store import Store
from ..timestamps import new_id, now
from ..values import Stored, decode, encode, size
from .strategies import AWKWARD_NAMES, exact, json_values, messages_of, names, put, values

WRITERS = 8


class StoreContract:
    """Provide a fixture ``store`` that yields an empty store; every test must pass.

    ``examples`` and ``steps`` set how long the generated tests run.
    """

    examples = 25
    steps = 40

    def counted(self, stored: Stored) -> int:
        """Return the accounted bytes of a stored form. Override it for a store with another stored form."""
        return size(stored)

    def counted_message(self, stored: str) -> int:
        """Like `counted`, for a message."""
        return size(stored)

    # Keys and values

    def test_set_and_get(self, store: Store) -> None:
        before = now()
        (version,) = store.write("n", [put("k", {"a": [1, 2.5, None, True, "x"]})])
        after = now()
        entry = store.read("n", GetEntry("k"))
        assert entry is not None
        assert (entry.key, entry.value, entry.version) == ("k", {"a": [1, 2.5, None, True, "x"]}, version)
        assert entry.created == entry.updated
        assert before <= entry.created <= after
        assert entry.expires is None

    def test_missing(self, store: Store) -> None:
        assert store.read("n", GetEntry("k")) is None
        assert store.read("n", GetEntries(("k", "l"))) == []
        assert store.read("n", ListKeys()) == []
        assert store.read("n", ListEntries()) == []
        assert store.read("n", CountEntries()) == 0
        assert store.read("n", ListMessages("s")) == []
        assert store.read("n", CountMessages("s")) == 0
        assert store.read("n", ListSessions()) == []
        assert store.write("n", [Delete("k"), Clear(), Forget("s")]) == [False, 0, 0]

    def test_values_come_back_exactly(self, store: Store) -> None:
        @settings(max_examples=4 * self.examples, deadline=None)
        @given(value=values)
        def check(value: Any) -> None:
            store.write("n", [put("k", value)])
            entry = store.read("n", GetEntry("k"))
            assert entry is not None
            assert exact(entry.value) == exact(value)

        check()

    def test_awkward_names(self, store: Store) -> None:
        for name in AWKWARD_NAMES:
            store.write("n", [put(name, name), Append(name, messages_of(name))])
        for name in AWKWARD_NAMES:
            entry = store.read("n", GetEntry(name))
            assert entry is not None, name
            assert (entry.key, entry.value) == (name, name)
            assert [message.data for message in store.read("n", ListMessages(name))] == [name]
            assert [message.data for message in store.read("n", ListMessages(name, last=1))] == [name]
            assert store.read("n", CountMessages(name)) == 1
            assert store.read("n", CountEntries(name)) == sum(other.startswith(name) for other in AWKWARD_NAMES)
        assert store.read("n", ListKeys()) == sorted(AWKWARD_NAMES, key=str.encode)
        assert {entry.key for entry in store.read("n", GetEntries(AWKWARD_NAMES))} == set(AWKWARD_NAMES)
        assert store.write("n", [Delete(name) for name in AWKWARD_NAMES]) == [True] * len(AWKWARD_NAMES)
        assert store.write("n", [Forget(name) for name in AWKWARD_NAMES]) == [1] * len(AWKWARD_NAMES)

    def test_generated_names(self, store: Store) -> None:
        @settings(max_examples=4 * self.examples, deadline=None)
        @given(name=names)
        def check(name: str) -> None:
            store.write("n", [put(name, name)])
            entry = store.read("n", GetEntry(name))
            assert entry is not None
            assert entry.key == name
            assert store.write("n", [Delete(name)]) == [True]

        check()

    @pytest.mark.parametrize("namespace", ["a b", "ü", "🤖", "%2F", "?", "#", "n" * 128, "..."])
    def test_namespaces_are_apart(self, store: Store, namespace: str) -> None:
        store.write("n", [put("k", 1), Append("s", messages_of(1))])
        store.write(namespace, [put("k", 2), Append("s", messages_of(2, 3))])
        assert _value(store, "k") == 1
        assert _value(store, "k", namespace) == 2
        assert store.read("n", CountMessages("s")) == 1
        assert store.read(namespace, CountMessages("s")) == 2
        store.write("n", [Clear(), Forget("s")])
        assert _value(store, "k", namespace) == 2
        assert [message.data for message in store.read(namespace, ListMessages("s"))] == [2, 3]

    def test_listing_namespaces(self, store: Store) -> None:
        names = ["a", "a b", "n" * 128, "é", "日本語", "%2F", "\U0001f916"]
        for name in names:
            store.write(name, [put("k", 1)])
        ordered = sorted(names, key=str.encode)
        assert store.read("", ListNamespaces()) == ordered
        assert store.read("", ListNamespaces(limit=2)) == ordered[:2]
        assert store.read("", ListNamespaces(ordered[1], 3)) == ordered[2:5]
        assert store.read("", ListNamespaces(ordered[-1])) == []
        assert store.read("", ListNamespaces(limit=0)) == []

    def test_versions_grow_and_never_come_back(self, store: Store) -> None:
        seen: list[Any] = []
        for _ in range(3):
            seen += store.write("n", [put("k", 1)]) + store.write("n", [put("k", 1)])
            store.write("n", [Delete("k")])
        assert seen == sorted(set(seen))

    def test_created_stays_and_updated_moves(self, store: Store) -> None:
        store.write("n", [put("k", 1)])
        first = store.read("n", GetEntry("k"))
        time.sleep(0.002)
        store.write("n", [put("k", 2)])
        second = store.read("n", GetEntry("k"))
        assert first is not None
        assert second is not None
        assert second.created == first.created
        assert second.updated > first.updated

    def test_compare_and_set(self, store: Store) -> None:
        (version,) = store.write("n", [put("k", 1, if_version=0)])
        with pytest.raises(Conflict) as caught:
            store.write("n", [put("k", 2, if_version=0)])
        assert caught.value.details["version"] == version
        assert isinstance(version, int)
        with pytest.raises(Conflict):
            store.write("n", [put("k", 2, if_version=version + 1)])
        with pytest.raises(Conflict) as caught:
            store.write("n", [put("other", 2, if_version=version)])
        assert caught.value.details["version"] == 0
        assert _value(store, "k") == 1
        store.write("n", [put("k", 3, if_version=version)])
        assert _value(store, "k") == 3

    def test_increment(self, store: Store) -> None:
        assert store.write("n", [Increment("k"), Increment("k", 2), Increment("k", -5)]) == [1, 3, -2]
        assert store.write("n", [put("k", 2**80), Increment("k", 1)])[1] == 2**80 + 1
        assert exact(store.write("n", [put("k", 1), Increment("k", 0.5)])[1]) == "1.5"
        for wrong in ("1", None, True, [1], b"1"):
            store.write("n", [put("k", wrong)])
            with pytest.raises(InvalidValue):
                store.write("n", [Increment("k")])
            assert exact(_value(store, "k")) == exact(wrong)
        store.write("n", [put("k", 1e308)])
        with pytest.raises(InvalidValue):
            store.write("n", [Increment("k", 1e308)])

    def test_all_or_nothing(self, store: Store) -> None:
        store.write("n", [put("a", 1), Append("s", messages_of(1))])
        usage = store.read("n", GetUsage())
        with pytest.raises(Conflict):
            store.write(
                "n",
                [
                    put("a", 2),
                    Delete("a"),
                    put("b", 2),
                    Append("s", messages_of(2)),
                    Forget("s"),
                    put("c", 1, if_version=9),
                ],
            )
        assert store.read("n", ListKeys()) == ["a"]
        assert _value(store, "a") == 1
        assert store.read("n", CountMessages("s")) == 1
        assert store.read("n", GetUsage()) == usage
        with pytest.raises(Conflict):
            store.write("never", [put("a", 2), put("c", 1, if_version=9)])
        assert store.read("never", ListKeys()) == []

    def test_operations_see_those_before(self, store: Store) -> None:
        results = store.write(
            "n", [put("k", 1), Increment("k"), Delete("k"), Delete("k"), Increment("k", 7), Clear(), Clear()]
        )
        assert results[1:] == [2, True, False, 7, 1, 0]

    def test_listing(self, store: Store) -> None:
        keys = ["a", "a/1", "a/2", "a/2/x", "a0", "b", "Z", "é", "\ud7ff", "\ue000", "\U0010ffff", "\U0010ffffx"]
        store.write("n", [put(key, key) for key in keys])
        ordered = sorted(keys, key=str.encode)
        assert store.read("n", ListKeys()) == ordered
        for prefix in ["", "a", "a/", "a/2", "c", "\ud7ff", "\U0010ffff"]:
            wanted = [key for key in ordered if key.startswith(prefix)]
            assert store.read("n", ListKeys(prefix)) == wanted
            assert store.read("n", CountEntries(prefix)) == len(wanted)
            assert [(entry.key, entry.value) for entry in store.read("n", ListEntries(prefix))] == [
                (k, k) for k in wanted
            ]
            assert store.read("n", ListKeys(prefix, limit=2)) == wanted[:2]
            assert store.read("n", ListKeys(prefix, limit=0)) == []
        for index, key in enumerate(ordered):
            assert store.read("n", ListKeys(after=key, limit=3)) == ordered[index + 1 : index + 4]
        assert store.write("n", [Clear("a/")]) == [3]
        assert store.read("n", ListKeys("a")) == ["a", "a0"]

    def test_get_entries_in_the_order_asked(self, store: Store) -> None:
        store.write("n", [put(key, key) for key in "abcd"])
        found = store.read("n", GetEntries(("d", "x", "a", "c")))
        assert [entry.key for entry in found] == ["d", "a", "c"]
        many = tuple(f"key/{index}" for index in range(2_000))
        store.write("n", [put(key, None) for key in many])
        assert [entry.key for entry in store.read("n", GetEntries(many[::-1]))] == list(many[::-1])

    # Expiry

    def test_expired_is_gone(self, store: Store) -> None:
        store.write("n", [put("k", 1, ttl=0.05), put("l", 1), put("m", 1, ttl=60.0)])
        (old,) = store.read("n", GetEntries(("k",)))
        assert old.expires is not None
        assert 40_000 <= old.expires - old.updated <= 60_000
        time.sleep(0.06)
        assert store.read("n", GetEntry("k")) is None
        assert store.read("n", GetEntries(("k", "l"))) == [store.read("n", GetEntry("l"))]
        assert store.read("n", ListKeys()) == ["l", "m"]
        assert len(store.read("n", ListEntries())) == 2
        assert store.read("n", CountEntries()) == 2
        assert store.write("n", [Delete("k")]) == [False]

    def test_expired_is_as_if_it_had_never_been(self, store: Store) -> None:
        (version,) = store.write("n", [put("k", 5, ttl=0.02)])
        store.write("n", [put("l", 5, ttl=0.02)])
        time.sleep(0.03)
        with pytest.raises(Conflict):
            store.write("n", [put("k", 6, if_version=version)])
        assert store.write("n", [Increment("l")]) == [1]
        (again,) = store.write("n", [put("k", 6, if_version=0)])
        entry = store.read("n", GetEntry("k"))
        assert entry is not None
        assert entry.created == entry.updated
        assert again > version  # type: ignore[operator]
        assert store.write("n", [Clear()]) == [2]

    def test_set_ends_a_time_to_live_and_increment_keeps_it(self, store: Store) -> None:
        store.write("n", [put("a", 1, ttl=60.0), put("b", 1, ttl=60.0), put("c", 1, ttl=60.0)])
        store.write("n", [put("a", 2), Increment("b"), put("c", 2, keep_ttl=True)])
        a, b, c = store.read("n", GetEntries(("a", "b", "c")))
        assert a.expires is None
        assert b.expires is not None
        assert c.expires is not None

    def test_expired_bytes_are_given_back(self, store: Store) -> None:
        store.write("n", [put(f"k{index}", "x" * 100, ttl=0.02) for index in range(200)])
        assert store.read("n", GetUsage()).bytes > 20_000
        time.sleep(0.03)
        for index in range(10):
            store.write("n", [put("k", index)])
        assert store.read("n", GetUsage()).bytes == 1 + self.counted("9")

    # Sessions

    def test_append_and_read(self, store: Store) -> None:
        new = messages_of({"role": "user", "content": "hi"}, ["x"], None)
        assert store.write("n", [Append("s", new)]) == [[1, 2, 3]]
        found = store.read("n", ListMessages("s"))
        assert [(item.seq, item.id, item.data) for item in found] == [
            (1, new[0].id, {"role": "user", "content": "hi"}),
            (2, new[1].id, ["x"]),
            (3, new[2].id, None),
        ]
        assert all(abs(item.created - now()) < 60_000_000 for item in found)
        assert store.write("n", [Append("s", ())]) == [[]]

    def test_pages_of_messages(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*range(1, 21)))])

        def seqs(**options: Any) -> list[int]:
            found = store.read("n", ListMessages("s", **options))
            assert [item.data for item in found] == [item.seq for item in found]
            return [item.seq for item in found]

        assert seqs() == list(range(1, 21))
        assert seqs(last=3) == [18, 19, 20]
        assert seqs(last=0) == []
        assert seqs(last=100) == list(range(1, 21))
        assert seqs(after=5, limit=3) == [6, 7, 8]
        assert seqs(after=18) == [19, 20]
        assert seqs(after=20) == []
        assert seqs(after=10**12) == []
        assert seqs(limit=0) == []
        assert seqs(after=18, last=5) == [19, 20]

    def test_appending_an_id_again_changes_nothing(self, store: Store) -> None:
        new = messages_of("a", "b")
        assert store.write("n", [Append("s", new)]) == [[1, 2]]
        usage = store.read("n", GetUsage())
        assert store.write("n", [Append("s", new)]) == [[1, 2]]
        assert store.read("n", GetUsage()) == usage
        assert store.write("n", [Append("s", (new[1], *messages_of("c"), new[0]))]) == [[2, 3, 1]]
        assert [item.data for item in store.read("n", ListMessages("s"))] == ["a", "b", "c"]
        twice = messages_of("d")
        assert store.write("n", [Append("s", twice * 3)]) == [[4, 4, 4]]
        assert store.write("n", [Append("other", new)]) == [[1, 2]]

    def test_forget(self, store: Store) -> None:
        new = messages_of("a", "b")
        store.write("n", [Append("s", new), Append("t", new)])
        assert store.write("n", [Forget("s")]) == [2]
        assert store.read("n", ListMessages("s")) == []
        assert [item.data for item in store.read("n", ListMessages("t"))] == ["a", "b"]
        assert store.write("n", [Append("s", new[1:])]) == [[1]]

    def test_pop(self, store: Store) -> None:
        new = messages_of("a", {"b": 2}, "ç")
        store.write("n", [Append("s", new), Append("t", new)])
        found = store.read("n", ListMessages("s"))
        assert store.write("n", [Pop("s")]) == [found[2:]]
        assert store.write("n", [Append("s", new[2:])]) == [[3]]
        assert [item.id for item in _popped(store, Pop("s", 2))] == [new[1].id, new[2].id]
        assert [item.data for item in store.read("n", ListMessages("s"))] == ["a"]
        assert store.write("n", [Append("s", messages_of("d"))]) == [[2]]
        assert [item.data for item in store.read("n", ListMessages("s", last=1))] == ["d"]
        assert [item.data for item in _popped(store, Pop("s", 10))] == ["a", "d"]
        assert [item.name for item in store.read("n", ListSessions())] == ["t"]
        assert store.write("n", [Pop("s"), Pop("t", 0)]) == [[], []]
        assert store.read("n", CountMessages("t")) == 3
        assert store.read("n", GetUsage()).bytes == sum(
            size(item.id) + self.counted_message(item.stored) for item in new
        )
        assert store.write("never", [Pop("s")]) == [[]]
        assert store.write("n", [Append("s", new)]) == [[1, 2, 3]]

    def test_pop_only_what_is_expected(self, store: Store) -> None:
        new = messages_of("a", "b", "c")
        ids = tuple(item.id for item in new)
        store.write("n", [Append("s", new)])
        usage = store.read("n", GetUsage())
        for wrong in (
            Pop("s", 2, ids),
            Pop("s", 1, ids[:1]),
            Pop("s", 2, ids[:0:-1]),
            Pop("s", 1, ()),
            Pop("u", 1, ids),
        ):
            attempts: tuple[Sequence[Operation], ...] = ([wrong], [wrong, Append("s", messages_of("d"))])
            for operations in attempts:
                with pytest.raises(Conflict):
                    store.write("n", operations)
        assert store.read("n", GetUsage()) == usage
        replaced = store.write("n", [Pop("s", 2, ids[1:]), Append("s", new[2:])])
        assert [item.data for item in replaced[0]] == ["b", "c"]  # type: ignore[union-attr]
        assert replaced[1] == [2]
        assert [item.data for item in store.read("n", ListMessages("s"))] == ["a", "c"]
        assert store.write("n", [Pop("u", 1, ())]) == [[]]

    def test_sessions_newest_first(self, store: Store) -> None:
        for name in "abcde":
            store.write("n", [Append(name, messages_of(1))])
        store.write("n", [Append("b", messages_of(2, 3))])
        found = store.read("n", ListSessions())
        assert [(item.name, item.messages) for item in found] == [("e", 1), ("d", 1), ("c", 1), ("b", 3), ("a", 1)]
        assert found[3].updated >= found[3].created
        assert store.read("n", ListSessions(limit=2)) == found[:2]
        assert store.read("n", ListSessions(before=found[1].place, limit=2)) == found[2:4]
        store.write("n", [Forget("d")])
        assert [item.name for item in store.read("n", ListSessions())] == ["e", "c", "b", "a"]

    # Usage

    def test_usage_counts_what_is_stored(self, store: Store) -> None:
        new = messages_of("héllo", {"a": 1})
        store.write("n", [put("ké", "v€"), put("b", b"\x00\xff"), Append("s", new), Increment("i", 10), Delete("zz")])
        held = len("ké".encode()) + self.counted('"v€"') + 1 + self.counted(b"\x00\xff") + 1 + self.counted("10")
        held += sum(size(item.id) + self.counted_message(item.stored) for item in new)
        usage = store.read("n", GetUsage())
        assert (usage.bytes, usage.writes_today) == (held, 5)
        assert usage.resets > now()
        store.write("n", [put("ké", "longer value"), Delete("b"), Delete("i"), Forget("s")])
        usage = store.read("n", GetUsage())
        assert (usage.bytes, usage.writes_today) == (len("ké".encode()) + self.counted('"longer value"'), 6)
        store.write("n", [Clear()])
        assert store.read("n", GetUsage()).bytes == 0
        assert store.read("other", GetUsage()).bytes == 0

    # Idempotency

    def test_a_write_under_a_known_key_happens_once(self, store: Store) -> None:
        write: Sequence[Operation] = [
            Increment("k"),
            put("l", 1),
            Append("s", messages_of(1)),
            Delete("z"),
            Increment("m", 2**70),
        ]
        first = store.write("n", write, idempotency_key="one")
        store.write("n", [put("l", 2)])
        assert exact(store.write("n", write, idempotency_key="one")) == exact(first)
        assert _value(store, "k") == 1
        assert _value(store, "l") == 2
        assert store.write("n", [Increment("k")], idempotency_key="two") == [2]
        assert store.write("other", [Increment("k")], idempotency_key="one") == [1]

    def test_a_pop_under_a_known_key_pops_once(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a", 2**70, {"c": [None]}))])
        write: Sequence[Operation] = [Pop("s", 2), Pop("s", 0), put("k", 1)]
        first = store.write("n", write, idempotency_key="one")
        assert [item.data for item in first[0]] == [2**70, {"c": [None]}]  # type: ignore[union-attr]
        assert exact(store.write("n", write, idempotency_key="one")) == exact(first)
        assert [item.data for item in store.read("n", ListMessages("s"))] == ["a"]

    def test_a_write_under_a_known_key_does_not_bring_back_what_is_gone(self, store: Store) -> None:
        append: list[Operation] = [Append("s", messages_of(1, 2))]
        assert store.write("n", append, idempotency_key="popped") == [[1, 2]]
        assert [item.data for item in store.write("n", [Pop("s")])[0]] == [2]  # type: ignore[union-attr]
        assert store.write("n", append, idempotency_key="popped") == [[1, 2]]
        assert [item.data for item in store.read("n", ListMessages("s"))] == [1]
        other = [*append, put("k", 1)]
        first = store.write("n", other, idempotency_key="forgotten")
        store.write("n", [Forget("s"), Clear()])
        assert store.write("n", other, idempotency_key="forgotten") == first
        assert store.read("n", ListSessions()) == []
        assert store.read("n", ListKeys()) == []

    def test_a_key_is_for_one_write(self, store: Store) -> None:
        write: list[Operation] = [put("k", 1), Append("s", messages_of(1))]
        first = store.write("n", write, idempotency_key="one")
        others: list[list[Operation]] = [[], [Delete("k")], [put("j", 1), write[1]], [write[0]], [write[1], write[0]]]
        for other in (*others, [write[0], Append("s", messages_of(1, 2))], [write[0], Append("t", messages_of(1))]):
            with pytest.raises(InvalidArgument, match="was used for another write"):
                store.write("n", other, idempotency_key="one")
        assert store.write("n", [write[0], Append("s", messages_of(1))], idempotency_key="one") == first
        assert store.read("n", ListKeys()) == ["k"]
        assert store.read("n", CountMessages("s")) == 1

    def test_a_refused_write_leaves_its_key_free(self, store: Store) -> None:
        with pytest.raises(Conflict):
            store.write("n", [put("k", 1, if_version=5)], idempotency_key="one")
        store.write("n", [put("k", 1)], idempotency_key="one")
        assert _value(store, "k") == 1

    # Races

    def test_increments_at_once(self, store: Store) -> None:
        _race(lambda _: [store.write("n", [Increment("k")]) for _ in range(25)])
        assert _value(store, "k") == 25 * WRITERS

    def test_appends_at_once(self, store: Store) -> None:
        def append(writer: int) -> list[int]:
            seqs: list[int] = []
            for index in range(25):
                (got,) = store.write("n", [Append("s", messages_of([writer, index], [writer, index, "b"]))])
                seqs += cast("list[int]", got)
            return seqs

        seqs = _race(append)
        found = store.read("n", ListMessages("s"))
        assert [item.seq for item in found] == list(range(1, 50 * WRITERS + 1))
        assert sorted(seq for mine in seqs for seq in mine) == list(range(1, 50 * WRITERS + 1))
        for writer in range(WRITERS):
            mine = [item.data[1] for item in found if item.data[0] == writer and len(item.data) == 2]
            assert mine == list(range(25))

    def test_one_winner_of_a_compare_and_set(self, store: Store) -> None:
        for round_ in range(10):
            key = f"k{round_}"

            def claim(writer: int, key: str = key) -> bool:
                try:
                    store.write("n", [put(key, writer, if_version=0)])
                except Conflict:
                    return False
                return True

            won = _race(claim)
            assert Counter(won)[True] == 1
            assert _value(store, key) == won.index(True)

    def test_one_message_of_many_appends_of_an_id(self, store: Store) -> None:
        for round_ in range(10):
            new = messages_of(round_)
            answers = _race(lambda _, new=new: store.write("n", [Append("s", new)]))  # type: ignore[misc]
            assert answers == [[[round_ + 1]]] * WRITERS
        assert store.read("n", CountMessages("s")) == 10

    def test_pops_and_appends_at_once(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of(*range(50)))])

        def work(writer: int) -> list[Message]:
            if writer % 2:
                return [item for _ in range(25) for item in _popped(store, Pop("s", 2))]
            for index in range(25):
                store.write("n", [Append("s", messages_of([writer, index]))])
            return []

        popped = [exact(item.data) for mine in _race(work) for item in mine]
        left = store.read("n", ListMessages("s"))
        assert [item.seq for item in left] == list(range(1, len(left) + 1))
        appended = [[writer, index] for writer in range(0, WRITERS, 2) for index in range(25)]
        wanted = map(exact, [*range(50), *appended])
        assert Counter(popped + [exact(item.data) for item in left]) == Counter(wanted)

    def test_one_effect_of_many_writes_under_a_key(self, store: Store) -> None:
        answers = _race(lambda _: store.write("n", [Increment("k")], idempotency_key="one"))
        assert answers == [[1]] * WRITERS
        assert _value(store, "k") == 1

    def test_a_reader_sees_whole_writes(self, store: Store) -> None:
        store.write("n", [put("a", 0), put("b", 0)])
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                a, b = store.read("n", GetEntries(("a", "b")))
                assert a.value == b.value

        with ThreadPoolExecutor(2) as threads:
            reading = [threads.submit(read) for _ in range(2)]
            try:
                for index in range(100):
                    store.write("n", [put("a", index), put("b", index)])
            finally:
                done.set()
            for future in reading:
                future.result()

    # Random operations, compared with a model

    def test_model(self, store: Store) -> None:
        machine = model_of(store, self)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=self.steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def _value(store: Store, key: str, namespace: str = "n") -> Any:
    entry = store.read(namespace, GetEntry(key))
    assert entry is not None
    return entry.value


def _popped(store: Store, pop: Pop) -> list[Message]:
    (popped,) = store.write("n", [pop])
    return cast("list[Message]", popped)


def _race(work: Callable[[int], Any]) -> list[Any]:
    """Run work in several threads that start at the same moment, and return all results."""
    barrier = threading.Barrier(WRITERS, timeout=30)

    def run(writer: int) -> Any:
        barrier.wait()
        return work(writer)

    with ThreadPoolExecutor(WRITERS) as threads:
        return list(threads.map(run, range(WRITERS)))


def model_of(store: Store, contract: StoreContract) -> type[RuleBasedStateMachine]:
    """Return a state machine that applies the same operations to a store and to plain dicts, and compares the results."""

    class Model(RuleBasedStateMachine):
        keys: Bundle[str] = Bundle("keys")
        sessions: Bundle[str] = Bundle("sessions")

        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.entries: dict[str, Any] = {}
            self.versions: dict[str, int] = {}
            self.logs: dict[str, list[NewMessage]] = {}

        @initialize(target=keys, some=st.lists(names, min_size=3, max_size=3))
        def begin(self, some: list[str]) -> Any:
            return multiple(*some, *(some[0][:50] + key for key in some))

        @initialize(target=sessions, some=st.lists(names, min_size=2, max_size=2))
        def begin_sessions(self, some: list[str]) -> Any:
            return multiple(*some)

        def write(self, *operations: Operation) -> list[Any]:
            return list(store.write(self.namespace, operations))

        @rule(key=keys, value=values)
        def set(self, key: str, value: Any) -> None:
            (version,) = self.write(put(key, value))
            assert version > max(self.versions.values(), default=0)
            self.entries[key], self.versions[key] = value, version

        @rule(key=keys, value=values, expected=keys)
        def compare_and_set(self, key: str, value: Any, expected: str) -> None:
            wanted = self.versions.get(expected, 0) if expected in self.entries else 0
            now_at = self.versions[key] if key in self.entries else 0
            try:
                (version,) = self.write(put(key, value, if_version=wanted))
            except Conflict as error:
                assert wanted != now_at
                assert error.details["version"] == now_at
            else:
                assert wanted == now_at
                self.entries[key], self.versions[key] = value, version

        @rule(key=keys)
        def delete(self, key: str) -> None:
            assert self.write(Delete(key)) == [key in self.entries]
            self.entries.pop(key, None)

        @rule(key=keys, by=st.integers() | st.floats(-1e9, 1e9))
        def increment(self, key: str, by: float) -> None:
            value = self.entries.get(key, 0)
            if type(value) in {int, float} and abs(value) < 1e300:
                assert exact(self.write(Increment(key, by))) == exact([value + by])
                self.entries[key] = value + by
                entry = store.read(self.namespace, GetEntry(key))
                assert entry is not None
                self.versions[key] = entry.version

        @rule(key=keys, length=st.integers(0, 20))
        def clear(self, key: str, length: int) -> None:
            prefix = key[:length]
            cleared = [other for other in self.entries if other.startswith(prefix)]
            assert self.write(Clear(prefix)) == [len(cleared)]
            for other in cleared:
                del self.entries[other]

        @rule(session=sessions, data=st.lists(json_values, max_size=3))
        def append(self, session: str, data: list[Any]) -> None:
            new = messages_of(*data)
            log = self.logs.setdefault(session, [])
            assert self.write(Append(session, new)) == [list(range(len(log) + 1, len(log) + len(new) + 1))]
            log += new

        @rule(session=sessions)
        def append_again(self, session: str) -> None:
            log = self.logs.get(session, [])
            assert self.write(Append(session, tuple(log))) == [list(range(1, len(log) + 1))]

        @rule(session=sessions, count=st.integers(0, 4), certain=st.booleans())
        def pop(self, session: str, count: int, *, certain: bool) -> None:
            log = self.logs.get(session, [])
            wanted = log[max(0, len(log) - count) :]
            ids = tuple(item.id for item in wanted) if certain else None
            (popped,) = self.write(Pop(session, count, ids))
            assert [(item.id, exact(item.data)) for item in popped] == [
                (item.id, exact(decode(item.stored))) for item in wanted
            ]
            del log[len(log) - len(wanted) :]

        @rule(session=sessions)
        def forget(self, session: str) -> None:
            assert self.write(Forget(session)) == [len(self.logs.get(session, []))]
            self.logs.pop(session, None)

        @rule(key=keys, length=st.integers(0, 20), limit=st.none() | st.integers(0, 4), after=st.none() | keys)
        def list(self, key: str, length: int, limit: int | None, after: str | None) -> None:
            prefix = key[:length]
            wanted = sorted((other for other in self.entries if other.startswith(prefix)), key=str.encode)
            wanted = [other for other in wanted if other.encode() > (after or "").encode()][:limit]
            assert store.read(self.namespace, ListKeys(prefix, after or "", limit)) == wanted
            found = store.read(self.namespace, ListEntries(prefix, after or "", limit))
            assert exact([(entry.key, entry.value) for entry in found]) == exact([(k, self.entries[k]) for k in wanted])

        @rule(session=sessions, last=st.none() | st.integers(0, 5), after=st.integers(0, 5))
        def messages(self, session: str, last: int | None, after: int) -> None:
            log = self.logs.get(session, [])
            wanted = list(enumerate(log, 1))[after:]
            wanted = wanted if last is None else wanted[max(0, len(wanted) - last) :]
            found: list[Message] = store.read(self.namespace, ListMessages(session, after, None, last))
            assert [(item.seq, item.id, exact(item.data)) for item in found] == [
                (seq, item.id, exact(decode(item.stored))) for seq, item in wanted
            ]

        @invariant()
        def same(self) -> None:
            entries: list[Entry] = store.read(self.namespace, ListEntries())
            assert {item.key: exact(item.value) for item in entries} == {k: exact(v) for k, v in self.entries.items()}
            assert {item.name: item.messages for item in store.read(self.namespace, ListSessions())} == {
                name: len(log) for name, log in self.logs.items() if log
            }
            held = sum(size(key) + contract.counted(encode(value)) for key, value in self.entries.items())
            held += sum(
                size(item.id) + contract.counted_message(item.stored) for log in self.logs.values() for item in log
            )
            assert store.read(self.namespace, GetUsage()).bytes == held

    return Model
