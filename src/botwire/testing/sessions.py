"""The contract of sessions as a test class: what is known about them, lists, expiry, retention, and deleting a namespace."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any, cast

import pytest

from ..errors import Conflict, InvalidArgument
from ..limits import MAX_RULES
from ..operations import (
    Append,
    Clear,
    Delete,
    Destroy,
    Edit,
    Forget,
    Fork,
    Operation,
    Pop,
    Replace,
    Retain,
    SetExpiry,
    Summarize,
)
from ..queries import (
    CountMessages,
    GetContext,
    GetRetention,
    GetSession,
    GetUsage,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    Order,
    Query,
)
from ..records import About, Context, Rule, Session
from ..store import Store
from ..timestamps import now
from .strategies import (
    AWKWARD_NAMES,
    WRITERS,
    Counted,
    about_of,
    data_of,
    message_of,
    messages_of,
    names,
    popped,
    put,
    race,
    refused,
    repeating,
    session_of,
    snapshot,
)

ORDERS: tuple[Order, ...] = ("active", "created")


def names_of(sessions: Iterable[Session]) -> list[str]:
    """Return the names of sessions."""
    return [session.name for session in sessions]


class SessionContract(Counted):
    """Provide a fixture ``store`` that yields an empty store; every test must pass."""

    def listed(self, store: Store, namespace: str = "n", **options: Any) -> list[str]:
        """Return the names of the sessions of a list."""
        sessions = store.read(namespace, ListSessions(**options))
        return names_of(sessions)

    def pages(self, store: Store, limit: int, **options: Any) -> list[str]:
        """Return the names of the sessions of a list, read in pages."""
        found: list[str] = []
        after = ""
        while page := store.read("n", ListSessions(after=after, limit=limit, **options)):
            assert len(page) <= limit
            found += names_of(page)
            after = page[-1].cursor
        return found

    # What is known about a session

    def test_get_session(self, store: Store) -> None:
        assert store.read("n", GetSession("s")) is None
        before = now()
        store.write("n", [Append("s", messages_of("a", "b"))])
        after = now()
        session = session_of(store)
        assert (session.name, session.messages, session.about, session.origin) == ("s", 2, About(), None)
        assert before <= session.created <= session.updated <= after
        assert (session.expires, session.summarized, session.preview) == (None, 0, None)
        assert store.read("n", ListSessions()) == [session]
        with_preview = session_of(store, preview=True)
        assert with_preview.preview == message_of(store, 2)
        assert store.read("n", ListSessions(preview=True)) == [with_preview]
        assert store.read("other", GetSession("s")) is None

    def test_about(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a"))])
        before = session_of(store)
        data = {"plan": "pro", "n": [1, None, 2.5], "é": {"🤖": True}}
        (version,) = store.write("n", [about_of("s", "A title é 🤖", "ada", ("red", "é", "blue"), data)])
        about = session_of(store).about
        assert (about.title, about.owner, about.tags, about.data) == ("A title é 🤖", "ada", ("red", "é", "blue"), data)
        assert about.version == version
        assert session_of(store).updated == before.updated  # a new title is no activity
        (again,) = store.write("n", [about_of("s", tags=("green",))])
        about = session_of(store).about
        assert (about.title, about.owner, about.tags, about.data) == (None, None, ("green",), {})
        assert about.version == again
        assert cast("int", again) > cast("int", version)
        assert data_of(store) == ["a"]
        assert store.write("n", [Append("s", messages_of("b"))]) == [[2]]
        assert session_of(store).about == about
        store.write("n", [about_of("s")])
        about = session_of(store).about
        assert (about.title, about.owner, about.tags, about.data) == (None, None, (), {})

    def test_about_only_what_is_expected(self, store: Store) -> None:
        store.write("n", [Append("s", messages_of("a"))])
        refused(store, Conflict, about_of("s", "x", if_version=1), version=0)
        refused(store, Conflict, about_of("never", "x", if_version=1), version=0)
        (version,) = store.write("n", [about_of("s", "one", if_version=0)])
        assert isinstance(version, int)
        for wrong in (0, version - 1, version + 1):
            refused(store, Conflict, about_of("s", "two", if_version=wrong), version=version)
        (again,) = store.write("n", [about_of("s", "two", if_version=version)])
        refused(store, Conflict, about_of("s", "three", if_version=version), version=again)
        assert session_of(store).about.title == "two"

    def test_about_a_new_session(self, store: Store) -> None:
        before = now()
        store.write("n", [about_of("s", "A title", if_version=0)])
        session = session_of(store, preview=True)
        assert (session.messages, session.about.title, session.preview) == (0, "A title", None)
        assert before <= session.created <= now()
        assert self.listed(store) == ["s"]
        assert (data_of(store), store.read("n", CountMessages("s"))) == ([], 0)
        assert popped(store, Pop("s")) == []
        assert store.write("n", [Append("s", messages_of("a"), if_last=0)]) == [[1]]
        assert session_of(store).about == session.about
        assert [item.data for item in popped(store, Pop("s"))] == ["a"]
        assert session_of(store).about == session.about
        assert store.write("n", [Forget("s")]) == [0]
        assert store.read("n", GetSession("s")) is None
        assert store.read("n", GetUsage()).bytes == 0

    def test_awkward_owners_tags_and_sessions(self, store: Store) -> None:
        for name in AWKWARD_NAMES:
            store.write("n", [about_of(name, name, name, (name, "all"))])
        for name in AWKWARD_NAMES:
            about = session_of(store, name).about
            assert (about.title, about.owner, about.tags) == (name, name, (name, "all"))
            assert self.listed(store, tag=name) == self.listed(store, where={"owner": name}) == [name]
            assert name in self.listed(store, prefix=name)
        assert len(self.listed(store, tag="all")) == len(AWKWARD_NAMES)

        def check(name: str) -> None:
            store.write("names", [about_of(name, owner=name, tags=(name,)), SetExpiry(name, 600.0)])
            assert self.listed(store, "names", prefix=name, tag=name, where={"owner": name}) == [name]
            assert store.write("names", [Forget(name)]) == [0]

        self.for_all(names, check)

    # Lists

    def test_sessions_in_two_orders(self, store: Store) -> None:
        for name in "abcde":
            store.write("n", [Append(name, messages_of(1, 2, 3))])
        assert self.listed(store) == self.listed(store, order="created") == list("edcba")
        activity: list[tuple[str, Operation]] = [
            ("b", Append("b", messages_of(4))),
            ("a", Edit("a", 1, "0")),
            ("e", Pop("e")),
            ("c", Replace("c", messages_of(4), 2)),
        ]
        wanted = list("edcba")
        for name, operation in activity:
            store.write("n", [operation])
            wanted = [name, *(other for other in wanted if other != name)]
            assert self.listed(store) == wanted
            assert self.listed(store, limit=2) == wanted[:2]
            assert self.pages(store, 2, order="active") == wanted
        store.write("n", [about_of("d", "a title"), SetExpiry("d", 600.0)])
        assert self.listed(store) == wanted
        found = store.read("n", ListSessions())
        assert [session.updated for session in found] == sorted((session.updated for session in found), reverse=True)
        assert self.listed(store, order="created") == self.pages(store, 2, order="created") == list("edcba")
        store.write("n", [Forget("d"), Append("f", messages_of(1))])
        store.write("n", [Append("d", messages_of(1))])
        assert self.listed(store, order="created") == list("dfecba")
        assert self.listed(store)[:2] == ["d", "f"]
        assert self.listed(store, limit=0) == []

    def test_the_order_after_many_writes(self, store: Store) -> None:
        """More than any store keeps beside its index."""
        order: list[str] = []
        for number in range(150):
            name = f"session {number * 7 % 40} {'x' * 60}"
            store.write("n", [Append(name, messages_of(number))])
            order = [name, *(other for other in order if other != name)]
            if number % 10 == 9:
                assert self.listed(store) == order
        created = sorted(order, key=lambda name: -session_of(store, name).place)
        assert self.listed(store, order="created") == created
        for limit in (1, 7, 100):
            assert self.pages(store, limit) == order
            assert self.pages(store, limit, order="created") == created

    def test_filters_of_sessions(self, store: Store) -> None:
        for number in range(12):
            name = f"{'ab'[number % 2]}/{number:02}"
            owner, tags = ("ada", "bob", None)[number % 3], ("red", "blue")[: number % 3]
            store.write("n", [Append(name, messages_of(number)), about_of(name, owner=owner, tags=tags)])
        every = [f"{'ab'[number % 2]}/{number:02}" for number in reversed(range(12))]

        def chosen(**wanted: Any) -> list[str]:
            found = []
            for name in every:
                number = int(name[2:])
                facts = {"letter": name[0], "owner": ("ada", "bob", None)[number % 3], "tags": number % 3}
                if all(facts[key] == value for key, value in wanted.items()):
                    found.append(name)
            return found

        since = session_of(store, every[4]).updated
        options: list[tuple[dict[str, Any], list[str]]] = [
            ({"prefix": "a/"}, chosen(letter="a")),
            ({"prefix": "a/0"}, [name for name in every if name.startswith("a/0")]),
            ({"prefix": "c"}, []),
            ({"where": {"owner": "ada"}}, chosen(owner="ada")),
            ({"where": {"owner": "ADA"}}, []),
            ({"tag": "blue"}, chosen(tags=2)),
            ({"tag": "red"}, sorted([*chosen(tags=1), *chosen(tags=2)], key=every.index)),
            ({"tag": "re"}, []),
            ({"where": {"tags.0": "red", "tags.1": "blue"}}, chosen(tags=2)),
            ({"where": {"tags": ["red"]}}, chosen(tags=1)),
            ({"since": since}, every[:5]),
            ({"since": since + 1}, every[:4]),
            ({"since": now() + 60_000_000}, []),
            ({"prefix": "b/", "where": {"owner": "bob"}, "tag": "red"}, chosen(letter="b", owner="bob")),
            ({"prefix": "b/", "since": since}, [name for name in every[:5] if name[0] == "b"]),
        ]
        for order in ORDERS:
            for option, wanted in options:
                assert self.listed(store, order=order, **option) == wanted, option
                assert self.listed(store, order=order, limit=1, **option) == wanted[:1]
                for limit in (1, 2):
                    assert self.pages(store, limit, order=order, **option) == wanted, option

    def test_sessions_where_title_and_data_are(self, store: Store) -> None:
        store.write("n", [about_of("s", "One", data={"customer": {"plan": "pro"}, "n": 1, "list": [1, {"x": None}]})])
        store.write("n", [about_of("t", "Two", data={"customer": {"plan": "free"}, "n": True})])
        store.write("n", [Append("u", messages_of("One"))])
        options: list[tuple[dict[str, Any], list[str]]] = [
            ({"title": "One"}, ["s"]),
            ({"data.customer.plan": "pro"}, ["s"]),
            ({"data.customer": {"plan": "free"}}, ["t"]),
            ({"data.n": 1}, ["s"]),
            ({"data.n": True}, ["t"]),
            ({"data.list.1.x": None}, ["s"]),
            ({"title": "Two", "data.n": 1}, []),
            ({"data.'; DROP TABLE sessions; --": 1}, []),
            ({"data": {}, "title": "One"}, []),
            ({"data.list.9": None}, []),
        ]
        for where, wanted in options:
            assert self.listed(store, where=where) == wanted, where

    def test_a_list_of_sessions_ends_when_its_room_is_full(self, store: Store) -> None:
        for letter in "abcdef":
            store.write("n", [Append(letter, messages_of(letter * 10_000)), about_of(letter, letter * 10_000)])
        whole = store.read("n", ListSessions(preview=True))
        for room in (0, 30_000, 10_000_000):
            found: list[Session] = []
            sizes = []
            while page := store.read(
                "n", ListSessions(after=found[-1].cursor if found else "", preview=True, room=room)
            ):
                found += page
                sizes.append(len(page))
            assert found == whole
            assert sizes == [6] if room > 1_000_000 else len(sizes) > 1

    def test_pages_while_others_append(self, store: Store) -> None:
        """A page has no session twice, and none without activity is left out."""
        quiet = [f"quiet {number:03}" for number in range(60)]
        for number, name in enumerate(quiet):
            store.write("n", [Append(name, messages_of(1)), Append(f"busy {number % 7}", messages_of(1))])
        before = self.listed(store, order="created")

        def work() -> None:
            for number in range(7):
                store.write("n", [Append(f"busy {number}", messages_of(1))])
            store.write("n", [Append("new", messages_of(1)), Append(f"new {now()}", messages_of(1))])
            store.write("n", [Forget("new")])

        with repeating(work, 1):
            for limit in (3, 10, 50):
                for order in ORDERS:
                    found = self.pages(store, limit, order=order)
                    assert len(found) == len(set(found))
                    assert [name for name in found if name in quiet] == quiet[::-1]
                    if order == "created":
                        assert [name for name in found if name in before] == before

    # Expiry

    def expired(self, store: Store, session: str = "s", namespace: str = "n") -> None:
        """Wait until a session has expired, which takes a part of a second."""
        deadline = time.monotonic() + 30
        while store.read(namespace, GetSession(session)) is not None:
            assert time.monotonic() < deadline, "the session never expires"
            time.sleep(0.01)

    def test_when_a_session_expires(self, store: Store) -> None:
        assert store.write("n", [SetExpiry("s", 60.0), SetExpiry("s", None)]) == [False, False]
        assert store.read("n", GetSession("s")) is None
        before = now()
        store.write("n", [Append("s", messages_of("a"), ttl=600.0)])
        after = now()
        assert before + 600_000_000 <= (session_of(store).expires or 0) <= after + 600_000_000
        session = session_of(store)
        store.write("n", [Append("s", messages_of("b")), about_of("s", "x"), Edit("s", 1, "1"), Pop("s")])
        assert session_of(store).expires == session.expires
        before = now()
        assert store.write("n", [SetExpiry("s", 1_200.0)]) == [True]
        assert (session_of(store).expires or 0) >= before + 1_200_000_000
        assert store.read("n", ListSessions())[0].expires == session_of(store).expires
        assert store.write("n", [SetExpiry("s", None)]) == [True]
        assert session_of(store).expires is None
        new = messages_of("c")
        store.write("n", [Append("s", new)])
        store.write("n", [Append("s", new, ttl=600.0)])  # a repeat with a time to live
        assert session_of(store).expires is not None
        before = now()
        store.write("n", [Replace("s", new, ttl=1_200.0)])
        assert (session_of(store).expires or 0) >= before + 1_200_000_000

    def test_an_expired_session_is_missing(self, store: Store) -> None:
        new = messages_of("a", "b", "c")
        names = [f"s{number}" for number in range(16)]
        for name in names:
            about = about_of(name, "title", "ada", ("red",))
            store.write("n", [Append(name, new), about, Summarize(name, 2, '["sum"]'), SetExpiry(name, 0.05)])
        store.write("n", [Append("stays", messages_of("x"), ttl=600.0)])
        self.expired(store, names[-1])
        for name in names:
            assert store.read("n", GetSession(name)) is None
            assert (data_of(store, name), data_of(store, name, last=1)) == ([], [])
            assert store.read("n", CountMessages(name)) == 0
            assert store.read("n", GetContext(name, 9, head=2)) == Context()
        for order in ORDERS:
            assert self.listed(store, order=order) == self.listed(store, order=order, limit=1) == ["stays"]
            assert self.listed(store, order=order, tag="red") == []
            assert self.listed(store, order=order, where={"owner": "ada"}) == []
        self.check_missing(store, names, new)

    def check_missing(self, store: Store, names: list[str], new: Any) -> None:
        """Write to sessions that are missing, each in another way."""
        a, b, c, d, e, f, g, h, *others = names
        for op in (Edit(a, 1, "1"), Fork(a, "u"), Summarize(a, 1, '["x"]'), Replace(a, (), 1)):
            with pytest.raises(InvalidArgument):
                store.write("n", [op])
        with pytest.raises(Conflict):
            store.write("n", [Append(a, messages_of("x"), if_last=3)])
        assert store.write("n", [Pop(a, 3), Forget(a), SetExpiry(a, 60.0)]) == [[], 0, False]
        assert store.write("n", [Append(b, new[2:], if_last=0)]) == [[1]]
        assert store.write("n", [Append(c, messages_of("z")), Append(c, new)]) == [[1], [2, 3, 4]]
        assert store.write("n", [Fork("stays", d)]) == [1]
        assert store.write("n", [Replace(e, messages_of("y"))]) == [[1]]
        store.write("n", [about_of(f, "new", if_version=0)])
        assert store.write("n", [SetExpiry(g, None), Append(g, messages_of("w"))]) == [False, [1]]
        assert store.write("n", [Forget(h), Append(h, messages_of("v"))]) == [0, [1]]
        written = {b: ["c"], c: ["z", "a", "b", "c"], d: ["x"], e: ["y"], f: [], g: ["w"], h: ["v"]}
        for name, data in written.items():
            session = session_of(store, name)
            assert data_of(store, name) == data
            assert (session.messages, session.summarized, session.about.owner) == (len(data), 0, None)
            assert session.about.title == ("new" if name == f else None)
            assert session.expires is None
            assert store.read("n", GetContext(name, 9)).summary is None
        assert sorted(self.listed(store)) == sorted(["stays", *written])
        assert all(store.read("n", GetSession(name)) is None for name in others)

    def test_the_bytes_of_expired_sessions_are_given_back(self, store: Store) -> None:
        for number in range(40):
            name = f"s{number}"
            messages = messages_of(*["x" * 100] * 5)
            store.write("n", [Append(name, messages, ttl=0.05), about_of(name, "title"), Summarize(name, 1, '["sum"]')])
        self.expired(store, "s39")
        for index in range(100):
            store.write("n", [put("k", index)])
            if store.read("n", GetUsage()).bytes == 1 + self.counted(str(index)):
                break
        assert store.read("n", GetUsage()).bytes == 1 + self.counted(str(index))
        assert index < 99

    def test_expiring_while_others_read_and_append(self, store: Store) -> None:
        """A session is there completely, or it is missing."""

        def read() -> None:
            for session in store.read("n", ListSessions(preview=True)):
                assert session.messages % 3 == 0
                assert session.preview is not None
                assert session.preview.data == session.messages
            for name in ("s0", "s1"):
                found = store.read("n", ListMessages(name))
                assert [item.data for item in found] == [item.seq for item in found]
                assert len(found) % 3 == 0

        def work(writer: int) -> None:
            for number in range(15):
                name = f"s{(writer + number) % 2}"
                last = store.read("n", CountMessages(name))
                try:
                    store.write("n", [Append(name, messages_of(last + 1, last + 2, last + 3), last, ttl=0.02)])
                except Conflict:
                    time.sleep(0.005)

        with repeating(read, 1):
            race(work)

    # Retention

    def test_rules(self, store: Store) -> None:
        assert store.read("n", GetRetention()) == []
        assert store.write("n", [Retain(), Retain("a/")]) == [False, False]
        assert store.write("n", [Retain("b/", 60.0), Retain("", 90.5, 600.0), Retain("a/é", None, 5.0)]) == [True] * 3
        rules = [Rule("", 90.5, 600.0), Rule("a/é", None, 5.0), Rule("b/", 60.0, None)]
        assert store.read("n", GetRetention()) == rules
        assert store.read("other", GetRetention()) == []
        assert store.write("n", [Retain("b/", 60.0), Retain("b/", 61.0), Retain("", 90.5)]) == [False, True, True]
        assert store.write("n", [Retain("a/é"), Retain("a/é")]) == [True, False]
        assert store.read("n", GetRetention()) == [Rule("", 90.5, None), Rule("b/", 61.0, None)]
        usage = store.read("n", GetUsage())
        assert (usage.bytes, usage.writes_today) == (0, 0)
        for name in AWKWARD_NAMES:
            store.write("n", [Retain(name, 60.0)])
        assert {rule.prefix for rule in store.read("n", GetRetention())} == {"", "b/", *AWKWARD_NAMES}

    def test_too_many_rules(self, store: Store) -> None:
        store.write("n", [Retain(f"{number:02}", 60.0) for number in range(MAX_RULES)])
        error = refused(store, InvalidArgument, Retain("one more", 60.0))
        assert str(MAX_RULES) in error.message
        assert store.write("n", [Retain("00"), Retain("one more", 60.0)]) == [True, True]

    def test_the_earlier_time_counts(self, store: Store) -> None:
        """Of the time of a session and that of a rule."""
        store.write("n", [Append(name, messages_of("x"), ttl=600.0) for name in ("a/1", "b/1")])
        store.write("n", [Append("b/2", messages_of("x"), ttl=0.05), Append("b/3", messages_of("x"))])
        store.write("n", [Retain("b", 600.0, 600.0), Retain("a", 0.05)])
        for name in ("a/1", "b/2"):
            self.expired(store, name)
        assert self.listed(store) == ["b/3", "b/1"]
        store.write("n", [SetExpiry("b/3", 0.05), SetExpiry("b/1", None)])
        self.expired(store, "b/3")
        assert self.listed(store) == ["b/1"]

    def test_idle_sessions_expire(self, store: Store) -> None:
        for name in ("a/1", "a/keep/1", "b/1", "c/1"):
            store.write("n", [Append(name, messages_of("x")), about_of(name, "title")])
        store.write("n", [Retain("a/", 0.05), Retain("a/keep/", 600.0), Retain("c", 0.05)])
        self.expired(store, "c/1")
        assert sorted(self.listed(store)) == ["a/keep/1", "b/1"]
        assert data_of(store, "a/1") == []
        assert store.write("n", [Append("a/1", messages_of("y"))]) == [[1]]
        store.write("n", [Retain("a/keep/", None, 0.05)])
        self.expired(store, "a/keep/1")
        self.expired(store, "a/1")
        assert self.listed(store) == ["b/1"]

    def test_old_sessions_expire_although_they_are_active(self, store: Store) -> None:
        store.write("n", [Retain("", None, 0.05)])
        seqs: list[Any] = []
        deadline = time.monotonic() + 30
        while seqs.count([1]) < 3:
            assert time.monotonic() < deadline, "the session never expires"
            seqs += store.write("n", [Append("s", messages_of("x"))])
        assert all(after in ([1], [before[0] + 1]) for before, after in itertools.pairwise(seqs))

    # Deleting a namespace

    def test_destroy(self, store: Store) -> None:
        (version,) = store.write("n", [put("k", 1)])
        store.write("n", [put("l", 2), put("gone", 1, ttl=0.001), Append("s", messages_of("a", "b"))])
        store.write("n", [Fork("s", "t", 1), about_of("u", "title"), Summarize("s", 1, '["x"]'), Retain("", 600.0)])
        store.write("n", [put("m", 1)], idempotency_key="one")
        store.write("other", [put("k", 1), Append("s", messages_of("a"))])
        other, writes = snapshot(store, "other"), store.read("n", GetUsage()).writes_today
        time.sleep(0.01)
        assert store.read("", ListNamespaces()) == ["n", "other"]
        assert store.write("n", [Destroy()]) == [3 + 3]
        usage = store.read("n", GetUsage())
        assert (usage.bytes, usage.writes_today) == (0, writes)
        queries: list[Query[Any]] = [ListKeys(), ListSessions(), GetRetention()]
        assert [store.read("n", query) for query in queries] == [[], [], []]
        assert (data_of(store), store.read("n", GetContext("s", 9))) == ([], Context())
        assert store.read("", ListNamespaces()) == ["other"]
        assert snapshot(store, "other") == other
        assert store.write("n", [Destroy()]) == [0]
        assert store.read("", ListNamespaces()) == ["other"]
        (later,) = store.write("n", [put("k", 1, if_version=0)])
        assert cast("int", later) > cast("int", version)
        assert store.read("", ListNamespaces()) == ["n", "other"]
        store.write("n", [put("m", 1)], idempotency_key="one")  # its record was deleted
        assert store.read("n", ListKeys()) == ["k", "m"]
        assert store.write("n", [Append("s", messages_of("c"))]) == [[1]]
        assert session_of(store).expires is None

    def test_destroy_nothing(self, store: Store) -> None:
        assert store.write("never", [Destroy()]) == [0]
        assert store.read("", ListNamespaces()) == []

    def test_a_destroy_is_alone_in_its_write(self, store: Store) -> None:
        store.write("n", [put("k", 1), Append("s", messages_of("a"))])
        before = snapshot(store)
        writes: list[list[Operation]] = [
            [put("l", 1), Destroy()],
            [Destroy(), put("l", 1)],
            [Destroy(), Destroy()],
            [Delete("k"), Destroy()],
        ]
        for write in writes:
            with pytest.raises(InvalidArgument):
                store.write("n", write)
            assert snapshot(store) == before

    def test_destroy_much(self, store: Store) -> None:
        """More than one transaction removes."""
        for part in range(2):
            store.write("n", [put(f"{part} {number}", number) for number in range(3_000)])
            store.write("n", [Append(f"s{part}", messages_of(*range(4_000)))])
        store.write("n", [Append(f"t{number}", messages_of(number)) for number in range(1_000)])
        assert store.write("n", [Destroy()]) == [6_000 + 8_000 + 1_000]
        assert store.read("n", GetUsage()).bytes == 0
        assert (store.read("n", ListKeys()), self.listed(store)) == ([], [])
        assert store.read("", ListNamespaces()) == []

    def test_destroys_at_once(self, store: Store) -> None:
        """Each row is counted once, and nothing is left."""
        for _ in range(3):
            store.write("n", [*(put(f"k{number}", 1) for number in range(50)), Append("s", messages_of(*range(50)))])
            results = race(lambda _: store.write("n", [Destroy()]))
            assert sum(cast("int", result) for (result,) in results) == 100
            assert len(results) == WRITERS
            assert store.read("n", GetUsage()).bytes == 0
            assert store.write("n", [Clear(), Forget("s")]) == [0, 0]

    def test_destroying_while_others_write(self, store: Store) -> None:
        def work(writer: int) -> None:
            for number in range(10):
                if writer:
                    store.write("n", [put(f"{writer} {number}", 1), Append(f"s{writer}", messages_of(1))])
                else:
                    store.write("n", [Destroy()])

        race(work)
        keys = store.read("n", ListKeys())
        sessions = store.read("n", ListSessions())
        counts = {session.name: session.messages for session in sessions}
        for writer in range(1, WRITERS):
            mine = [key for key in keys if key.startswith(f"{writer} ")]
            assert mine == [f"{writer} {number}" for number in range(10 - len(mine), 10)]
            assert counts.get(f"s{writer}", 0) == len(mine)
        held = sum(len(key) + self.counted("1") for key in keys) + sum(session.bytes for session in sessions)
        assert store.read("n", GetUsage()).bytes == held
