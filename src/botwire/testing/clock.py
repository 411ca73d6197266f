"""The contract of a store under a wall clock that jumps."""

from __future__ import annotations

from typing import Any

import pytest

from ..operations import Append, Clear, Delete, Increment, Retain
from ..queries import CountEntries, GetEntries, GetEntry, GetSession, GetUsage, ListEntries, ListKeys, ListSessions
from ..store import Store
from ..timestamps import now
from .strategies import data_of, entry_of, messages_of, put


class WallClock:
    """A wall clock in microseconds that a test can set."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return now() + self.ahead

    def jump(self, seconds: float) -> None:
        """Move the clock forwards or back."""
        self.ahead += int(seconds * 1_000_000)


class ClockContract:
    """The contract when the wall clock is set back, or far ahead and back. Provide fixtures ``clock`` and ``store``.

    The store uses `clock` as its wall clock: a `WallClock` or another clock that can jump.
    """

    def assert_missing(self, store: Store, key: str) -> None:
        """Fail unless the entry has expired."""
        assert store.read("n", GetEntry(key)) is None
        assert store.read("n", GetEntries((key,))) == []
        assert key not in store.read("n", ListKeys())
        assert key not in [entry.key for entry in store.read("n", ListEntries())]
        assert store.read("n", CountEntries(key)) == 0

    @pytest.mark.parametrize("back", [-1, -5, -30, -3600, -400 * 86_400])
    def test_entries_expired_for_a_reader_do_not_return(self, store: Store, clock: WallClock, back: float) -> None:
        store.write("n", [put("k", 1, ttl=60.0), put("l", 1)])
        clock.jump(60.5)
        self.assert_missing(store, "k")
        clock.jump(back)
        self.assert_missing(store, "k")
        (version,) = store.write("n", [put("k", 2, if_version=0)])
        clock.jump(-back)
        entry = entry_of(store, "k")
        assert (entry.value, entry.version) == (2, version)

    @pytest.mark.parametrize("back", [-5, -3600])
    def test_entries_expired_for_a_writer_do_not_return(self, store: Store, clock: WallClock, back: float) -> None:
        """Also more expired entries than one write deletes."""
        store.write("n", [put(f"k{index}", 1, ttl=60.0) for index in range(500)])
        store.write("other", [put("k", 1, ttl=60.0)])
        clock.jump(61)
        store.write("n", [put("l", 1)])
        clock.jump(back)
        assert store.read("n", ListKeys()) == ["l"]
        assert store.read("other", ListKeys()) == []
        assert store.write("n", [Delete("k499"), Increment("k498"), Clear()]) == [False, 1, 2]
        assert store.read("n", GetUsage()).bytes == 0

    @pytest.mark.parametrize("back", [-5, -3600])
    def test_sessions_expired_for_a_reader_do_not_return(self, store: Store, clock: WallClock, back: float) -> None:
        store.write("n", [Append("s", messages_of(1, 2), ttl=60.0), Append("t", messages_of(1))])
        clock.jump(61)
        assert data_of(store) == []
        clock.jump(back)
        assert data_of(store) == []
        assert store.read("n", GetSession("s")) is None
        assert store.write("n", [Append("s", messages_of(3))]) == [[1]]
        clock.jump(-back)
        assert (data_of(store), data_of(store, "t")) == ([3], [1])

    @pytest.mark.parametrize("back", [-5, -3600, -400 * 86_400])
    def test_sessions_expired_by_a_rule_do_not_return(self, store: Store, clock: WallClock, back: float) -> None:
        store.write("n", [Append(name, messages_of(1)) for name in ("a/s", "b/s", "b/kept/s", "c")])
        store.write("n", [Retain("a/", idle=60.0), Retain("b/", age=60.0), Retain("b/kept/", idle=1e6, age=1e6)])
        store.write("other", [Append("a/s", messages_of(1)), Retain("", idle=1e6)])
        bytes_of_session = store.read("n", GetUsage()).bytes // 4
        clock.jump(61)
        assert [data_of(store, name) for name in ("a/s", "b/s", "b/kept/s", "c")] == [[], [], [1], [1]]
        clock.jump(back)
        for _ in range(2):
            assert [data_of(store, name) for name in ("a/s", "b/s", "b/kept/s", "c")] == [[], [], [1], [1]]
            assert {session.name for session in store.read("n", ListSessions())} == {"b/kept/s", "c"}
            assert data_of(store, namespace="other", session="a/s") == [1]
            store.write("n", [put("k", 1)])
        assert store.read("n", GetUsage()).bytes == 1 + 1 + 2 * bytes_of_session
        assert store.write("n", [Append("a/s", messages_of(2))]) == [[1]]
        assert data_of(store, "a/s") == [2]

    @pytest.mark.parametrize("back", [-5, -3600, -400 * 86_400])
    def test_nothing_is_lost_when_the_clock_is_set_back(self, store: Store, clock: WallClock, back: float) -> None:
        store.write("n", [put("k", 1, ttl=60.0), put("l", 1), Append("s", messages_of(1, 2))])
        usage = store.read("n", GetUsage())
        clock.jump(back)
        assert store.read("n", ListKeys()) == ["k", "l"]
        assert store.write("n", [put("m", 1, ttl=60.0), Append("s", messages_of(3))])[1] == [3]
        assert store.read("n", ListKeys()) == ["k", "l", "m"]
        assert data_of(store) == [1, 2, 3]
        assert store.read("n", GetUsage()).writes_today == usage.writes_today + 2
        clock.jump(70)
        assert store.read("n", GetEntry("m")) is None

    def test_a_clock_ten_years_ahead_does_not_affect_later_writes(self, store: Store, clock: WallClock) -> None:
        """Later writes live as long as they should, and no plan blocks a client."""
        years = 10 * 366 * 86_400
        store.write("n", [put("l", 1), put("k", 1, ttl=60.0)])
        clock.jump(years)
        store.write("n", [put("m", 1), put("ahead", 1, ttl=60.0)])
        self.assert_missing(store, "k")
        clock.jump(-years)
        self.assert_missing(store, "k")
        assert store.read("n", ListKeys()) == ["ahead", "l", "m"]
        store.write("n", [put("n", 1, ttl=60.0), put("o", 1)])
        assert entry_of(store, "n").updated <= clock()
        usage = store.read("n", GetUsage())
        assert usage.writes_today == 4
        assert usage.resets <= clock() + 2 * 86_400_000_000
        assert store.read("n", ListKeys()) == ["ahead", "l", "m", "n", "o"]
        clock.jump(61)
        self.assert_missing(store, "n")

    def test_the_writes_of_a_day_are_not_granted_twice(self, store: Store, clock: WallClock) -> None:
        store.write("n", [put("k", 1), put("l", 1)])
        for jump in (-3600, -86_400, -86_400, 3600):
            clock.jump(jump)
            before = store.read("n", GetUsage()).writes_today
            store.write("n", [put("k", 1)])
            assert store.read("n", GetUsage()).writes_today == before + 1
        assert store.read("n", GetUsage()).writes_today == 6
        clock.jump(3 * 86_400)
        assert store.read("n", GetUsage()).writes_today == 0

    @pytest.mark.parametrize("jump", [-86_400, 86_400, 10 * 366 * 86_400])
    def test_idempotency_records_are_kept(self, store: Store, clock: WallClock, jump: float) -> None:
        assert store.write("n", [Increment("k")], idempotency_key="one") == [1]
        for name, seconds in (("other", jump), ("another", -jump)):
            clock.jump(seconds)
            for index in range(200):
                store.write("n", [Increment("others")], idempotency_key=f"{name} {index}")
            assert store.write("n", [Increment("k")], idempotency_key="one") == [1]
        assert store.write("n", [Increment("others")], idempotency_key="other 0") == [1]

    def test_versions_and_sequence_numbers_continue(self, store: Store, clock: WallClock) -> None:
        versions: list[Any] = []
        for index, jump in enumerate((0, 3600, -7200, 10**8, -(10**8), -5, 5), 1):
            clock.jump(jump)
            version, seqs = store.write("n", [put("k", index), Append("s", messages_of(index))])
            versions.append(version)
            assert seqs == [index]
        assert versions == sorted(set(versions))
        assert data_of(store) == list(range(1, 8))
