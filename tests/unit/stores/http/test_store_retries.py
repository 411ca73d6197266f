"""Nothing is carried out twice because an answer was lost."""

from __future__ import annotations

import pytest

from botwire import Memory, Unavailable
from botwire.server.operator import Remote
from botwire.stores.http.messages import Request
from tests.unit.stores.http.peers import Peer

LOST = b""


def answer(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def create(url):
    remote = Remote(url, "t" * 20)
    try:
        return remote.create(namespaces=["a"], can=["read"], name="", expires_in=None)
    finally:
        remote.close()


def test_a_token_is_asked_for_once(listening):
    """The answer is lost after the server has created the token."""
    peer = listening(Peer(LOST, LOST, answer(b'{"secret":"x","id":"y"}')))
    with pytest.raises(Unavailable, match="The request may have been carried out"):
        create(peer.url)
    assert len(peer.requests) == 1


def test_a_token_is_not_asked_for_again_after_a_503(listening):
    busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    peer = listening(Peer(busy, answer(b'{"secret":"x","id":"y"}')))
    with pytest.raises(Unavailable):
        create(peer.url)
    assert len(peer.requests) == 1


def test_a_token_is_asked_for_on_a_connection_that_the_server_cannot_just_be_closing(listening):
    peer = listening(Peer(answer=answer(b'{"tokens":[],"secret":"x","id":"y"}')))
    remote = Remote(peer.url, "t" * 20)
    remote.tokens()
    remote.create(namespaces=["a"], can=["read"], name="", expires_in=None)
    remote.close()
    assert peer.connections == 2


def test_a_server_that_is_not_there_yet_is_waited_for(listening, monkeypatch):
    """Nothing was sent, so trying again does no harm."""
    attempts = []
    from botwire.stores.http import transport

    real = transport.connect

    def connect(origin, kind, deadline):
        attempts.append(1)
        if len(attempts) < 3:
            raise origin.failed("cannot connect: Connection refused", was_sent=False)
        return real(origin, kind, deadline)

    monkeypatch.setattr(transport, "connect", connect)
    peer = listening(Peer(answer(b'{"secret":"x","id":"y"}')))
    assert create(peer.url)["secret"] == "x"
    assert len(attempts) == 3


def test_what_carries_a_key_or_only_reads_is_repeated(listening):
    peer = listening(Peer(LOST, answer(b'{"results":[1]}'), LOST, answer(b'{"hits":[]}')))
    memory = Memory("n", peer.url)
    memory.set("k", 1)
    memory.search("words")
    lines = [request.split(b" HTTP/1.1")[0] for request in peer.requests]
    assert lines == [b"POST /base/memory/n"] * 2 + [b"POST /base/search/n"] * 2
    keys = [line for request in peer.requests[:2] for line in request.split(b"\r\n") if b"Idempotency-Key" in line]
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
def test_only_methods_that_repeat_without_harm_are_repeated(method):
    assert Request(method, "/x").may_repeat == (method in {"GET", "HEAD", "PUT", "DELETE"})
    assert Request(method, "/x", headers=(("Idempotency-Key", "k"),)).may_repeat
