"""A search takes neither the threads of others nor, once its client has gone, any time."""

from __future__ import annotations

import http.client
import json
import random
import select
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from botwire.limits import MAX_SEARCH_BYTES

TEXTS = 100


def call(server, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
    response = connection.getresponse()
    status, answer = response.status, response.read()
    connection.close()
    return status, answer


def begin(server, namespace):
    """Send a search for all texts, and return its connection."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    target = f"/search/{namespace}?q=word&limit=1000&neighbours=0"
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def cpu(server):
    """Return the seconds of processor time that a server has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def when_idle(server):
    """Wait until a server does nothing more, and return the processor time that it has used."""
    used = -1.0
    while (now := cpu(server)) > used:
        used = now
        time.sleep(0.3)
    return now


@pytest.fixture(scope="module")
def filled(shared_server):
    """A server with long texts, and the processor time of one search in them."""
    drawn = random.Random(1)
    names = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(5_000)]
    texts = [{"data": "word " + " ".join(drawn.choices(names, k=9_000))} for _ in range(TEXTS)]
    assert call(shared_server, "POST", "/sessions/long/s", {"messages": texts})[0] == 200
    assert call(shared_server, "PUT", "/memory/neighbour/k", {"value": 1})[0] == 200
    while call(shared_server, "GET", "/search/long?q=word")[0] == 503:
        pass  # the index is being built
    begun = when_idle(shared_server)
    status, answer = call(shared_server, "GET", "/search/long?q=word&limit=1000&neighbours=0")
    assert (status, len(json.loads(answer)["hits"])) == (200, TEXTS)
    return shared_server, when_idle(shared_server) - begun


def test_a_search_ends_when_its_client_goes(filled):
    server, seconds = filled
    begun = when_idle(server)
    for _ in range(6):
        connection = begin(server, "long")
        time.sleep(0.05)
        connection.close()
    assert when_idle(server) - begun < 3 * seconds


def test_others_can_list_and_search_meanwhile(filled):
    server, _ = filled
    with ExitStack() as later:
        searches = [later.enter_context(begin(server, "long")) for _ in range(12)]
        time.sleep(0.2)
        assert call(server, "GET", "/memory/neighbour") == (200, b'{"namespace":"neighbour","keys":["k"],"next":null}')
        assert call(server, "GET", "/search/neighbour?q=k")[0] == 200
        answered, _, _ = select.select(searches, [], [], 0)
        assert len(answered) < 6  # the others wait for their turn


def test_the_body_of_a_search(shared_server):
    body = {"q": "word", "where": {"a": "x"}, "prefix": "y" * MAX_SEARCH_BYTES}
    status, answer = call(shared_server, "POST", "/search/long", body)
    assert status == 422
    assert b"262,144 bytes" in answer
    assert call(shared_server, "POST", "/search/long", {"q": "🤖" * 8_000})[0] == 200
