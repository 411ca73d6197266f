"""The contract of watching as a test class: the changes that every store must deliver."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ..errors import ChangesLost, Conflict, InvalidValue
from ..operations import Append, Clear, Delete, Forget, Increment, Operation, Pop, Put
from ..queries import GetEntry, ListChanges, ListEntries, ListMessages, ListSessions
from ..records import Change
from ..store import Feed, Store
from ..timestamps import new_id
from .strategies import Generated, exact, messages_of, operations_on, put

TOO_MANY = 2_400
"""This number of changes, with the longest keys, exceeds the journal of a namespace."""


class Copy:
    """A copy to which every delivered change is applied."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.sessions: dict[str, list[tuple[str, Any]]] = {}
        self.version = 0

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            assert change.version > self.version
            self.version = change.version
            match change.kind:
                case "set":
                    assert change.entry is not None
                    assert change.key == change.entry.key
                    self.entries[change.entry.key] = exact(change.value)
                case "delete" | "expire":
                    self.entries.pop(str(change.key), None)
                case "clear":
                    for key in [key for key in self.entries if key.startswith(str(change.prefix))]:
                        del self.entries[key]
                case "append":
                    assert change.message is not None
                    log = self.sessions.setdefault(str(change.session), [])
                    assert change.message.seq == len(log) + 1
                    log.append((change.message.id, exact(change.value)))
                case "pop":
                    del self.sessions.get(str(change.session), [])[change.left :]

    def follow(self, feed: Feed) -> None:
        self.apply(delivered(feed))

    def check(self, store: Store, namespace: str) -> None:
        assert self.entries == _entries(store, namespace)
        logs = {
            session.name: [(item.id, exact(item.data)) for item in store.read(namespace, ListMessages(session.name))]
            for session in store.read(namespace, ListSessions())
        }
        assert {name: log for name, log in self.sessions.items() if log} == logs


def _entries(store: Store, namespace: str) -> dict[str, Any]:
    return {entry.key: exact(entry.value) for entry in store.read(namespace, ListEntries())}


def delivered(feed: Feed) -> list[Change]:
    """Return all available changes."""
    changes: list[Change] = []
    while found := feed.next(0).changes:
        changes += found
    return changes


def shown(changes: list[Change]) -> list[tuple[Any, ...]]:
    """Return the compared facts of changes."""
    return [
        (change.kind, change.key if change.prefix is None else change.prefix, change.value)
        if change.session is None
        else (change.kind, change.session, change.value if change.left is None else change.left)
        for change in changes
    ]


class WatchContract(Generated):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    @contextmanager
    def feed(self, store: Store, after: int | None = 0, **query: Any) -> Iterator[Feed]:
        """Watch the test namespace."""
        with closing(store.changes("n", ListChanges(after, **query))) as feed:
            yield feed

    def delivered(self, store: Store, after: int = 0, **query: Any) -> list[Change]:
        """Return the changes of the test namespace."""
        with self.feed(store, after, **query) as feed:
            return delivered(feed)

    def test_every_kind_of_change(self, store: Store) -> None:
        store.write("n", [put("a", 1), put("b", b"x"), Increment("c", 2)])
        store.write("n", [Append("s", messages_of("one", {"two": 2}))])
        store.write("n", [Append("s", messages_of("three")), Append("t", messages_of("else"))])
        store.write("n", [Delete("b"), Delete("none"), Clear("c"), Pop("s", 1), Pop("s", 0), Forget("t"), Forget("u")])
        changes = self.delivered(store)
        assert shown(changes) == [
            ("set", "a", 1),
            ("append", "s", "one"),
            ("append", "s", {"two": 2}),
            ("delete", "b", None),
            ("clear", "c", None),
            ("pop", "s", 2),
            ("pop", "t", 0),
        ]
        versions = [change.version for change in changes]
        assert versions == sorted(set(versions))
        (entry,) = [change.entry for change in changes if change.entry]
        assert entry == store.read("n", GetEntry("a"))
        assert [change.message for change in changes if change.message] == store.read("n", ListMessages("s"))

    def test_large_messages_of_one_append(self, store: Store) -> None:
        """A read ends by its bytes in the middle of them, and the next one continues there."""
        large = [letter * 700_000 for letter in "abcde"]
        store.write("n", [Append("s", messages_of(*large)), put("k", 1)])
        with self.feed(store) as feed:
            found = feed.next(0).changes
            assert 0 < len(found) < 6
            assert [change.value for change in found + delivered(feed)] == [*large, 1]

    def test_from_now_on(self, store: Store) -> None:
        store.write("n", [put("a", 1)])
        with self.feed(store, None) as feed, self.feed(store, None) as late:
            version = feed.begin()
            assert feed.begin() == version
            store.write("n", [put("b", 2)])
            assert shown(delivered(feed)) == [("set", "b", 2)]
            late.begin()
            assert delivered(late) == []
            assert feed.begin() > version
        with closing(store.changes("never", ListChanges())) as feed:
            assert feed.begin() == 0
            store.write("never", [put("a", 1)])
            assert shown(delivered(feed)) == [("set", "a", 1)]

    def test_resuming_after_each_change(self, store: Store) -> None:
        store.write("n", [put(f"k{number}", number) for number in range(5)])
        store.write("n", [Append("s", messages_of(*range(130)))])
        store.write("n", [Append("s", messages_of(130)), Append("t", messages_of(1)), put("l", 1)])
        changes = self.delivered(store)
        assert len(changes) == 138
        for index in (0, 1, 5, 6, 60, 134, 135, 136, 137):
            assert self.delivered(store, changes[index].version) == changes[index + 1 :]

    def test_with_what_is_stored_by_then(self, store: Store) -> None:
        for number in range(5):
            store.write("n", [put("k", number), put(f"k{number}", number)])
        store.write("n", [Append("s", messages_of("a", "b", "c"))])
        store.write("n", [Pop("s", 2), Append("s", messages_of("d"))])
        changes = self.delivered(store)
        assert shown(changes) == [
            *[("set", f"k{number}", number) for number in range(4)],
            ("set", "k", 4),
            ("set", "k4", 4),
            ("append", "s", "a"),
            ("pop", "s", 1),
            ("append", "s", "d"),
        ]

    def test_only_a_prefix_or_a_session(self, store: Store) -> None:
        store.write("n", [put(key, 1) for key in ("a/1", "a/1x", "b/1", "b/2")])
        store.write("n", [Append("s", messages_of("s")), Append("a/", messages_of("t"))])
        store.write(
            "n", [Delete("b/1"), Clear("a/1x"), Clear("b"), Clear("a"), Forget("s"), Forget("a/"), put("a/2", 2)]
        )
        both = [("delete", "b/1", None), ("clear", "b", None), ("pop", "s", 0)]
        of_prefix = [("clear", "a/1x", None), ("clear", "a", None), ("set", "a/2", 2)]
        assert shown(self.delivered(store, prefix="a/")) == of_prefix
        assert shown(self.delivered(store, session="s")) == both[2:]
        assert shown(self.delivered(store, session="s", prefix="b/")) == both
        with self.feed(store, session="none") as feed:
            found = feed.next(0)
        assert found.changes == self.delivered(store, found.version) == []

    def test_a_refused_write_is_not_delivered(self, store: Store) -> None:
        store.write("n", [put("a", 1)])
        with self.feed(store, None) as feed:
            feed.begin()
            with pytest.raises(Conflict):
                store.write("n", [put("b", 1), Append("s", messages_of(1)), put("a", 2, if_version=0)])
            (one,) = messages = messages_of(1)
            store.write("n", [Append("s", messages)])
            store.write("n", [Append("s", (one,))])
            assert shown(delivered(feed)) == [("append", "s", 1)]

    def test_an_expiry_is_delivered_without_a_write(self, store: Store) -> None:
        with self.feed(store, None) as feed:
            feed.begin()
            many = [put(f"c{number}", number, ttl=0.5) for number in range(150)]
            store.write("n", [put("a", 1, ttl=0.5), put("b", 2, ttl=60.0), *many])
            copy, expired = Copy(), set[str | None]()
            until = time.monotonic() + 50
            # A slow reader may see that a key expired before it has seen all values.
            while len(expired) < 151 and time.monotonic() < until:
                found = feed.next(5).changes
                assert {change.kind for change in found} <= {"set", "expire"}
                expired |= {change.key for change in found if change.kind == "expire"}
                copy.apply(found)
            assert len(expired) == 151
            assert list(copy.entries) == ["b"]

    def test_it_waits(self, store: Store) -> None:
        with self.feed(store, None) as feed:
            feed.begin()
            before = time.monotonic()
            assert feed.next(0.2).changes == []
            assert 0.2 <= time.monotonic() - before < 2
            later = threading.Timer(0.2, lambda: store.write("n", [put("a", 1)]))
            later.start()
            assert shown(feed.next(10).changes) == [("set", "a", 1)]
            assert time.monotonic() - before < 3
            later.join()
            store.write("other", [put("a", 1)])
            assert feed.next(0.05).changes == []

    def test_resuming_too_late(self, store: Store) -> None:
        store.write("n", [put("first", 1)])
        with self.feed(store, None) as feed:
            old = feed.begin()
        half = TOO_MANY // 2
        for start in (0, half):
            store.write("n", [Put(f"{number:0500}", "1") for number in range(start, start + half)])
        with self.feed(store, old) as feed, pytest.raises(ChangesLost, match="Read everything again") as caught:
            feed.next(0)
        now = caught.value.details["version"]
        with self.feed(store, now + 1) as feed, pytest.raises(ChangesLost):
            feed.next(0)
        assert len(self.delivered(store, now - half // 2)) == half // 2
        with self.feed(store, None) as feed:
            assert feed.begin() == now

    def test_many_writers_and_a_copy(self, store: Store) -> None:
        """Watchers from different versions end with an identical copy, while other clients write."""
        writers, writes = 4, 40
        with self.feed(store, None) as feed:
            feed.begin()
            copy, late = Copy(), Copy()

            def write(writer: int) -> None:
                for number in range(writes):
                    key = f"k{number % 7}"
                    store.write("n", [put(key, [writer, number]), Append(f"s{number % 3}", messages_of(number))])
                    if number % 5 == 4:
                        store.write("n", [Delete(key), Pop(f"s{number % 3}")])
                    if number % 20 == 19:
                        store.write("n", [Clear("k1"), Forget("s0")])

            with ThreadPoolExecutor(writers) as threads:
                done = [threads.submit(write, writer) for writer in range(writers)]
                while not all(future.done() for future in done):
                    copy.apply(feed.next(0.1).changes)
            for future in done:
                future.result()
            copy.follow(feed)
        copy.check(store, "n")
        with self.feed(store) as feed:
            late.follow(feed)
        late.check(store, "n")

    def test_a_copy_is_always_the_same(self, store: Store) -> None:
        self.run(_machine_of(store))


_KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "é", "k" * 400])
_DATA = st.lists(st.integers(), max_size=3) | st.integers(1, 70).map(lambda count: list(range(count)))
_OPERATIONS = operations_on(_KEYS, st.sampled_from(["s", "t"]), st.integers() | st.text(max_size=3), _DATA)


def _machine_of(store: Store) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.steady, self.coming = Copy(), Copy()
            self.feed = store.changes(self.namespace, ListChanges(0))

        @rule(some=st.lists(_OPERATIONS, min_size=1, max_size=8))
        def write(self, some: list[Operation]) -> None:
            with suppress(InvalidValue):  # an increment of a text
                store.write(self.namespace, some)

        @rule(key=_KEYS)
        def expire(self, key: str) -> None:
            store.write(self.namespace, [put(key, 0, ttl=0.001)])
            time.sleep(0.002)

        @rule()
        def resume(self) -> None:
            with closing(store.changes(self.namespace, ListChanges(self.coming.version, limit=7))) as feed:
                self.coming.follow(feed)
            self.coming.entries = {k: v for k, v in self.coming.entries.items() if v != "0"}  # they may have expired
            assert self.coming.entries == {k: v for k, v in _entries(store, self.namespace).items() if v != "0"}

        @invariant()
        def same(self) -> None:
            self.steady.follow(self.feed)
            expired = [key for key in self.steady.entries if store.read(self.namespace, GetEntry(key)) is None]
            while self.steady.entries.keys() & set(expired):  # not deleted yet
                self.steady.apply(self.feed.next(2).changes)
            self.steady.check(store, self.namespace)

        def teardown(self) -> None:
            self.feed.close()

    return Machine
