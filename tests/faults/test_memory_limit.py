"""A server holds a bounded number of bytes, whatever its clients ask for, send or leave unread, and serves others meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from botwire import Memory
from tests.faults.test_overload import memory_of
from tests.servers import Server
from tests.waiting import until

HELD = 32
"""MiB that the server may hold for requests and answers."""
MOST = 200
"""MB that it may take beyond that and beyond what it takes when idle: one large body that is checked, and the reads of four threads."""
IMPATIENT = """
import sys
from botwire.server import budget
budget.PATIENCE = 0.5
sys.argv = sys.argv[3:]
from botwire.cli import run
run()
"""
"""The server's command, which soon takes memory from slow clients."""
VALUE = 8_000_000
"""The length of a large value."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "a.db"
    with Memory("n", f"sqlite:///{path}", timeout=60) as memory:
        for number in range(6):
            memory.set(f"big/{number}", "x" * VALUE)
            memory.history("s").append(["y" * VALUE])
    with Server(path, "--max-held", str(HELD), prefix=(sys.executable, "-c", IMPATIENT)) as server:
        Memory("n", server.url).get("k")
        server.idle = memory_of(server, "VmRSS")
        yield server
    assert not [event for event in server.events() if event["level"] == "error"]


@contextlib.contextmanager
def bounded(server):
    """Check that the server stays within its memory, and that others are served."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # VmHWM begins again
    stop, waits, slowness = threading.Event(), [], []

    def neighbour():
        with Memory("neighbour", server.url, timeout=60) as memory:
            while not stop.is_set():
                begun = time.monotonic()
                memory.set("k", begun)
                waits.append(time.monotonic() - begun)
                begun = time.monotonic()
                assert memory.get("k")
                waits.append(time.monotonic() - begun)
                slowness.append(slowness_now())

    thread = threading.Thread(target=neighbour)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    taken = memory_of(server, "VmHWM") - server.idle
    assert taken < HELD + MOST, taken
    assert max(waits) < 1 + max(slowness), (max(waits), max(slowness))
    assert memory_of(server, "VmRSS") - server.idle < HELD + MOST / 2


def slowness_now():
    """Return how many seconds a second of work takes, on a machine that is busy."""
    begun, worked = time.monotonic(), time.thread_time()
    while time.thread_time() - worked < 0.01:
        pass
    return (time.monotonic() - begun) / 0.01


@contextlib.contextmanager
def silent(server, count, head, body=b""):
    """Clients that send this, and then neither send nor read."""
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]

    def send(connection):
        with contextlib.suppress(OSError):
            connection.sendall(head + body)

    threads = [threading.Thread(target=send, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    yield connections
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    for thread in threads:
        thread.join()


def head(method, target, length=0):
    fields = f"Content-Type: application/json\r\nContent-Length: {length}\r\n" if length else ""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode()


def request(server, method, target, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, target, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_answers_that_no_client_reads(server):
    targets = ["/memory/n?values=true", "/sessions/n/s", "/memory/n/big%2F1", "/memory/n?key=big/1&key=big/2&key=big/3"]
    with bounded(server), contextlib.ExitStack() as stack:
        for target in targets:
            stack.enter_context(silent(server, 6, head("GET", target)))
        time.sleep(1.5)  # longer than the server's patience
        with Memory("n", server.url, timeout=60) as memory:  # those who read get theirs
            assert memory.get("big/1") == "x" * VALUE
            assert len(memory.items("big/")) == 6
            assert len(memory.history("s").messages()) == 6


def test_bodies_without_an_end(server):
    length = 16_000_000
    with bounded(server), silent(server, 12, head("PUT", "/memory/n/k", length), b" " * (length - 1)) as connections:
        time.sleep(1.5)
        with Memory("n", server.url, timeout=60) as memory:
            memory.set("k", "z" * VALUE)
        answered, _, _ = select.select(connections, [], [], 60)  # others may wait for their bodies
        refused = [connection.recv(65536) for connection in answered]
        assert any(answer.startswith(b"HTTP/1.1 503 ") for answer in refused)
        assert all(b"retry-after: 1" in answer.lower() for answer in refused if b" 503 " in answer[:20])


def test_a_refusal_says_when_to_try_again_and_leaves_the_connection_open(tmp_path):
    """Also when all of the body was sent. Small requests are served."""
    length = 12_000_000
    with Server(tmp_path / "a.db", "--max-held", "16") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

        def put(body):
            connection.request("PUT", "/memory/n/k", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.headers["Retry-After"], json.loads(response.read())

        def is_refused():  # before the server's patience with the other client ends
            with silent(server, 1, head("PUT", "/memory/n/k", length), b" " * (length - 1)):
                status, seconds, answer = put(b" " * length)
            return (status, seconds, answer.get("type")) == (503, "1", "urn:botwire:error:unavailable")

        until(is_refused)
        assert put(b'{"value": 1}')[0] == 200
        connection.close()


def test_watchers_that_read_nothing(server):
    with bounded(server), silent(server, 30, head("GET", "/watch/n")) as watchers:
        for watcher in watchers:
            watcher.settimeout(60)
            assert watcher.recv(65536).startswith(b"HTTP/1.1 200 ")
        with Memory("n", server.url, timeout=60) as memory:
            memory.set("k", "z" * VALUE)
        time.sleep(1)


def test_bodies_that_take_long_to_check(server):
    """The limit of what is in a body holds before it is decoded; one that is just within it is checked in a thread."""
    answers: Counter[int] = Counter()

    def send(body):
        answers[request(server, "PUT", "/memory/n/k", body)[0]] += 1

    bodies = [
        b'{"value":[' + b"{}," * 5_500_000 + b"{}]}",
        b'{"value":[' + b"[]," * 450_000 + b"[]]}",
        b'{"value":[' + b'{"a":{}},' * 230_000 + b"{}]}",
        b'{"value":[' + b'"\xf0\x9f\x98\x80ab",' * 900_000 + b"0]}",
        b'{"value":"' + b"x" * VALUE + "😀".encode() + b'"}',
    ]
    with bounded(server):
        threads = [threading.Thread(target=send, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(answers) <= {200, 422, 503}
    assert [request(server, "PUT", "/memory/n/k", body)[0] for body in bodies[:2]] == [422, 200]


def test_many_messages_at_once_from_several_clients(server):
    texts = ["m" * 1_000] * 10_000

    def append(number):
        with Memory(f"many{number}", server.url, timeout=60) as memory:
            memory.history("s").append(texts)

    with bounded(server):
        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Memory("many3", server.url, timeout=60) as memory:
        assert len(memory.history("s").messages()) == 10_000


def test_large_requests_whose_clients_leave_are_not_worked_off(tmp_path):
    """Each takes half a second to check. The last one waits for those before."""
    body = b'{"value":[' + b"123456789012345.25," * 600_000 + b"0]}"
    with Server(tmp_path / "a.db") as server, contextlib.ExitStack() as stack:
        for number in range(12):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(head("PUT", f"/memory/n/k{number:02}", len(body)) + body)
        stack.close()
        assert request(server, "PUT", "/memory/n/last", b'{"value":"' + b"x" * 100_000 + b'"}')[0] == 200
        with Memory("n", server.url, timeout=60) as memory:
            assert len(memory.keys()) <= 10
