"""Answers of a server that do not fit the request, such as a proxy's that mixes up responses."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from botwire import AsyncMemory, BotWireError, Memory, StoreError
from botwire.limits import MAX_PAGE
from tests.unit.stores.http.peers import Peer

TIMES = b'"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"'
OTHER = b'{"key":"other","value":1,"version":1,%b}' % TIMES
MESSAGE = b'{"seq":1,"id":"x","data":1,"created_at":"2026-01-01T00:00:00Z"}'


def answer(body, kind=b"application/json"):
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


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
