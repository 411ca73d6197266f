"""HTTP itself: trailers, chunks, pipelined requests, hosts, and the bytes of a URL."""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.request
from contextlib import closing, suppress

import pytest

from botwire import Memory
from botwire.connections.protocol import MAX_HEADER_BYTES, MAX_PIPELINED
from botwire.server.access.rules import TABLE
from botwire.server.operator import OnStore
from tests.servers import Server
from tests.waiting import until

CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
PUT = b"PUT /memory/protocol/k HTTP/1.1\r\nHost: localhost\r\n"
VALUE = b'b\r\n{"value":1}\r\n'
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def exchange(server, *parts):
    """Send bytes as they are, and return all answers until the server closes the connection, or None if it does not."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        data = b""
        with suppress(ConnectionError):  # the server may answer, and close the connection, before all is sent
            for part in parts:
                connection.sendall(part)
        try:
            while received := connection.recv(65536):
                data += received
        except TimeoutError:
            return None
        except ConnectionError:
            pass
        return data


def statuses(answers):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


def settled(server, *parts):
    """Send a request and one more that closes the connection, and return the first status."""
    end = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return statuses(exchange(server, *parts, end))[0]


# Bytes outside of bodies

ENDLESS = {
    "trailers": VALUE + b"0\r\n" + b"a:b\r\n" * 1_000_000,
    "a trailer": VALUE + b"0\r\na:" + b"b" * 5_000_000,
    "a chunk extension": b"1;" + b"e" * 5_000_000,
    "chunk extensions": b"1;eeeeeeee\r\n \r\n" * 400_000,
    "a chunk size": b"0" * 5_000_000,
    "tiny chunks": b"1\r\n \r\n" * 800_000,
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("route", [b"PUT /memory/protocol/k", b"GET /health", b"GET /nothing", b"GET /watch/protocol"])
def test_the_bytes_outside_of_a_body_are_limited(shared_server, route, endless):
    answers = exchange(shared_server, route + b" HTTP/1.1\r\nHost: localhost\r\n" + CHUNKED + b"\r\n", endless)
    assert answers is not None, "the server went on reading"
    assert statuses(answers) in ([], [431], [200], [404])  # an answer to a GET does not wait for its body


def test_line_breaks_before_a_request_are_limited(shared_server):
    assert settled(shared_server, b"\r\n" * 100) == 200
    assert exchange(shared_server, b"\r\n" * 2_000_000) is not None
    assert exchange(shared_server, HEALTH + b"\r\n" * 2_000_000) is not None


def test_usual_chunks_and_a_few_trailers_are_accepted(shared_server):
    large = b'{"value": "' + b"x" * 1_000_000 + b'"}'
    parts = [
        b"%x;name=value\r\n%b\r\n" % (len(part), part)
        for part in (large[at : at + 4096] for at in range(0, len(large), 4096))
    ]
    trailers = b"a:b\r\n" * 1000
    assert len(trailers) < MAX_HEADER_BYTES
    assert settled(shared_server, PUT + CHUNKED + b"\r\n", *parts, b"0\r\n", trailers, b"\r\n") == 200
    with Memory("protocol", shared_server.url) as memory:
        assert memory["k"] == "x" * 1_000_000
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"value": [' + b"1," * 2000 + b"1]}")
    assert settled(shared_server, PUT + CHUNKED + b"\r\n", tiny, b"0\r\n\r\n") == 200


@pytest.mark.parametrize(
    ("given", "trailer", "status"),
    [
        (b"", b"Content-Type: application/json", 415),
        (b"Content-Type: application/json\r\n", b"Idempotency-Key: " + b"k" * 600, 200),
        (b"Content-Type: application/json\r\n", b"Host: evil.example", 200),
        (b"Content-Type: application/json\r\n", b"Content-Length: 7", 400),
    ],
    ids=["type", "idempotency key", "host", "length"],
)
def test_a_trailer_is_no_header_field(shared_server, given, trailer, status):
    request = PUT + given + b"Transfer-Encoding: chunked\r\n\r\n" + VALUE + b"0\r\n" + trailer + b"\r\n\r\n"
    assert settled(shared_server, request) == status
    assert settled(shared_server, *(request[at : at + 7] for at in range(0, len(request), 7))) == status


def test_a_trailer_lets_nobody_in(tmp_path):
    with Server(tmp_path / "a.db", "--auth", "required") as server:
        with closing(OnStore(f"sqlite:///{server.db}")) as file:
            secret = file.create(namespaces=["*"], can=["write"], name="", expires_in=None)["secret"].encode()
        authorization = b"Authorization: Bearer " + secret + b"\r\n"
        for field, trailer, status in ((b"", authorization, 401), (authorization, b"", 200)):
            request = PUT + CHUNKED + field + b"\r\n" + VALUE + b"0\r\n" + trailer + b"\r\n"
            assert settled(server, request) == status
        # It is refused before its body is read.
        assert exchange(server, PUT + b"Content-Length: 9999999\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 401 "
        )


# Several requests on one connection


def test_pipelined_requests_are_limited(shared_server):
    assert statuses(exchange(shared_server, HEALTH * 1000)) == [200] * (MAX_PIPELINED + 1)


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", PUT + CHUNKED + b"\r\nzz\r\n"]
)
def test_what_cannot_be_parsed_does_not_disturb_earlier_answers(shared_server, garbage):
    with Memory("protocol", shared_server.url) as memory:
        memory.set("large", "x" * 3_000_000)
    get = b"GET /memory/protocol/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = exchange(shared_server, get * 2 + garbage)
    found = [int(length) for length in re.findall(rb"content-length: (\d+)", answers)]
    heads = len(answers) - sum(found)
    assert statuses(answers)[:2] == [200, 200]
    assert len(found) == 2
    assert 0 < heads < 1000  # two complete answers, and nothing between or after them
    assert statuses(exchange(shared_server, garbage)) == [400]


def test_a_client_that_leaves_ends_all_its_requests(server):
    def watchers():
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            return float(re.search(r"^botwire_watchers (.+)$", answer.read().decode(), re.MULTILINE)[1])

    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /watch/n HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEALTH * 3)
        until(lambda: watchers() == 1, "watcher")
    until(lambda: watchers() == 0, "end of the watch", timeout=10)


def test_an_answer_without_100_continue_closes_the_connection(shared_server):
    request = PUT + b"Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"
    answer = exchange(shared_server, request)
    assert statuses(answer) == [415]
    assert b"connection: close\r\n" in answer  # or it takes the next request for the body of this one
    request = request.replace(b"text/plain", b"application/json")
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=10) as connection:
        connection.sendall(request)
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"value":1}')
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_nothing_is_parsed_after_an_upgrade(shared_server):
    upgrade = HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert statuses(exchange(shared_server, upgrade + b"x" * 70_000 + HEALTH, HEALTH)) == [200]


# The request line and the header


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        (b"GET /health HTTP/1.0\r\n", 200),
        (b"GET /health HTTP/1.0\r\nHost: localhost\r\nhost: 127.0.0.1\r\n", 400),
        (b"GET /health\r\n", 400),
        (b"GET /health HTTP/0.9\r\n", 400),
    ],
)
def test_a_request_names_its_host_once(shared_server, head, status):
    answers = exchange(shared_server, head + b"\r\n")
    assert statuses(answers) == [status]
    if status == 400:
        assert json.loads(answers.partition(b"\r\n\r\n")[2])["status"] == 400


BROKEN = ["%FF", "caf%E9", "%C0%AF", "%ED%A0%80", "%f4%90%80%80", "a%C3"]


@pytest.mark.parametrize("broken", BROKEN)
def test_names_that_are_not_utf8_are_refused(shared_server, broken):
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=10)
    for method, route in TABLE:
        paths = {re.sub(r"\{[^}]+\}", broken, route), re.sub(r"\{[^}]+\}", "protocol", route) + f"?q={broken}"}
        for path in paths - {route}:
            connection.request(method, path, b"{}", {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["type"]) == (422, "urn:botwire:error:invalid_argument")
    for path in (f"/memory/protocol?key={broken}", f"/memory/protocol?after={broken}", f"/{broken}"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 422
    for name in ("é", "\ufffd", "😀", "%FF"):
        with Memory("protocol", shared_server.url) as memory:
            memory.set(name, name)
            assert memory.list_keys(name) == [name]
    connection.close()


def test_every_answer_is_for_this_site_only(shared_server):
    """Also errors, streams, and what is no HTTP."""
    for sent in (HEALTH, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /watch/n HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"GET /memory/protocol/absent HTTP/1.1\r\nHost: localhost\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", shared_server.port), timeout=10) as connection:
            connection.sendall(sent)
            head = b""
            with suppress(OSError):
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
        fields = head.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        assert fields.count(b"cross-origin-resource-policy: same-origin") == 1
        assert fields.count(b"x-content-type-options: nosniff") == 1
