"""Answers of a server that do not fit the request, such as a proxy's that mixes up responses."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from botwire import AsyncMemory, BotWireError, Memory, StoreError
from botwire.limits import MAX_PAGE
from botwire.operations import Destroy, Edit, Fork
from botwire.queries import GetContext, GetRetention, GetSession, ListSessions
from botwire.stores.http.store import HttpStore
from tests.unit.stores.http.peers import Peer

TIMES = b'"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"'
OTHER = b'{"key":"other","value":1,"version":1,%b}' % TIMES
MESSAGE = b'{"seq":1,"id":"x","data":1,"created_at":"2026-01-01T00:00:00Z"}'


def answer(body, kind=b"application/json"):
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


SESSION = b'{"session":"other","place":1,"messages":2,%b}' % TIMES
SUMMARY = b'"version":1,"last":1,"summarized":0,"summary":null'
CALLS = {
    "get": (OTHER, lambda memory: memory.get("k")),
    "entry": (OTHER, lambda memory: memory.entry("k")),
    "a key that no path can carry": (b'{"entries":[%b]}' % OTHER, lambda memory: memory.get("..")),
    "get_many": (b'{"entries":[%b]}' % OTHER, lambda memory: memory.get_many(["k"])),
    "items": (b'{"entries":[%b]}' % OTHER, lambda memory: memory.items("k/")),
    "list_keys": (b'{"keys":["other"]}', lambda memory: memory.list_keys("k/")),
    "list_keys with a limit": (b'{"keys":["a","b"]}', lambda memory: memory.list_keys(limit=1)),
    "messages": (b'{"messages":[%b,%b]}' % (MESSAGE, MESSAGE), lambda memory: memory.history("s").messages()),
    "the last messages": (b'{"messages":[%b]}' % MESSAGE, lambda memory: memory.history("s").messages(after=1)),
    "a session": (SESSION, lambda memory: memory.read(GetSession("s"))),
    "sessions": (b'{"sessions":[%b]}' % SESSION, lambda memory: memory.read(ListSessions(prefix="s"))),
    "a context": (
        b'{%b,"head":[],"messages":[%b,%b]}' % (SUMMARY, MESSAGE, MESSAGE),
        lambda memory: memory.read(GetContext("s", 9)),
    ),
    "rules": (
        b'{"rules":[{"prefix":"b","idle":1.0,"age":null},{"prefix":"a","idle":1.0,"age":null}]}',
        lambda memory: memory.read(GetRetention()),
    ),
    "edit": (b'{"results":[true]}', lambda memory: memory.write(Edit("s", 1, "1"))),
    "fork": (b'{"results":[true]}', lambda memory: memory.write(Fork("s", "t"))),
    "destroy": (b'{"results":[[]]}', lambda memory: memory.write(Destroy())),
    "search": (
        b'{"hits":[{"score":1,"snippet":"","entry":%b}]}' % OTHER,
        lambda memory: memory.search("x", prefix="k"),
    ),
    "set": (b'{"results":[]}', lambda memory: memory.set("k", 1)),
    "delete": (b'{"results":[7]}', lambda memory: memory.delete("k")),
    "append": (b'{"results":[[]]}', lambda memory: memory.history("s").append(["x"])),
    "pop": (b'{"results":[[%b,%b]]}' % (MESSAGE, MESSAGE), lambda memory: memory.history("s").pop()),
}


@pytest.mark.parametrize("call", CALLS)
def test_another_answer(listening, call):
    body, ask = CALLS[call]
    peer = listening(Peer(answer=answer(body)))
    with Memory("n", peer.url) as memory, pytest.raises(StoreError, match="the server answered with"):
        ask(memory)

    async def awaited():
        async with AsyncMemory("n", peer.url) as other:
            with pytest.raises(StoreError, match="the server answered with"):
                await ask(other)

    asyncio.run(awaited())


def test_a_change_of_another_key(listening):
    change = b'{"version":5,"kind":"set","key":"k","entry":%b}' % OTHER
    events = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 5\ndata: %b\n\n" % change
    peer = listening(Peer(answer=events))
    with (
        Memory("n", peer.url, timeout=2) as memory,
        closing(memory.watch(after=1)) as watch,
        pytest.raises(StoreError, match="a change that was not asked for"),
    ):
        next(watch)


PROBLEM = b'event: problem\ndata: {"type":"urn:botwire:error:auth","detail":"later"}\n\n'
DELETED = b'id: 5\ndata: {"version":5,"kind":"delete","key":"k"}\n\n'
UNFIT = b'id: 6\ndata: {"version":6,"kind":"delete"}\n\n'


@pytest.mark.parametrize(("error", "message"), [(PROBLEM, "later"), (UNFIT, "the server answered with")])
def test_a_change_before_an_error_is_delivered(listening, error, message):
    """Both come in one packet."""
    peer = listening(Peer(answer=b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + DELETED + error))
    with Memory("n", peer.url, timeout=1) as memory, closing(memory.watch(after=1)) as watch:
        assert next(watch).key == "k"
        with pytest.raises(BotWireError, match=message):
            next(watch)


def page(*rows, after=None):
    messages = [b'{"seq":%d,"id":"%b","data":1,"created_at":"2026-01-01T00:00:00Z"}' % row for row in rows]
    return answer(b'{"messages":[%b],"next":%b}' % (b",".join(messages), b"null" if after is None else b"%d" % after))


def test_pages_that_another_client_shifts_are_read_again(listening):
    """Between two pages, another client inserts a message before the last of the first page."""
    before, shifted = page((1, b"a"), (2, b"b"), after=2), page((3, b"b"), (4, b"c"))
    after = page((1, b"a"), (2, b"new"), after=2)
    peer = listening(Peer(before, shifted, after, shifted))
    with Memory("n", peer.url) as memory:
        assert [message.id for message in memory.history("s").messages()] == ["a", "new", "b", "c"]
    assert len(peer.requests) == 4


def test_messages_that_are_appended_after_they_were_counted(listening):
    wanted = MAX_PAGE + 1
    rows = page(*((seq, b"%d" % seq) for seq in range(2, wanted + 4)))
    peer = listening(Peer(answer(b'{"count":%d}' % (wanted + 1)), rows))
    with Memory("n", peer.url) as memory:
        messages = memory.history("s").messages(last=wanted)
    assert [message.seq for message in messages] == list(range(4, wanted + 4))


def message(seq, text=b"1"):
    return b'{"seq":%d,"id":"%d","data":%b,"created_at":"2026-01-01T00:00:00Z"}' % (seq, seq, text)


def context(*seqs, before=None, version=1, last=9, head=()):
    return answer(
        b'{"version":%d,"last":%d,"summarized":2,"summary":["x"],"head":[%b],"messages":[%b],"next":%b}'
        % (
            version,
            last,
            b",".join(map(message, head)),
            b",".join(map(message, seqs)),
            b"null" if before is None else b"%d" % before,
        )
    )


@pytest.fixture
def reading(listening):
    """Read from a peer; return the result and the targets that were asked for."""

    def read(query, *answers):
        peer = listening(Peer(*answers))
        with closing(HttpStore(peer.url)) as store:
            found = store.read("n", query)
        return found, [request.split()[1].decode().removeprefix("/base") for request in peer.requests]

    return read


def seqs(messages):
    return [message.seq for message in messages]


def test_a_context_in_several_pages(reading):
    pages = context(7, 8, 9, before=7, head=(1,)), context(5, 6, before=5), context(3, 4)
    found, targets = reading(GetContext("s/1", 8, head=1), *pages)
    assert (seqs(found.head), seqs(found.messages)) == ([1], [3, 4, 5, 6, 7, 8, 9])
    assert (found.version, found.last, found.summarized, found.summary) == (1, 9, 2, '["x"]')
    assert targets == [
        "/sessions/n?session=s%2F1&context=true&last=8&head=1",
        "/sessions/n?session=s%2F1&context=true&last=5&before=7",
        "/sessions/n?session=s%2F1&context=true&last=3&before=5",
    ]


def test_a_context_has_no_more_messages_than_asked_for(reading):
    found, _ = reading(GetContext("s", 3), context(7, 8, 9, before=7))
    assert seqs(found.messages) == [7, 8, 9]
    found, targets = reading(GetContext("s", 9, room=1, head=2), context(8, 9, before=8, head=(1, 2)))
    assert (seqs(found.messages), seqs(found.head), len(targets)) == ([9], [1], 1)


def test_a_context_is_of_one_version_of_the_session(reading):
    """An edit between two pages: the first page is read again."""
    pages = context(8, 9, before=8), context(6, 7, before=6, version=2), context(8, 9, before=8, version=2)
    found, targets = reading(GetContext("s", 4), *pages, context(6, 7, before=6, version=2))
    assert (found.version, seqs(found.messages), len(targets)) == (2, [6, 7, 8, 9], 4)


def test_the_first_messages_that_the_page_of_a_context_has_no_room_for(reading):
    rest = page((2, b"2"), (3, b"3"))
    first = context(9, before=9, head=(1,))
    session = b'{"session":"s","place":1,"messages":9,"version":%d,%b}'
    same, changed = answer(session % (1, TIMES)), answer(session % (2, TIMES))
    found, targets = reading(GetContext("s", 1, head=3), first, rest, same)
    assert (seqs(found.head), seqs(found.messages)) == ([1, 2, 3], [9])
    assert targets[1] == "/sessions/n/s?after=1&limit=2"
    found, targets = reading(GetContext("s", 1, head=3), first, rest, changed, first, rest, same)
    assert (seqs(found.head), len(targets)) == ([1, 2, 3], 6)


def sessions(*rows, after="null"):
    documents = [
        b'{"session":"%b","place":%d,"messages":1,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:%02dZ"}'
        % row
        for row in rows
    ]
    return answer(b'{"sessions":[%b],"next":%b}' % (b",".join(documents), after.encode()))


def test_sessions_in_several_pages(reading):
    first = sessions((b"c", 1, 9), (b"b", 3, 8), after='"1767225608000000.3"')
    query = ListSessions(limit=3, where={"owner": "ada"}, tag="é", since=1_000_001, prefix="", order="active")
    # The owner is checked, and these sessions have none.
    with pytest.raises(StoreError, match="which was not asked for"):
        reading(query, *[first, sessions((b"a", 2, 8))] * 3)
    found, targets = reading(ListSessions(limit=3, since=1_000_001), first, sessions((b"a", 2, 8)))
    assert [session.name for session in found] == ["c", "b", "a"]
    since = "since=1970-01-01T00%3A00%3A01.000001%2B00%3A00"
    assert targets == [
        f"/sessions/n?order=active&{since}&limit=3",
        f"/sessions/n?order=active&{since}&after=1767225608000000.3&limit=1",
    ]


def test_a_session_that_does_not_exist(reading):
    body = b'{"type":"urn:botwire:error:not_found","title":"","status":404,"detail":"there is no session"}'
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b"
    found, targets = reading(GetSession("s", preview=True), missing % (len(body), body))
    assert (found, targets) == (None, ["/sessions/n/s?about=true&preview=true"])


def test_every_write_of_a_session_carries_a_key(listening):
    peer = listening(Peer(answer(b'{"results":[3]}'), answer(b'{"results":[3]}')))
    with closing(HttpStore(peer.url)) as store:
        store.write("n", [Fork("s", "t")])
        store.write("n", [Destroy()], idempotency_key="mine")
    first, second = (request.lower() for request in peer.requests)
    assert b"idempotency-key: " in first
    assert b"idempotency-key: mine" in second
