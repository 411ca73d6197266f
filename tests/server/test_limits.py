"""What a stranger may send, and how much of it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import time

import pytest

from botwire import InvalidValue, Memory
from botwire.connections.protocol import MAX_FIELDS, MAX_HEADER_BYTES, MAX_URL_BYTES
from botwire.limits import MAX_WRITE_BYTES
from tests.servers import Server

STRICT = """
import sys
from botwire.connections import peers
peers.is_exempt = lambda host: host == "127.0.0.1"
sys.argv = sys.argv[3:]
from botwire.cli import run
run()
"""
"""The server's command, to which only 127.0.0.1 is this machine."""


@pytest.fixture(autouse=True)
def it_lives(shared_server):
    yield
    with Memory("limits", shared_server.url) as memory:
        memory.set("alive", 1)
        assert memory.get("alive") == 1


def answer(server, *parts, pause=0.0):
    """Send bytes as they are, and return the status and the body of the answer, and whether the connection was closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # refused before all was sent
        data, closed = b"", False
        try:
            while not re.search(rb"\r\n\r\n.+", data, re.DOTALL) and not closed:
                received = connection.recv(65536)
                data, closed = data + received, not received
            connection.settimeout(0.2)
            closed = closed or not connection.recv(65536)
        except TimeoutError:
            pass
        except ConnectionResetError:
            closed = True
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else None, body, closed


def get(target, fields=b""):
    return b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n"


def test_a_url(shared_server):
    longest = b"/memory/limits/" + b"k" * (MAX_URL_BYTES - 15)
    assert answer(shared_server, get(longest))[0] == 422  # no such key can be, but it is looked at
    status, body, closed = answer(shared_server, get(longest + b"k"))
    assert (status, json.loads(body)["type"], closed) == (414, "urn:botwire:error:too_large", True)
    assert answer(shared_server, b"GET /" + b"k" * 10_000_000)[0] == 431
    many = b"/memory/limits?" + b"&".join(b"key=%d" % number for number in range(1_400))
    assert answer(shared_server, get(many))[0] == 200


def test_a_header(shared_server):
    most = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_FIELDS - 1))
    assert answer(shared_server, get(b"/memory/limits", most))[0] == 200
    status, body, closed = answer(shared_server, get(b"/memory/limits", most + b"X: y\r\n"))
    assert (status, json.loads(body)["type"], closed) == (431, "urn:botwire:error:too_large", True)
    large = b"X: " + b"y" * (MAX_HEADER_BYTES - 14) + b"\r\n"
    assert answer(shared_server, get(b"/memory/limits", large))[0] == 200
    assert answer(shared_server, get(b"/memory/limits", large + b"Z: z\r\n"))[0] == 431
    parts = [b"GET /memory/limits HTTP/1.1\r\nHost: localhost\r\n", *[b"X: " + b"y" * 8000 + b"\r\n"] * 3, b"\r\n"]
    assert answer(shared_server, *parts, pause=0.02)[0] == 200
    for endless in (b"X: " + b"y" * 10_000_000, b"X: y\r\n" * 1_000_000, b"y" * 10_000_000):
        status, _, closed = answer(shared_server, b"GET / HTTP/1.1\r\nHost: localhost\r\n", endless, pause=0.02)
        assert (status, closed) == (431, True)


def test_a_large_body_in_the_packet_of_its_header(shared_server):
    body = b'{"value": "' + b"x" * 200_000 + b'"}'
    head = b"PUT /memory/limits/k HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    head = head.replace(b"Host: x", b"Host: localhost") % len(body)
    assert answer(shared_server, head + body)[0] == 200
    assert answer(shared_server, (head + body) * 3)[0] == 200  # one behind the other


def test_one_client_leaves_room_for_others(tmp_path):
    options = ("--host", "0.0.0.0", "--open", "--max-connections", "10")
    with Server(tmp_path / "a.db", *options, prefix=(sys.executable, "-c", STRICT)) as server:

        def connections(host, count):
            found = [
                socket.create_connection(("127.0.0.1", server.port), source_address=(host, 0)) for _ in range(count)
            ]
            for connection in found:
                connection.settimeout(10)
                connection.sendall(get(b"/memory/n"))
            return found, [int(connection.recv(65536).split()[1]) for connection in found]

        for _ in range(2):  # what is let go of is free again
            greedy, answers = connections("127.0.0.2", 7)
            assert answers == [200] * 5 + [503] * 2
            modest, answers = connections("127.0.0.3", 3)
            assert answers == [200] * 3
            for connection in greedy + modest:
                connection.close()
            time.sleep(0.1)
        local, answers = connections("127.0.0.1", 10)
        assert answers == [200] * 10
        for connection in local:
            connection.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/memory/n HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /memory/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /memory/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /memory/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /memory/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /memory/n HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        b"GET /memory/n HTTP/1.1\r\nHost: localhost\r\n folded: y\r\n\r\n",
    ],
    ids=lambda nonsense: ascii(nonsense[:14]),
)
def test_nonsense(shared_server, nonsense):
    status, _, _ = answer(shared_server, nonsense)
    assert status is None or 400 <= status < 500


def test_a_write_that_is_too_large_says_how_large_one_may_be(shared_server):
    with Memory("limits", shared_server.url) as memory:
        with pytest.raises(InvalidValue, match="33,554,432 bytes: split it"):
            memory.history("large").append(["x" * 12_000_000] * 3)
        assert len(memory.history("large")) == 0


@pytest.mark.parametrize(
    ("path", "field", "item"),
    [
        ("/memory/limits", b"operations", b'{"op":"delete","key":"k"}'),
        ("/sessions/limits/many", b"messages", b'{"data":1}'),
    ],
    ids=["operations", "messages"],
)
def test_many_at_once(shared_server, path, field, item):
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=20)
    for count, wanted in ((10_000, 200), (10_001, 422), (500_000, 422)):
        body = b'{"' + field + b'":[' + b",".join([item] * count) + b"]}"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == wanted
    connection.close()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_length_of_a_body(shared_server, is_chunked):
    """The answer comes although the client still sends, and the connection goes on."""
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=60)
    for length, wanted in ((MAX_WRITE_BYTES, 200), (MAX_WRITE_BYTES + 1, 413), (15, 200)):
        body = b'{"value": "v"}'.ljust(length)
        parts = [body[start : start + 1_000_000] for start in range(0, length, 1_000_000)]
        fields = {"Content-Type": "application/json", "Connection": "keep-alive"}
        connection.request("PUT", "/memory/limits/k", parts if is_chunked else body, fields, encode_chunked=is_chunked)
        response = connection.getresponse()
        response.read()
        assert response.status == wanted
    connection.close()


def test_the_page_of_routes_loads_nothing(shared_server):
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=10)
    connection.request("GET", "/docs")
    response = connection.getresponse()
    page = response.read().decode()
    connection.request("GET", "/openapi.json")
    document = json.loads(connection.getresponse().read())
    connection.close()
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert not re.search(r"https?://|<script|<link|<img|src=|url\(|@import", page)
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in page
