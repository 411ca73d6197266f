"""The HTTP transports against real sockets that answer in every legal and illegal way."""

from __future__ import annotations

import time

import pytest

from botwire import InvalidArgument
from botwire.stores.http.messages import ConnectionFailed, Request
from tests.unit.stores.http.peers import OK


def test_a_request(exchange):
    peer, (response,) = exchange(OK, requests=[Request("POST", "/m/n?x=1", b"{}", (("C", "d"),))])
    assert (response.status, response.headers, response.body) == (200, {"content-length": "2"}, b"ok")
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /base/m/n?x=1 HTTP/1.1",
        b"Host: localhost:%d" % peer.port,
        b"A: b",
        b"C: d",
        b"Content-Type: application/json",
        b"Content-Length: 2",
    ]
    assert body == b"{}"


def test_a_connection_is_kept(exchange):
    peer, responses = exchange(OK, OK, OK)
    assert [response.body for response in responses] == [b"ok"] * 3
    assert peer.connections == 1


def test_a_connection_that_the_peer_ends_is_not_kept(exchange):
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    peer, _ = exchange(closing, closing)
    assert peer.connections == 2


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r|\na|bc\r\n0\r\n|\r\n", b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nCon|tent-Length: 2\r\n\r|\no|k", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_forms_of_answers(exchange, answer, body):
    _, (response,) = exchange(answer)
    assert response.body == body


def test_an_answer_that_comes_faster_than_it_is_taken(exchange):
    body = bytes(range(256)) * 80_000
    peer, responses = exchange(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body.replace(b"|", b"-"), OK
    )
    assert responses[0].body == body.replace(b"|", b"-")
    assert responses[1].body == b"ok"
    assert peer.connections == 1


def test_an_answer_that_ends_with_the_connection(exchange):
    _, (response,) = exchange(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert response.body == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ],
)
def test_broken_answers(exchange, answer):
    with pytest.raises(ConnectionFailed, match="localhost"):
        exchange(answer)


def test_redirects_are_not_followed(exchange):
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n"
    peer, (response,) = exchange(answer)
    assert response.status == 302
    assert peer.connections == 1


def test_a_surplus_answer_is_not_treated_as_the_next_one(exchange):
    """A peer that sends more than was asked for."""
    peer, responses = exchange(OK + OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    assert [response.body for response in responses] == [b"ok", b"next"]
    assert peer.connections == 2


def test_a_timeout(exchange):
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        exchange(b"HTTP/1.1 200 OK\r\n" + b"|".join(b"X: y\r\n" for _ in range(200)), timeout=0.3)
    assert time.monotonic() - begun < 1.5


def test_header_fields_cannot_be_injected(exchange):
    with pytest.raises(InvalidArgument):
        exchange(OK, requests=[Request("GET", "/x", b"", (("A", "b\r\nX: y"),))])


def test_tls(exchange, authority):
    peer, responses = exchange(OK, OK, tls=authority.server, ca=authority.file)
    assert [response.body for response in responses] == [b"ok", b"ok"]
    assert peer.connections == 1
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed") as raised:
        exchange(OK, tls=authority.server)
    assert raised.value.is_final
