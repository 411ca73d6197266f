"""Sessions through a real server: pages of any size, retries, races and events."""

from __future__ import annotations

import http.client
import json
from contextlib import closing

import pytest
from msgspec.structs import replace

from botwire.errors import Conflict, InvalidArgument
from botwire.operations import (
    Append,
    Destroy,
    Edit,
    Fork,
    NewMessage,
    Put,
    Replace,
    Retain,
    SetAbout,
    SetExpiry,
    Summarize,
)
from botwire.queries import (
    CountMessages,
    GetContext,
    GetEntry,
    GetRetention,
    GetSession,
    GetUsage,
    ListChanges,
    ListMessages,
    ListSessions,
)
from botwire.stores.http.store import HttpStore
from botwire.testing.strategies import repeating
from botwire.timestamps import new_id

LARGE = f'"{"x" * 1_500_000}"'
"""Three of them fill a page."""


@pytest.fixture
def store(shared_server):
    with closing(HttpStore(shared_server.url, timeout=60)) as store:
        yield store


@pytest.fixture
def namespace():
    return new_id()


def messages(*stored):
    return tuple(NewMessage(new_id(), item) for item in stored)


def seqs(found):
    return [message.seq for message in found]


def test_sessions_whose_previews_fill_several_pages(store, namespace):
    for number in range(8):
        store.write(namespace, [Append(f"s{number}", messages("1", LARGE))])
    found = store.read(namespace, ListSessions(preview=True))
    assert [session.name for session in found] == [f"s{number}" for number in reversed(range(8))]
    assert all(session.preview.stored == LARGE for session in found)
    assert len(store.read(namespace, ListSessions(preview=True, limit=5))) == 5
    assert len(store.read(namespace, ListSessions(preview=True, room=1))) == 1


def test_a_context_whose_messages_fill_several_pages(store, namespace):
    store.write(namespace, [Append("s/1", messages(*[LARGE] * 9))])
    store.write(namespace, [Summarize("s/1", 2, f"[{LARGE}]")])
    found = store.read(namespace, GetContext("s/1", 100, head=4))
    assert (seqs(found.messages), seqs(found.head)) == ([3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4])
    assert (found.summarized, found.summary) == (2, f"[{LARGE}]")
    assert found.version == store.read(namespace, GetSession("s/1")).version
    assert seqs(store.read(namespace, GetContext("s/1", 3, before=7)).messages) == [4, 5, 6]
    assert seqs(store.read(namespace, GetContext("s/1", 3, before=3)).messages) == [1, 2]
    assert seqs(store.read(namespace, GetContext("s/1", 100, room=1)).messages)[-1] == 9


def test_names_that_no_path_can_carry(store, namespace):
    for name in (".", "..", "a//b", "%2F", "a\\b", "/", "?about=true", "é"):
        store.write(namespace, [Append(name, messages("1")), SetAbout(name, '{"title":"x"}', "é")])
        assert store.read(namespace, GetSession(name)).about.owner == "é"
        assert seqs(store.read(namespace, GetContext(name, 5)).messages) == [1]
        assert [item.name for item in store.read(namespace, ListSessions(prefix=name))] == [name]


WRITES = [
    Append("s", (NewMessage("new", "1"),), if_last=3, ttl=60.0),
    Replace("s", (NewMessage("new", "1"),), after=1, if_last=3),
    Fork("s", "t", upto=2),
    Edit("s", 1, '"edited"'),
    Summarize("s", 2, '["short"]', if_last=3),
    SetAbout("s", '{"title":"x"}', "ada", ("work",), if_version=0),
    SetExpiry("s", 60.0),
    Retain("tmp", 60.0),
    Destroy(),
]


@pytest.mark.parametrize("operation", WRITES, ids=lambda op: type(op).__name__)
def test_a_write_that_is_sent_again_is_applied_once(store, namespace, operation):
    store.write(namespace, [Append("s", messages("1", "2", "3"))])
    key = new_id()
    first = store.write(namespace, [operation], idempotency_key=key)
    # What others write in between stays.
    store.write(namespace, [Put("k", "1"), Append("s", messages("4"))])
    state = [store.read(namespace, query) for query in (GetSession("s"), GetSession("t"), GetRetention(), GetUsage())]
    assert store.write(namespace, [operation], idempotency_key=key) == first
    again = [store.read(namespace, query) for query in (GetSession("s"), GetSession("t"), GetRetention(), GetUsage())]
    assert again == state
    assert store.read(namespace, GetEntry("k")).stored == "1"
    with pytest.raises(InvalidArgument, match="idempotency key"):
        store.write(namespace, [Put("other", "1")], idempotency_key=key)


def test_conflicts_say_what_is_stored(store, namespace):
    store.write(namespace, [Append("s", messages("1", "2", "3")), SetAbout("s", "", "ada")])
    session = store.read(namespace, GetSession("s"))
    (message, *_) = store.read(namespace, ListMessages("s"))
    for operation, details in (
        (Append("s", messages("4"), if_last=2), {"last": 3}),
        (Append("s", messages("4"), if_version=session.version + 1), {"version": session.version}),
        (Replace("s", (), if_last=4), {"last": 3}),
        (Edit("s", 1, "2", if_version=message.version + 1), {"version": message.version}),
        (Edit("s", 1, "2", if_id="another"), {"version": message.version}),
        (Summarize("s", 1, "[1]", if_last=2), {"last": 3}),
        (SetAbout("s", "", if_version=0), {"version": session.about.version}),
        (Fork("s", "s"), {}),
    ):
        with pytest.raises(Conflict) as found:
            store.write(namespace, [Put("k", "1"), operation])
        assert details.items() <= found.value.details.items(), operation
    assert store.read(namespace, GetEntry("k")) is None
    assert store.read(namespace, GetSession("s")) == session


def test_lists_and_contexts_while_others_write(store, shared_server, namespace):
    """Each answer fits its question: the client checks the order, and reads again what was edited between two pages."""
    store.write(namespace, [Append(f"s{number}", messages("1", "2", LARGE, "4", LARGE, LARGE)) for number in range(3)])
    with closing(HttpStore(shared_server.url, timeout=60)) as writer:

        def write():
            for number in range(3):
                writer.write(namespace, [Append(f"s{number}", messages("5"))])
                writer.write(namespace, [Edit(f"s{number}", 4, f'"{new_id()}"')])

        with repeating(write, threads=1):
            for _ in range(10):
                found = store.read(namespace, ListSessions(preview=True, limit=2))
                assert len(found) == 2
                context = store.read(namespace, GetContext("s0", 10_000, head=2))
                assert (seqs(context.head), context.messages[0].seq) == ([1, 2], 1)


def test_events_of_sessions(store, namespace):
    feed = store.changes(namespace, ListChanges())
    feed.begin()
    store.write(namespace, [Append("s", messages("1", "2"))])
    store.write(namespace, [Edit("s", 1, '"[redacted]"', redacted="asked")])
    store.write(namespace, [SetAbout("s", '{"title":"x"}')])
    store.write(namespace, [Summarize("s", 1, '["short"]')])
    store.write(namespace, [Fork("s", "t")])
    wanted = {
        ("append", "s"),
        ("edit", "s"),
        ("about", "s"),
        ("summary", "s"),
        ("append", "t"),
        ("about", "t"),
        ("summary", "t"),
    }
    seen = []
    while {(change.kind, change.session) for change in seen} != wanted:
        found = feed.next(10)
        assert found.changes, seen
        seen += found.changes
    (edit,) = [change for change in seen if change.kind == "edit"]
    assert (edit.message.stored, edit.message.redacted) == ('"[redacted]"', "asked")
    feed.close()


def test_an_expired_session_is_not_there(store, shared_server, namespace):
    store.write(namespace, [Append("s", messages("1"), ttl=0.001), Append("t", messages("1"))])
    assert [item.name for item in store.read(namespace, ListSessions())] == ["t"]
    assert store.read(namespace, GetSession("s")) is None
    assert store.read(namespace, CountMessages("s")) == 0
    assert store.read(namespace, GetContext("s", 5)).last == 0
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=30)
    connection.request("GET", f"/sessions/{namespace}/s?about=true")
    response = connection.getresponse()
    assert (response.status, json.load(response)["type"]) == (404, "urn:botwire:error:not_found")
    connection.close()


def test_a_fork_is_its_own_session(store, namespace):
    store.write(namespace, [Append("s", messages("1", "2", "3")), SetAbout("s", '{"title":"x"}', "ada", ("a", "b"))])
    assert store.write(namespace, [Fork("s", "t", 2)]) == [2]
    fork = store.read(namespace, GetSession("t"))
    assert (fork.origin, fork.messages, fork.about.owner, fork.about.tags) == (("s", 2), 2, "ada", ("a", "b"))
    originals = store.read(namespace, ListMessages("s"))
    assert store.read(namespace, ListMessages("t")) == originals[:2]
    store.write(namespace, [Edit("t", 1, '"other"')])
    assert store.read(namespace, ListMessages("s")) == originals
    assert replace(fork.about, version=0) == replace(store.read(namespace, GetSession("s")).about, version=0)
