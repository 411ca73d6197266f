"""The contract of entries and of writes as a test class: what every store does with keys, values, limits and idempotency keys."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from ..errors import Conflict, InvalidArgument, InvalidValue
from ..operations import Append, Clear, Delete, Forget, Increment, Operation, Pop, Put, Require
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
    Query,
)
from ..store import Store
from ..timestamps import now
from .strategies import (
    AWKWARD_NAMES,
    WRITERS,
    Counted,
    data_of,
    entry_of,
    exact,
    messages_of,
    names,
    popped,
    put,
    race,
    repeating,
    values,
)


class EntryContract(Counted):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    def test_set_and_get(self, store: Store) -> None:
        before = now()
        (version,) = store.write("n", [put("k", {"a": [1, 2.5, None, True, "x"]})])
        after = now()
        entry = entry_of(store, "k")
        assert (entry.key, entry.value, entry.version) == ("k", {"a": [1, 2.5, None, True, "x"]}, version)
        assert before <= entry.created == entry.updated <= after
        assert entry.expires is None

    def test_missing(self, store: Store) -> None:
        assert store.read("n", GetEntry("k")) is None
        empty: list[Query[Any]] = [GetEntries(("k", "l")), ListKeys(), ListEntries(), ListMessages("s"), ListSessions()]
        for query in empty:
            assert store.read("n", query) == []
        assert store.read("n", CountEntries()) == store.read("n", CountMessages("s")) == 0
        assert store.write("n", [Delete("k"), Clear(), Forget("s")]) == [False, 0, 0]

    def test_values_come_back_exactly(self, store: Store) -> None:
        def check(value: Any) -> None:
            store.write("n", [put("k", value)])
            assert exact(entry_of(store, "k").value) == exact(value)

        self.for_all(values, check)

    def test_awkward_names(self, store: Store) -> None:
        for name in AWKWARD_NAMES:
            store.write("n", [put(name, name), Append(name, messages_of(name))])
        for name in AWKWARD_NAMES:
            entry = entry_of(store, name)
            assert (entry.key, entry.value) == (name, name)
            assert data_of(store, name) == data_of(store, name, last=1) == [name]
            assert store.read("n", CountMessages(name)) == 1
            assert store.read("n", CountEntries(name)) == sum(other.startswith(name) for other in AWKWARD_NAMES)
        assert store.read("n", ListKeys()) == sorted(AWKWARD_NAMES, key=str.encode)
        assert {entry.key for entry in store.read("n", GetEntries(AWKWARD_NAMES))} == set(AWKWARD_NAMES)
        assert store.write("n", [Delete(name) for name in AWKWARD_NAMES]) == [True] * len(AWKWARD_NAMES)
        assert store.write("n", [Forget(name) for name in AWKWARD_NAMES]) == [1] * len(AWKWARD_NAMES)

    def test_generated_names(self, store: Store) -> None:
        def check(name: str) -> None:
            store.write("n", [put(name, name)])
            assert entry_of(store, name).key == name
            assert store.write("n", [Delete(name)]) == [True]

        self.for_all(names, check)

    @pytest.mark.parametrize("namespace", ["a b", "ü", "🤖", "%2F", "?", "#", "n" * 128, "..."])
    def test_namespaces_are_apart(self, store: Store, namespace: str) -> None:
        store.write("n", [put("k", 1), Append("s", messages_of(1))])
        store.write(namespace, [put("k", 2), Append("s", messages_of(2, 3))])
        assert (entry_of(store, "k").value, entry_of(store, "k", namespace).value) == (1, 2)
        assert (store.read("n", CountMessages("s")), store.read(namespace, CountMessages("s"))) == (1, 2)
        store.write("n", [Clear(), Forget("s")])
        assert (entry_of(store, "k", namespace).value, data_of(store, "s", namespace)) == (2, [2, 3])

    def test_listing_namespaces(self, store: Store) -> None:
        names = ["a", "a b", "n" * 128, "é", "日本語", "%2F", "\U0001f916"]
        for name in names:
            store.write(name, [put("k", 1)])
        ordered = sorted(names, key=str.encode)
        assert store.read("", ListNamespaces()) == ordered
        assert store.read("", ListNamespaces(limit=2)) == ordered[:2]
        assert store.read("", ListNamespaces(ordered[1], 3)) == ordered[2:5]
        assert store.read("", ListNamespaces(ordered[-1])) == store.read("", ListNamespaces(limit=0)) == []

    def test_versions_grow_and_never_come_back(self, store: Store) -> None:
        seen: list[Any] = []
        for _ in range(3):
            seen += store.write("n", [put("k", 1)]) + store.write("n", [put("k", 1)])
            store.write("n", [Delete("k")])
        assert seen == sorted(set(seen))

    def test_created_stays_and_updated_moves(self, store: Store) -> None:
        store.write("n", [put("k", 1)])
        first = entry_of(store, "k")
        time.sleep(0.002)
        store.write("n", [put("k", 2)])
        second = entry_of(store, "k")
        assert second.created == first.created
        assert second.updated > first.updated

    def test_compare_and_set(self, store: Store) -> None:
        (version,) = store.write("n", [put("k", 1, if_version=0)])
        assert isinstance(version, int)
        for key, expected, actual in (("k", 0, version), ("k", version + 1, version), ("other", version, 0)):
            with pytest.raises(Conflict) as caught:
                store.write("n", [put(key, 2, if_version=expected)])
            assert caught.value.details["version"] == actual
        assert entry_of(store, "k").value == 1
        store.write("n", [put("k", 3, if_version=version)])
        assert entry_of(store, "k").value == 3

    def test_require(self, store: Store) -> None:
        assert store.write("n", [Require("k", 0)]) == [0]
        (version,) = store.write("n", [put("k", 1)])
        assert isinstance(version, int)
        usage = store.read("n", GetUsage())
        assert store.write("n", [Require("k", version), Require("other", 0)]) == [version, 0]
        assert store.read("n", GetUsage()) == usage
        for wrong in (Require("k", 0), Require("k", version + 1), Require("other", version)):
            with pytest.raises(Conflict) as caught:
                store.write("n", [put("l", 1), wrong, put("k", 2)])
            assert caught.value.details == {"key": wrong.key, "version": version if wrong.key == "k" else 0}
        assert store.read("n", ListKeys()) == ["k"]
        assert store.write("n", [Require("k", version), put("k", 2), put("l", 1)])[0] == version
        with pytest.raises(Conflict):
            store.write("n", [Require("k", version), put("l", 2)])
        store.write("n", [Clear()])
        for before in ((), (put("k", 3),)):
            with pytest.raises(Conflict):
                store.write("n", [*before, Require("k", version)])

    def test_require_ignores_expired_entries(self, store: Store) -> None:
        (version,) = store.write("n", [put("k", 1, ttl=0.001)])
        assert isinstance(version, int)
        time.sleep(0.01)
        with pytest.raises(Conflict):
            store.write("n", [Require("k", version)])
        assert store.write("n", [Require("k", 0), put("l", 1)])[0] == 0

    def test_increment(self, store: Store) -> None:
        assert store.write("n", [Increment("k"), Increment("k", 2), Increment("k", -5)]) == [1, 3, -2]
        assert store.write("n", [put("k", 2**80), Increment("k", 1)])[1] == 2**80 + 1
        assert exact(store.write("n", [put("k", 1), Increment("k", 0.5)])[1]) == "1.5"
        for wrong in ("1", None, True, [1], b"1"):
            store.write("n", [put("k", wrong)])
            with pytest.raises(InvalidValue):
                store.write("n", [Increment("k")])
            assert exact(entry_of(store, "k").value) == exact(wrong)
        store.write("n", [put("k", 1e308)])
        with pytest.raises(InvalidValue):
            store.write("n", [Increment("k", 1e308)])

    def test_all_or_nothing(self, store: Store) -> None:
        store.write("n", [put("a", 1), Append("s", messages_of(1))])
        usage = store.read("n", GetUsage())
        refused = put("c", 1, if_version=9)
        with pytest.raises(Conflict):
            store.write("n", [put("a", 2), Delete("a"), put("b", 2), Append("s", messages_of(2)), Forget("s"), refused])
        assert store.read("n", ListKeys()) == ["a"]
        assert entry_of(store, "a").value == 1
        assert store.read("n", CountMessages("s")) == 1
        assert store.read("n", GetUsage()) == usage
        with pytest.raises(Conflict):
            store.write("never", [put("a", 2), refused])
        assert store.read("never", ListKeys()) == []

    def test_operations_see_those_before(self, store: Store) -> None:
        deletes = [Delete("k"), Delete("k")]
        results = store.write("n", [put("k", 1), Increment("k"), *deletes, Increment("k", 7), Clear(), Clear()])
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
            entries = store.read("n", ListEntries(prefix))
            assert [(entry.key, entry.value) for entry in entries] == [(key, key) for key in wanted]
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

    def test_expired_entries_are_missing(self, store: Store) -> None:
        store.write("n", [put("k", 1, ttl=30.0), put("l", 1), put("m", 1, ttl=60.0)])
        (old,) = store.read("n", GetEntries(("k",)))
        assert old.expires is not None
        assert 29_990_000 <= old.expires - old.updated <= 30_010_000
        store.write("n", [put("k", 1, ttl=0.05)])
        time.sleep(0.06)
        assert store.read("n", GetEntry("k")) is None
        assert store.read("n", GetEntries(("k", "l"))) == [store.read("n", GetEntry("l"))]
        assert store.read("n", ListKeys()) == ["l", "m"]
        assert len(store.read("n", ListEntries())) == store.read("n", CountEntries()) == 2
        assert store.write("n", [Delete("k")]) == [False]

    def test_expired_is_as_if_it_had_never_been(self, store: Store) -> None:
        (version,) = store.write("n", [put("k", 5, ttl=0.02)])
        store.write("n", [put("l", 5, ttl=0.02)])
        time.sleep(0.03)
        with pytest.raises(Conflict):
            store.write("n", [put("k", 6, if_version=version)])
        assert store.write("n", [Increment("l")]) == [1]
        (again,) = store.write("n", [put("k", 6, if_version=0)])
        entry = entry_of(store, "k")
        assert entry.created == entry.updated
        assert again > version  # type: ignore[operator]
        assert store.write("n", [Clear()]) == [2]

    def test_set_ends_a_time_to_live_and_increment_keeps_it(self, store: Store) -> None:
        store.write("n", [put("a", 1, ttl=60.0), put("b", 1, ttl=60.0), put("c", 1, ttl=60.0)])
        store.write("n", [put("a", 2), Increment("b"), put("c", 2, keep_ttl=True)])
        found = store.read("n", GetEntries(("a", "b", "c")))
        assert [entry.expires is not None for entry in found] == [False, True, True]

    def test_expired_bytes_are_given_back(self, store: Store) -> None:
        store.write("n", [put(f"k{index}", "x" * 100, ttl=0.02) for index in range(200)])
        assert store.read("n", GetUsage()).bytes > 20_000
        time.sleep(0.03)
        for index in range(10):
            store.write("n", [put("k", index)])
        assert store.read("n", GetUsage()).bytes == 1 + self.counted("9")

    def test_a_read_ends_when_its_room_is_full(self, store: Store) -> None:
        texts = [letter * 10_000 for letter in "abcd"]
        store.write("n", [*(put(text[0], text) for text in texts), put("e", b"e" * 10_000)])
        store.write("n", [Append("s", messages_of(*texts))])
        for room, rows in ((0, 1), (1, 1), (10_001, 1), (15_000, 2), (28_000, 3), (1_000_000, 5)):
            found = store.read("n", ListEntries(room=room))
            assert [entry.key for entry in found] == list("abcde")[:rows]
            assert [entry.value[0] for entry in found[:4]] == list("abcd")[:rows]
            keys = ("d", "x", "a", "e", "c", "b")
            assert [entry.key for entry in store.read("n", GetEntries(keys, room))] == list("daecb")[:rows]
            messages = store.read("n", ListMessages("s", room=room))
            assert [message.data for message in messages] == texts[:rows]
            assert [item.seq for item in store.read("n", ListMessages("s", last=3, room=room))] == [2, 3, 4][:rows]
        assert [entry.key for entry in store.read("n", ListEntries("", "b", 2, 28_000))] == ["c", "d"]
        assert store.read("n", ListKeys(room=1)) == ["a"]
        assert store.read("n", ListKeys(room=1_000)) == list("abcde")
        assert store.read("n", GetEntries(("x",), 1)) == []
        assert store.read("n", ListMessages("t", room=1)) == []

    def test_usage_counts_what_is_stored(self, store: Store) -> None:
        new = messages_of("héllo", {"a": 1})
        store.write("n", [put("ké", "v€"), put("b", b"\x00\xff"), Append("s", new), Increment("i", 10), Delete("zz")])
        held = len("ké".encode()) + self.counted('"v€"') + 1 + self.counted(b"\x00\xff") + 1 + self.counted("10")
        usage = store.read("n", GetUsage())
        assert (usage.bytes, usage.writes_today) == (held + self.counted_messages(new), 5)
        assert usage.resets > now()
        store.write("n", [put("ké", "longer value"), Delete("b"), Delete("i"), Forget("s")])
        usage = store.read("n", GetUsage())
        assert (usage.bytes, usage.writes_today) == (len("ké".encode()) + self.counted('"longer value"'), 6)
        store.write("n", [Clear()])
        assert store.read("n", GetUsage()).bytes == store.read("other", GetUsage()).bytes == 0

    def test_a_write_with_a_used_idempotency_key_is_applied_once(self, store: Store) -> None:
        write: list[Operation] = [
            Increment("k"),
            put("l", 1),
            Append("s", messages_of(1)),
            Delete("z"),
            Increment("m", 2**70),
        ]
        first = store.write("n", write, idempotency_key="one")
        store.write("n", [put("l", 2)])
        assert exact(store.write("n", write, idempotency_key="one")) == exact(first)
        assert (entry_of(store, "k").value, entry_of(store, "l").value) == (1, 2)
        assert store.write("n", [Increment("k")], idempotency_key="two") == [2]
        assert store.write("other", [Increment("k")], idempotency_key="one") == [1]

    def test_a_write_with_a_used_idempotency_key_restores_nothing(self, store: Store) -> None:
        append: list[Operation] = [Append("s", messages_of(1, 2))]
        assert store.write("n", append, idempotency_key="popped") == [[1, 2]]
        assert [item.data for item in popped(store, Pop("s"))] == [2]
        assert store.write("n", append, idempotency_key="popped") == [[1, 2]]
        assert data_of(store) == [1]
        other = [*append, put("k", 1)]
        first = store.write("n", other, idempotency_key="forgotten")
        store.write("n", [Forget("s"), Clear()])
        assert store.write("n", other, idempotency_key="forgotten") == first
        assert store.read("n", ListSessions()) == []
        assert store.read("n", ListKeys()) == []

    def test_an_idempotency_key_is_refused_for_a_different_write(self, store: Store) -> None:
        write: list[Operation] = [put("k", 1), Append("s", messages_of(1))]
        first = store.write("n", write, idempotency_key="one")
        others: list[list[Operation]] = [[], [Delete("k")], [put("j", 1), write[1]], [write[0]], [write[1], write[0]]]
        values = [
            put("k", 2),
            put("k", [1]),
            put("k", 1, ttl=9.0),
            put("k", 1, if_version=1),
            put("k", 1, keep_ttl=True),
        ]
        others += [[other, write[1]] for other in values]
        appends = [Append("s", messages_of(1, 2)), Append("t", messages_of(1)), Append("s", messages_of(1))]
        for other in (*others, *([write[0], append] for append in appends)):
            with pytest.raises(InvalidArgument):
                store.write("n", other, idempotency_key="one")
        assert store.write("n", list(write), idempotency_key="one") == first
        assert store.read("n", ListKeys()) == ["k"]
        assert data_of(store) == [1]

    def test_a_key_of_bytes_is_refused_for_a_text(self, store: Store) -> None:
        """These bytes are 1234 in base64."""
        store.write("n", [Put("k", b"\xd7m\xf8")], idempotency_key="one")
        with pytest.raises(InvalidArgument):
            store.write("n", [Put("k", "1234")], idempotency_key="one")

    def test_a_refused_write_leaves_its_key_free(self, store: Store) -> None:
        with pytest.raises(Conflict):
            store.write("n", [put("k", 1, if_version=5)], idempotency_key="one")
        store.write("n", [put("k", 1)], idempotency_key="one")
        assert entry_of(store, "k").value == 1

    def test_increments_at_once(self, store: Store) -> None:
        race(lambda _: [store.write("n", [Increment("k")]) for _ in range(25)])
        assert entry_of(store, "k").value == 25 * WRITERS

    def test_one_winner_of_a_compare_and_set(self, store: Store) -> None:
        for round_ in range(10):
            key = f"k{round_}"

            def claim(writer: int, key: str = key) -> bool:
                try:
                    store.write("n", [put(key, writer, if_version=0)])
                except Conflict:
                    return False
                return True

            won = race(claim)
            assert Counter(won)[True] == 1
            assert entry_of(store, key).value == won.index(True)

    def test_one_effect_of_many_writes_under_a_key(self, store: Store) -> None:
        results = race(lambda _: store.write("n", [Increment("k")], idempotency_key="one"))
        assert results == [[1]] * WRITERS
        assert entry_of(store, "k").value == 1

    def test_a_reader_sees_complete_writes(self, store: Store) -> None:
        store.write("n", [put("a", 0), put("b", 0)])

        def read() -> None:
            a, b = store.read("n", GetEntries(("a", "b")))
            assert a.value == b.value

        with repeating(read):
            for index in range(100):
                store.write("n", [put("a", index), put("b", index)])
