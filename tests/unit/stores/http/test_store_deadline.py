"""A timeout is a deadline: all waits of a call share it. The old client granted the timeout to each wait anew."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing

import pytest

from botwire import Memory, Timeout, Unavailable
from botwire.queries import ListKeys
from botwire.stores.http import dial
from botwire.stores.http.messages import ConnectionFailed, Request
from botwire.stores.http.store import HttpStore
from tests.unit.stores.http.peers import OK, Listener, Peer


def answer(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_the_pages_of_a_list(listening):
    """Each page takes less than the timeout, all of them much more."""
    page = answer(b'{"keys":["k"],"next":"k"}')
    peer = listening(Peer(answer=page, pause=0.3))
    with closing(HttpStore(peer.url, timeout=1.0)) as store, pytest.raises(Timeout, match="within 1 s"):
        store.read("n", ListKeys())


@pytest.mark.parametrize("status", [b"503 Service Unavailable", None])
def test_retries(listening, status):
    """A server that always refuses, or hangs up, slowly."""
    busy = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status if status else b""
    peer = listening(Peer(*[busy] * 1000, pause=0.3))
    begun = time.monotonic()
    with pytest.raises((Timeout, Unavailable)):
        Memory("n", peer.url, timeout=1.0).get("k")
    assert time.monotonic() - begun < 5, "1,000 attempts take five minutes"


class SlowReader(Listener):
    """Takes a request over TLS at 64 KiB each 0.1 s."""

    def __init__(self, tls):
        self.tls = tls
        super().__init__()

    def talk(self, connection):
        with self.tls.wrap_socket(connection, server_side=True) as secure:
            while secure.recv(16 * 1024):
                time.sleep(0.025)


def test_sending_a_large_body_over_tls(send, listening, authority):
    """Each part is accepted within the timeout."""
    peer = listening(SlowReader(authority.server))
    body = bytes(32 * 1024 * 1024)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        send(f"https://localhost:{peer.port}", Request("PUT", "/x", body), timeout=1.0, ca=authority.file)
    assert time.monotonic() - begun < 20, "all of it would take 50 s"


class Silent(Listener):
    def talk(self, connection):
        connection.recv(65536)
        time.sleep(30)


def test_a_handshake_that_does_not_end(send, listening):
    peer = listening(Silent())
    with pytest.raises(TimeoutError):
        send(f"https://localhost:{peer.port}", Request("GET", "/x"), timeout=0.3)


def test_a_resolver_that_does_not_answer(send, monkeypatch):
    """``getaddrinfo`` has no timeout."""
    real, asked = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host, *arguments, **options):
        if host == "slow.example":
            if options.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "not an IP address")
            asked.wait(30)
        return real(host, *arguments, **options)

    monkeypatch.setattr(dial.socket, "getaddrinfo", getaddrinfo)
    try:
        with pytest.raises(TimeoutError):
            send("http://slow.example", Request("GET", "/x"), timeout=0.3)
    finally:
        asked.set()


def blackhole(listening):
    """Return an address on which no connection is ever accepted, because the queue is full."""
    full = listening(Deaf())
    return "127.0.0.1", full.port


class Deaf:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self.listener.getsockname()[1]
        self.waiting = [socket.socket() for _ in range(4)]
        for waiting in self.waiting:
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
        time.sleep(0.1)

    def close(self):
        for waiting in (*self.waiting, self.listener):
            waiting.close()


def resolves_to(monkeypatch, *sockaddrs):
    found = [
        (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
        for host, port in sockaddrs
    ]
    monkeypatch.setattr(dial.socket, "getaddrinfo", lambda *_, **__: found)


def test_several_addresses_share_it(send, listening, monkeypatch):
    resolves_to(monkeypatch, *[blackhole(listening)] * 5)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        send("http://host.example", Request("GET", "/x"), timeout=1.0)
    assert time.monotonic() - begun < 4, "five addresses with a second for each"


def test_an_address_that_does_not_answer_is_not_waited_for(send, listening, monkeypatch):
    peer = listening(Peer(OK))
    resolves_to(monkeypatch, blackhole(listening), ("127.0.0.1", peer.port))
    (response,) = send("http://host.example", Request("GET", "/x"), timeout=30.0)
    assert response.body == b"ok"


def test_addresses_that_refuse(send, listening, monkeypatch):
    peer = listening(Peer(OK))
    resolves_to(monkeypatch, ("127.0.0.1", 9), ("::1", 9), ("127.0.0.1", peer.port))
    (response,) = send("http://host.example", Request("GET", "/x"))
    assert response.body == b"ok"


def test_every_address_is_named_when_none_answers(send, monkeypatch):
    resolves_to(monkeypatch, ("127.0.0.1", 9), ("::1", 9))
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1: Connection refused; ::1: Connection refused") as raised:
        send("http://host.example", Request("GET", "/x"))
    assert not raised.value.was_sent
