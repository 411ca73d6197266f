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

from ..errors import ChangesLost, Conflict, InvalidArgument, InvalidValue
from ..operations import (
    Append,
    Clear,
    Delete,
    Destroy,
    Edit,
    Forget,
    Fork,
    Increment,
    Operation,
    Pop,
    Put,
    Replace,
    Retain,
    SetExpiry,
    Summarize,
)
from ..queries import (
    GetContext,
    GetEntry,
    GetSession,
    ListChanges,
    ListEntries,
    ListMessages,
    ListSessions,
)
from ..records import About, Change, Message, Session
from ..store import Feed, Store
from ..timestamps import new_id
from .strategies import Generated, about_of, exact, messages_of, operations_on, put

TOO_MANY = 2_400
"""This number of changes, with the longest keys, exceeds the journal of a namespace."""


class Copy:
    """A copy to which every delivered change is applied.

    A change of what is known about a session, or of its summary, says only that: the copy reads it again.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self.entries: dict[str, Any] = {}
        self.sessions: dict[str, list[tuple[str, Any]]] = {}
        self.abouts: dict[str, Any] = {}
        self.summaries: dict[str, Any] = {}
        self.version = 0

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            assert change.version > self.version
            self.version = change.version
            if change.session is not None:
                self._apply_to_session(change, change.session)
                continue
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

    def _apply_to_session(self, change: Change, name: str) -> None:
        log = self.sessions.setdefault(name, [])
        match change.kind:
            case "append":
                assert change.message is not None
                assert change.message.seq == len(log) + 1
                log.append(_fact(change.message))
            case "edit":
                assert change.message is not None
                if change.message.seq <= len(log):  # or another client has popped it, and appended another one
                    log[change.message.seq - 1] = _fact(change.message)
            case "pop":
                del log[change.left :]
            case "expire":
                log.clear()
        if change.kind in {"about", "pop", "expire"}:
            self.abouts[name] = _about(self._store.read(self._namespace, GetSession(name)))
        if change.kind in {"summary", "pop", "expire", "edit"}:
            self.summaries[name] = _summary(self._store, self._namespace, name)

    def follow(self, feed: Feed) -> None:
        self.apply(delivered(feed))

    def read_again(self, version: int) -> None:
        """Begin again with all that the store has, at a version."""
        self.entries, (self.sessions, self.abouts, self.summaries) = self._entries(), self._sessions()
        self.version = version

    def missing(self) -> list[str]:
        """Return what the copy has and the store has not."""
        keys = [key for key in self.entries if self._store.read(self._namespace, GetEntry(key)) is None]
        sessions = [name for name in self.sessions if self.sessions[name] or self.abouts.get(name)]
        return keys + [name for name in sessions if self._store.read(self._namespace, GetSession(name)) is None]

    def check(self) -> None:
        assert self.entries == self._entries()
        sessions, abouts, summaries = self._sessions()
        assert {name: log for name, log in self.sessions.items() if log} == sessions
        assert {name: about for name, about in self.abouts.items() if about} == abouts
        assert {name: summary for name, summary in self.summaries.items() if summary} == summaries

    def _entries(self) -> dict[str, Any]:
        return _entries(self._store, self._namespace)

    def _sessions(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return messages, abouts and summaries of those sessions that have any."""
        logs, abouts, summaries = {}, {}, {}
        for session in self._store.read(self._namespace, ListSessions()):
            messages = self._store.read(self._namespace, ListMessages(session.name))
            logs[session.name] = list(map(_fact, messages))
            abouts[session.name] = _about(session)
            summaries[session.name] = _summary(self._store, self._namespace, session.name)
        return _without_empty(logs), _without_empty(abouts), _without_empty(summaries)


def _without_empty(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact}


def _fact(message: Message) -> tuple[Any, ...]:
    return message.id, exact(message.data), message.created, message.edited, message.redacted


def _about(session: Session | None) -> Any:
    about = About() if session is None else session.about
    expires = None if session is None else session.expires
    return None if not about.version and expires is None else (about, expires)


def _summary(store: Store, namespace: str, name: str) -> Any:
    context = store.read(namespace, GetContext(name, 0))
    return context.summarized and (context.summarized, context.summary)


def _entries(store: Store, namespace: str) -> dict[str, Any]:
    return {entry.key: exact(entry.value) for entry in store.read(namespace, ListEntries())}


def delivered(feed: Feed) -> list[Change]:
    """Return all available changes."""
    changes: list[Change] = []
    while found := feed.next(0).changes:
        changes += found
    return changes


def follow_or_read_again(copy: Copy, feed: Feed) -> None:
    """Apply all available changes, or read everything again if some are no longer kept."""
    try:
        copy.follow(feed)
    except ChangesLost as error:
        copy.read_again(error.details["version"])


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

    def test_every_kind_of_change_of_a_conversation(self, store: Store) -> None:
        new = messages_of("a", "b", "c")
        writes: list[tuple[Operation, list[Any]]] = [
            (Append("s", new), [("append", "s", "a"), ("append", "s", "b"), ("append", "s", "c")]),
            (Edit("s", 2, '"B"'), [("edit", "s", "B")]),
            (Edit("s", 3, '"[redacted]"', redacted="law"), [("edit", "s", "[redacted]")]),
            (about_of("s", "title", "ada"), [("about", "s", None)]),
            (Summarize("s", 1, '["so far"]'), [("summary", "s", None)]),
            (
                Fork("s", "t", 2),
                [("append", "t", "a"), ("append", "t", "B"), ("about", "t", None), ("summary", "t", None)],
            ),
            (Replace("t", messages_of("x", "y"), 1), [("pop", "t", 1), ("append", "t", "x"), ("append", "t", "y")]),
            (SetExpiry("s", 600.0), [("about", "s", None)]),
            (SetExpiry("never", 600.0), []),
            (Retain("", 6_000.0), []),
            (Summarize("s", 0, "[]"), [("summary", "s", None)]),
            (Append("s", new), []),
            (Forget("s"), [("pop", "s", 0)]),
        ]
        with self.feed(store, None) as feed, self.feed(store, None, session="t") as of_t, self.feed(store) as all_:
            feed.begin()
            of_t.begin()
            for operation, wanted in writes:
                store.write("n", [operation])
                found = delivered(feed)
                assert shown(found) == wanted, operation
                for change in found:
                    if change.message is not None:
                        (now_stored,) = store.read("n", ListMessages(str(change.session), change.message.seq - 1, 1))
                        assert change.message == now_stored
            assert {change.session for change in delivered(of_t)} == {"t"}
            copy = Copy(store, "n")
            copy.follow(all_)
            copy.check()
        assert shown(self.delivered(store, prefix="s")) == []

    def test_an_edited_message_is_delivered_as_it_is_by_then(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a", "b", "c"))])
        store.write("n", [Edit("s", 1, '"A"'), Edit("s", 3, '"C"'), Edit("s", 1, '"AA"')])
        store.write("n", [Pop("s", 1), Append("s", messages_of("d"))])
        found = shown(self.delivered(store))
        assert ("append", "s", "a") not in found
        assert {change[2] for change in found if change[0] in {"append", "edit"}} == {"AA", "b", "d"}
        copy = Copy(store, "n")
        with self.feed(store) as feed:
            copy.follow(feed)
        copy.check()
        middle = self.delivered(store)[1].version
        assert all(change.version > middle for change in self.delivered(store, middle))

    def test_no_edit_of_a_message_that_was_popped_is_delivered(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a", "b"))])
        for text in ("c", "d", "e"):
            store.write("n", [Append("s", messages_of(text)), Edit("s", 3, f'"{text * 2}"'), Pop("s", 1)])
        store.write("n", [Append("s", messages_of("f")), Edit("s", 3, '"ff"')])
        store.write("n", [Append("t", messages_of("g")), Edit("t", 1, '"gg"'), Forget("t")])
        store.write("n", [Append("t", messages_of("h")), Edit("t", 1, '"hh"')])
        found = self.delivered(store)
        for name, text in (("s", "ff"), ("t", "hh")):
            last = [change for change in found if change.session == name and change.message][-2:]
            assert shown(last) == [("append", name, text), ("edit", name, text)]
            assert [change.kind for change in found if change.value == text] == ["append", "edit"]

    def test_a_redacted_text_is_delivered_to_no_one(self, store: Store) -> None:
        """Also to a watcher that resumes from before."""
        store.write("n", [Append("s", messages_of("a secret", "b")), about_of("s", "title")])
        store.write("n", [Edit("s", 1, '"[redacted]"', redacted="")])
        for after in range(5):
            assert "a secret" not in str(shown(self.delivered(store, after)))

    def test_an_expiry_of_a_session_is_delivered_without_a_write(self, store: Store) -> None:
        with self.feed(store, None) as feed:
            feed.begin()
            store.write("n", [Append(name, messages_of(1, 2)) for name in ("s", "t", "u/1", "v")])
            store.write("n", [about_of("s", "title"), SetExpiry("s", 0.3), SetExpiry("t", 600.0)])
            store.write("n", [Retain("u/", 0.3)])
            copy, expired = Copy(store, "n"), set[str | None]()
            until = time.monotonic() + 50
            while expired != {"s", "u/1"} and time.monotonic() < until:
                found = feed.next(5).changes
                expired |= {change.session for change in found if change.kind == "expire"}
                assert all(change.key is None for change in found)
                copy.apply(found)
            assert expired == {"s", "u/1"}
            copy.check()
            store.write("n", [Append("s", messages_of("new"))])
            copy.follow(feed)
            copy.check()
        late = Copy(store, "n")
        with self.feed(store) as feed:
            late.follow(feed)
        late.check()

    def test_a_destroyed_namespace(self, store: Store) -> None:
        """A watcher that is up to date may receive each deletion. One that resumes later has lost changes."""
        store.write("n", [put("k", 1), Append("s", messages_of(1, 2)), about_of("s", "title")])
        copy, late = Copy(store, "n"), Copy(store, "n")
        with self.feed(store) as feed:
            copy.follow(feed)
            late.follow(feed)
            store.write("n", [Destroy()])
            follow_or_read_again(copy, feed)
        copy.check()
        version = copy.version
        store.write("n", [put("l", 1), Append("s", messages_of(3))])
        for follower in (copy, late):
            with self.feed(store, follower.version) as feed:
                follow_or_read_again(follower, feed)
            follower.check()
        assert copy.version > version

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
            copy, expired = Copy(store, "n"), set[str | None]()
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
            copy, late = Copy(store, "n"), Copy(store, "n")

            def write(writer: int) -> None:
                for number in range(writes):
                    key = f"k{number % 7}"
                    store.write("n", [put(key, [writer, number]), Append(f"s{number % 3}", messages_of(number))])
                    if number % 5 == 4:
                        store.write("n", [Delete(key), Pop(f"s{number % 3}")])
                    if number % 20 == 19:
                        store.write("n", [Clear("k1"), Forget("s0")])
                    with suppress(Conflict, InvalidArgument):  # others may have deleted the session
                        store.write("n", [Edit(f"s{number % 3}", 1, str(number)), about_of("s1", str(number))])
                        store.write("n", [Summarize(f"s{number % 3}", 1, f"[{number}]")])
                        store.write("n", [Replace(f"s{number % 3}", messages_of(number), 2)])
                        store.write("n", [Fork(f"s{number % 3}", f"fork {writer} {number % 4}")])

            with ThreadPoolExecutor(writers) as threads:
                done = [threads.submit(write, writer) for writer in range(writers)]
                while not all(future.done() for future in done):
                    copy.apply(feed.next(0.1).changes)
            for future in done:
                future.result()
            copy.follow(feed)
        copy.check()
        with self.feed(store) as feed:
            late.follow(feed)
        late.check()

    def test_a_copy_is_always_the_same(self, store: Store) -> None:
        self.run(_machine_of(store))


_KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "é", "k" * 400])
_DATA = st.lists(st.integers(), max_size=3) | st.integers(1, 70).map(lambda count: list(range(count)))
_SESSIONS = st.sampled_from(["s", "t", "s copy"])
_OPERATIONS = operations_on(_KEYS, st.sampled_from(["s", "t"]), st.integers() | st.text(max_size=3), _DATA)


def _machine_of(store: Store) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.namespace = new_id()
            self.steady, self.coming = (Copy(store, self.namespace) for _ in range(2))
            self.feed = store.changes(self.namespace, ListChanges(0))

        @rule(some=st.lists(_OPERATIONS, min_size=1, max_size=8))
        def write(self, some: list[Operation]) -> None:
            with suppress(InvalidValue, InvalidArgument, Conflict):  # such as an increment of a text
                store.write(self.namespace, some)

        @rule(operation=_OPERATIONS)
        def write_one(self, operation: Operation) -> None:
            self.write([operation])

        @rule(key=_KEYS)
        def expire(self, key: str) -> None:
            store.write(self.namespace, [put(key, 0, ttl=0.001)])
            time.sleep(0.002)

        @rule(session=_SESSIONS)
        def expire_session(self, session: str) -> None:
            store.write(self.namespace, [SetExpiry(session, 0.001)])
            time.sleep(0.002)

        @rule(often=st.integers(0, 3))
        def destroy(self, often: int) -> None:
            if not often:
                store.write(self.namespace, [Destroy()])

        @rule()
        def resume(self) -> None:
            with closing(store.changes(self.namespace, ListChanges(self.coming.version, limit=7))) as feed:
                follow_or_read_again(self.coming, feed)
            self.coming.entries = {k: v for k, v in self.coming.entries.items() if v != "0"}  # they may have expired
            assert self.coming.entries == {k: v for k, v in _entries(store, self.namespace).items() if v != "0"}
            for name, log in self.steady.sessions.items():
                assert self.coming.sessions.get(name, []) == log or store.read(self.namespace, GetSession(name)) is None

        @invariant()
        def same(self) -> None:
            try:
                self.steady.follow(self.feed)
                while missing := self.steady.missing():
                    found = self.feed.next(2).changes  # not deleted yet
                    assert found, missing
                    self.steady.apply(found)
            except ChangesLost as error:
                self.steady.read_again(error.details["version"])
                self.feed.close()
                self.feed = store.changes(self.namespace, ListChanges(self.steady.version))
            self.steady.check()

        def teardown(self) -> None:
            self.feed.close()

    return Machine
