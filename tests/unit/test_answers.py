"""Answers that do not fit what was asked, from a store that lies: none is taken for the truth."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from msgspec.structs import replace

from botwire import AsyncMemory, DecryptionError, Memory, generate_key
from botwire.answers import mismatch, mismatch_of_results
from botwire.operations import (
    Append,
    Clear,
    Delete,
    Destroy,
    Edit,
    Expire,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Pop,
    Put,
    Replace,
    Retain,
    SetAbout,
    SetExpiry,
    Summarize,
)
from botwire.queries import (
    CountEntries,
    GetContext,
    GetEntries,
    GetEntry,
    GetRetention,
    GetSession,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    Search,
)
from botwire.records import About, Change, Changes, Context, Hit, Message, Rule, Session
from botwire.store import Store
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore

KEY = generate_key()


class Liar(Store):
    """A store that answers a query with what a function makes of the true answer."""

    address = "liar:"

    def __init__(self, store, lie=None):
        self.store = store
        self.lie = lie

    def read(self, namespace, query):
        found = self.store.read(namespace, query)
        return found if self.lie is None else self.lie(found, lambda query: self.store.read(namespace, query))

    def write(self, namespace, operations, *, idempotency_key=None):
        results = self.store.write(namespace, operations, idempotency_key=idempotency_key)
        return results if self.lie is None else self.lie(results)

    def changes(self, namespace, query):
        return LyingFeed(self.store.changes(namespace, query), self)

    def close(self):
        self.store.close()


class LyingFeed:
    def __init__(self, feed, liar):
        self.feed, self.liar = feed, liar
        self.begin, self.close = feed.begin, feed.close

    def next(self, seconds):
        found = self.feed.next(seconds)
        return found if self.liar.lie is None else self.liar.lie(found, lambda query: self.liar.store.read("n", query))


@pytest.fixture
def liar():
    store = Liar(SqliteStore(":memory:"))
    with Memory("n", store=EncryptedStore(store, Cipher(KEY))) as memory:
        memory.set_many({"a/1": "one", "a/2": "two", "b": "bee"})
        memory.history("s").append(["first", "second", "third"], ids=["1", "2", "3"])
        memory.history("t").append(["other"], ids=["1"])
    yield store
    store.close()


def changed(index, **fields):
    """Return a lie: fields of one of the rows or changes."""

    def lie(found, _):
        rows = list(found.changes if isinstance(found, Changes) else found)
        rows[index] = replace(rows[index], **fields)
        return Changes(rows, found.version) if isinstance(found, Changes) else rows

    return lie


def instead(query):
    return lambda _, read: read(query)


def backwards(found, _):
    return found[::-1]


def twice(found, _):
    return [found[0], *found]


LIES = {
    "another key": (GetEntry("a/1"), instead(GetEntry("b"))),
    "a key of another list": (GetEntries(("a/1",)), instead(GetEntries(("b",)))),
    "more than the keys": (GetEntries(("a/1",)), instead(GetEntries(("a/1", "a/2")))),
    "an entry twice": (GetEntries(("a/1", "b")), twice),
    "another prefix": (ListEntries("a/"), instead(ListEntries())),
    "entries backwards": (ListEntries(), backwards),
    "entries that were read": (ListEntries(after="a/1"), instead(ListEntries())),
    "too many entries": (ListEntries(limit=1), instead(ListEntries())),
    "a list with an entry twice": (ListEntries(), twice),
    "keys of another prefix": (ListKeys("a/"), instead(ListKeys())),
    "keys backwards": (ListKeys(), backwards),
    "keys that were read": (ListKeys(after="a/1"), instead(ListKeys())),
    "too many keys": (ListKeys(limit=1), instead(ListKeys())),
    "messages backwards": (ListMessages("s"), backwards),
    "a message twice": (ListMessages("s"), lambda found, _: [*found, replace(found[0], seq=99)]),
    "a seq twice": (ListMessages("s"), changed(1, seq=1)),
    "messages that were read": (ListMessages("s", after=1), instead(ListMessages("s"))),
    "too many messages": (ListMessages("s", limit=1), instead(ListMessages("s"))),
    "too many last messages": (ListMessages("s", last=1), instead(ListMessages("s"))),
    "sessions backwards": (ListSessions(), backwards),
    "too many sessions": (ListSessions(limit=1), instead(ListSessions())),
    "namespaces twice": (ListNamespaces(), twice),
    "another key's change": (ListChanges(0), changed(0, key="a/2")),
    "a change without its entry": (ListChanges(0), changed(0, entry=None)),
    "a change without its message": (ListChanges(0), changed(3, message=None)),
    "a change of two kinds": (ListChanges(0), changed(0, kind="delete")),
    "a change without a key": (ListChanges(0), changed(0, kind="expire", entry=None, key=None)),
    "a change of another prefix": (ListChanges(0, prefix="a/"), instead(ListChanges(0))),
    "a change of another session": (ListChanges(0, session="t"), instead(ListChanges(0, session="s"))),
    "a cleared prefix that is not watched": (
        ListChanges(0, prefix="a/"),
        changed(0, kind="clear", entry=None, key=None, prefix="b"),
    ),
    "a change that was read": (ListChanges(3), instead(ListChanges(0))),
    "changes in another order": (ListChanges(0), lambda found, _: Changes(found.changes[::-1], found.version)),
    "an earlier version": (ListChanges(3), lambda _, __: Changes([], 2)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found(liar, lie):
    query, told = LIES[lie]
    truth = liar.read("n", query)
    assert mismatch(query, truth) is None
    assert mismatch(query, told(truth, lambda query: liar.read("n", query))) is not None
    store = EncryptedStore(liar, Cipher(KEY))
    store.read("n", query)
    liar.lie = told
    with pytest.raises(DecryptionError, match="the store answered with .*someone has changed it"):
        store.read("n", query)


MOVED = {
    "a message of another session": (ListMessages("t"), instead(ListMessages("s", limit=1))),
    "a message under another id": (ListMessages("s"), changed(0, id="4")),
    "a value under another key": (GetEntry("a/1"), lambda _, read: replace(read(GetEntry("b")), key="a/1")),
    "another session's change": (ListChanges(0), changed(3, session="t")),
    "a value as a message": (
        ListMessages("s"),
        lambda found, read: [replace(found[0], stored=f'"{read(GetEntry("a/1")).stored.hex()}"')],
    ),
    "a message as a value": (
        GetEntry("a/1"),
        lambda found, read: replace(found, stored=read(ListMessages("s"))[0].stored),
    ),
}


@pytest.mark.parametrize("move", MOVED)
def test_a_value_in_another_place_is_found(liar, move):
    query, told = MOVED[move]
    liar.lie = told
    with pytest.raises(DecryptionError):
        EncryptedStore(liar, Cipher(KEY)).read("n", query)


@pytest.mark.parametrize("lie", [name for name, (query, _) in LIES.items() if isinstance(query, ListChanges)])
def test_a_watch_finds_a_lie(liar, lie):
    query, told = LIES[lie]
    feed = EncryptedStore(liar, Cipher(KEY)).changes("n", query)
    liar.lie = told
    for _ in range(2):  # what does not fit is not skipped
        with pytest.raises(DecryptionError, match="the store answered with"):
            feed.next(0)
    feed.close()


def test_a_watch_never_goes_back(liar):
    store = EncryptedStore(liar, Cipher(KEY))
    feed = store.changes("n", ListChanges(None))
    feed.begin()
    store.write("n", [Put("k", "1")])
    (change,) = feed.next(0).changes
    liar.lie = lambda _, __: Changes([change], change.version)
    with pytest.raises(DecryptionError, match="the store answered with"):
        feed.next(0)
    feed.close()


def test_memories_find_lies(tmp_path):
    """The same for whoever uses a memory, also when awaited."""
    url = f"sqlite:///{tmp_path}/a.db"
    with Memory("n", url, encryption_key=KEY) as memory, closing(SqliteStore(tmp_path / "a.db")) as seen:
        memory.set_many({"role/guest": "nobody", "role/admin": "ada"})
        watch = memory.watch("role/", wait=0, after=0)
        guest = seen.read("n", GetEntry("role/guest"))
        # Someone moves the guest's value under the name of the administrator.
        seen.write("n", [Put("role/admin", guest.stored)])
        for read in (
            lambda: memory["role/admin"],
            lambda: memory.get_many(["role/admin"]),
            lambda: memory.items("role/"),
            lambda: list(watch),
        ):
            with pytest.raises(DecryptionError, match="role/admin"):
                read()

        async def awaited():
            async with AsyncMemory("n", url, encryption_key=KEY) as other:
                for read in (other.get("role/admin"), other.get_many(["role/admin"]), other.items("role/")):
                    with pytest.raises(DecryptionError, match="role/admin"):
                        await read
                with pytest.raises(DecryptionError, match="role/admin"):
                    async for _ in other.watch("role/", wait=0, after=0):
                        pass

        asyncio.run(awaited())


NEW = (NewMessage("4", "4"), NewMessage("5", "5"))
RESULTS = [
    (Put("k", "1"), [True, "1", None, [1]]),
    (Delete("k"), [1, None, []]),
    (Increment("k"), [True, "1", None]),
    (Append("s", NEW), [[], [4], [4, 5, 6], [4, "5"], 2]),
    (Clear(), [True, None]),
    (Forget("s"), [True, None]),
    (Expire(), [1, None]),
]


@pytest.mark.parametrize(("operation", "results"), RESULTS)
def test_results_that_are_none(liar, operation, results):
    assert mismatch_of_results([operation], liar.write("n", [operation])) is None
    for result in results:
        assert mismatch_of_results([operation], [result]) is not None


def test_messages_that_were_not_popped(liar):
    first, second, third = liar.read("n", ListMessages("s"))
    for result in ([first, second, third], [third, third], [3], 3, None):
        assert mismatch_of_results([Pop("s", 2)], [result]) is not None
    assert mismatch_of_results([Pop("s", 2)], [[second, third]]) is None
    assert mismatch_of_results([Pop("s", 2)], [[third]]) is None
    for result in ([third], [third, second], [first, second]):
        assert mismatch_of_results([Pop("s", 2, ("2", "3"))], [result]) is not None
        assert mismatch_of_results([Pop("s", 2, ("2", "3"))], [result], is_new=False) is None
    assert mismatch_of_results([Pop("s", 2, ("2", "3"))], [[first, second, third]], is_new=False) is not None


def test_a_write_whose_results_do_not_fit(liar):
    store = EncryptedStore(liar, Cipher(KEY))
    for lie in (lambda _: [], lambda results: results * 2, lambda _: [[]]):
        liar.lie = lie
        with pytest.raises(DecryptionError, match="the store answered with"):
            store.write("n", [Put("k", "1")])


def test_hits_that_were_not_asked_for(liar):
    entry, message = liar.read("n", GetEntry("a/1")), liar.read("n", ListMessages("s"))[0]
    of_entry, of_message = Hit(1.0, "", entry=entry), Hit(1.0, "", message=message, session="s")
    asked = Search(text="x")
    assert mismatch(asked, [of_entry, of_message]) is None
    for lie in ([Hit(1.0, "")], [Hit(1.0, "", entry=entry, message=message, session="s")], [of_entry] * 11):
        assert mismatch(asked, lie) is not None
    for query, lie in (
        (Search(text="x", prefix="b"), of_entry),
        (Search(text="x", entries=False), of_entry),
        (Search(text="x", messages=False), of_message),
        (Search(text="x", session="t"), of_message),
    ):
        assert mismatch(query, [lie]) is not None


def test_numbers_are_what_they_are():
    assert mismatch(CountEntries(), 5) is None
    assert mismatch(GetUsage(), None) is None
    assert mismatch(ListChanges(None), Changes([], 7)) is None
    assert mismatch(ListChanges(5), Changes([Change(version=7, kind="pop", session="s", left=0)], 9)) is None


def session(name, place, **fields):
    return Session(name, place, 3, created=place, **{"updated": 100 - place, **fields})


def message(seq):
    return Message(seq, f"id{seq}", "1", 0)


ADA = About(1, "ada", ("work",))
A, B, C = session("a", 1), session("b", 2, updated=99), session("c", 3, about=ADA, preview=message(3))
PREVIEWED = [C, *(replace(item, preview=message(3)) for item in (B, A))]
SESSIONS = [
    (GetSession("a"), [A, None], [B, replace(A, preview=message(3))]),
    (
        GetSession("c", preview=True),
        [C, None, replace(session("c", 3), messages=0)],
        [
            replace(C, preview=None),
            replace(C, preview=message(2)),
            replace(session("c", 3), messages=0, preview=message(3)),
        ],
    ),
    (
        ListSessions(),
        [[B, A], [A], [], [replace(B, updated=100), A]],
        [[A, B], [B, B], [A, A], [B, replace(A, name="b")], [C], [B, replace(A, updated=100)]],
    ),
    (ListSessions(order="created"), [[B, A], [replace(B, updated=1), A]], [[A, B]]),
    (ListSessions(limit=1), [[B], [A]], [[B, A]]),
    (ListSessions(preview=True), [PREVIEWED[1:], []], [[B, A], [replace(C, preview=message(2))]]),
    (ListSessions(preview=True, tag="work"), [[C]], [[PREVIEWED[1]]]),
    (ListSessions(preview=True, where={"owner": "ada"}), [[C]], [[PREVIEWED[1]]]),
    (ListSessions(prefix="a"), [[A]], [[B]]),
    (ListSessions(since=99), [[B, A]], [[session("d", 4)]]),
    (ListSessions(after="99.2"), [[A]], [[B], [replace(A, updated=100)]]),
    (ListSessions(after="99.2", order="created"), [[A], [replace(A, updated=100)]], [[B], [replace(C, preview=None)]]),
]


@pytest.mark.parametrize(("query", "truths", "lies"), SESSIONS)
def test_sessions_that_were_not_asked_for(query, truths, lies):
    for truth in truths:
        assert mismatch(query, truth) is None, truth
    for lie in lies:
        assert mismatch(query, lie) is not None, lie


def context(*seqs, last=9, summarized=0, head=()):
    summary = "[]" if summarized else None
    return Context(1, last, summarized, summary, list(map(message, head)), list(map(message, seqs)))


CONTEXTS = [
    (
        GetContext("s", 3),
        [context(7, 8, 9), context(9), context(last=0)],
        [context(6, 7, 8, 9), context(7, 8), context(9, 8)],
    ),
    (GetContext("s", 3), [context(8, 9, summarized=7)], [context(7, 8, 9, summarized=7), context(8, 9, summarized=10)]),
    (GetContext("s", 3, before=5), [context(2, 3, 4), context(2, 3, 4, summarized=4)], [context(5), context(1, 2, 3)]),
    (GetContext("s", 3, before=5), [context(4, summarized=3)], [context(3, 4, summarized=3)]),
    (GetContext("s", 3, before=99), [context(8, 9)], [context(97, 98), context(8, 9, 10)]),
    (
        GetContext("s", 1, head=2),
        [context(9, head=(1, 2)), context(9, head=(1,)), context(1, last=1, head=(1,))],
        [context(9, head=(2,)), context(9, head=(1, 2, 3)), context(1, last=1, head=(1, 2))],
    ),
    (
        GetContext("s", 3),
        [replace(context(9, summarized=8), summary='"x"')],
        [replace(context(9), summary="[]"), replace(context(9, summarized=8), summary=None)],
    ),
    (GetContext("s", 3), [], [Context(1, 9, messages=[message(8), replace(message(9), id="id8")])]),
]


@pytest.mark.parametrize(("query", "truths", "lies"), CONTEXTS)
def test_contexts_that_were_not_asked_for(query, truths, lies):
    for truth in truths:
        assert mismatch(query, truth) is None, truth
    for lie in lies:
        assert mismatch(query, lie) is not None, lie


def test_rules_that_are_in_no_order():
    rules = [Rule("", 1.0, None), Rule("a", None, 2.0)]
    assert mismatch(GetRetention(), rules) is None
    for lie in (rules[::-1], [rules[0], rules[0]]):
        assert mismatch(GetRetention(), lie) is not None


CHANGES = [
    ({"kind": "edit", "session": "s", "message": message(1)}, {"message": None}, {"key": "k"}),
    ({"kind": "about", "session": "s"}, {"session": None}, {"message": message(1)}, {"key": "k"}),
    ({"kind": "summary", "session": "s"}, {"session": None}, {"left": 1}),
    ({"kind": "expire", "session": "s"}, {"session": None}, {"key": "k"}, {"left": 0}),
    ({"kind": "expire", "key": "k"}, {"key": None}, {"prefix": "k"}),
]


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: f"{case[0]['kind']} {case[0].get('session')}")
def test_changes_of_sessions_with_other_fields(case):
    fields, *lies = case
    truth = Change(version=5, **fields)
    assert mismatch(ListChanges(4), Changes([truth], 5)) is None
    for lie in lies:
        assert mismatch(ListChanges(4), Changes([replace(truth, **lie)], 5)) is not None
    if truth.session is not None:
        assert mismatch(ListChanges(4, session="t"), Changes([truth], 5)) is not None
        assert mismatch(ListChanges(4, prefix="k"), Changes([truth], 5)) is not None


@pytest.mark.parametrize(
    ("operation", "truth", "lies"),
    [
        (Replace("s", NEW), [1, 2], [[1], 2, [1, "2"], None]),
        (Fork("s", "t"), 3, [True, None, [3]]),
        (Edit("s", 1, "1"), 3, [True, None, "3"]),
        (Summarize("s", 1, "[]"), 3, [True, None]),
        (SetAbout("s", ""), 3, [True, None]),
        (SetExpiry("s"), True, [1, None]),
        (Retain(), False, [0, None]),
        (Destroy(), 0, [False, None]),
    ],
)
def test_results_of_operations_on_sessions_that_are_none(operation, truth, lies):
    assert mismatch_of_results([operation], [truth]) is None
    for lie in lies:
        assert mismatch_of_results([operation], [lie]) is not None
