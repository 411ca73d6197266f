"""The server disconnects clients that never finish. Other clients are not affected."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time

import pytest

from botwire import Memory
from tests.faults.scale import Lateness
from tests.servers import Server

HEADER, BODY, READING = 1, 2, 2
QUICK = f"""
import sys
from botwire.connections import protocol
protocol.HEADER_SECONDS, protocol.BODY_SECONDS, protocol.READING_SECONDS = {HEADER}, {BODY}, {READING}
sys.argv = sys.argv[3:]
from botwire.cli import run
run()
"""
"""The server's command with shorter timeouts, so that the test is fast."""

PUT = b"PUT /memory/n/k HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("slow") / "a.db", prefix=(sys.executable, "-c", QUICK)) as server:
        yield server


def connect(server, data=b""):
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(data)
    return connection


def closed_after(connections, seconds, drip=None) -> list[float | None]:
    """Return the seconds until the server closed each connection; None if it did not."""
    begun, ends = time.monotonic(), dict.fromkeys(connections)
    while time.monotonic() - begun < seconds and None in ends.values():
        waiting = [connection for connection, end in ends.items() if end is None]
        for connection in select.select(waiting, [], [], 0.1)[0]:
            data = b""
            with contextlib.suppress(OSError):
                data = connection.recv(65536)
            if not data:
                ends[connection] = time.monotonic() - begun
        for connection in waiting:
            if drip and ends[connection] is None:
                with contextlib.suppress(OSError):
                    connection.sendall(drip)
    for connection in connections:
        connection.close()
    return list(ends.values())


@pytest.mark.parametrize(
    ("data", "drip", "allowed"),
    [
        (b"", None, HEADER),
        (b"GET /memory/n/k HT", None, HEADER),
        (b"GET /memory/n/k HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n", HEADER),
        (PUT, None, BODY),
        (PUT[:-2].replace(b"100", b"9999999") + b"\r\n", b" ", BODY),
    ],
    ids=["nothing", "half a line", "header without end", "no body", "body without end"],
)
def test_a_client_that_never_finishes_a_request_is_disconnected(server, data, drip, allowed):
    memory = Memory("n", server.url)
    connections = [connect(server, data) for _ in range(30)]
    begun = time.monotonic()
    with Lateness() as late:
        memory.set("k", 1)
        assert memory.get("k") == 1
        took = time.monotonic() - begun
        ends = closed_after(connections, allowed + 8, drip)
    assert took < 0.5 + 2 * late.longest
    assert all(end is not None and allowed - 0.5 < end + took < allowed + 3 + 2 * late.longest for end in ends), ends


def test_a_client_that_never_reads_an_answer_is_disconnected(server):
    memory = Memory("n", server.url)
    memory.set("big", "x" * 15_000_000)
    connections = [connect(server, b"GET /memory/n/big HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2) for _ in range(5)]
    time.sleep(READING + 2.5)
    for connection in connections:
        received = 0
        with contextlib.suppress(OSError):
            while data := connection.recv(1_000_000):
                received += len(data)
        assert received < 30_000_000
        connection.close()
    assert memory.get("big") == "x" * 15_000_000


def test_a_slow_client_that_finishes_is_served(server):
    """The client sends its request in five parts within a second."""
    with connect(server) as connection:
        body = b'{"value": "slow"}'
        head = PUT.replace(b"100", str(len(body)).encode())
        for part in (head[:20], head[20:60], head[60:], body[:5], body[5:]):
            connection.sendall(part)
            time.sleep(0.2)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert Memory("n", server.url).get("k") == "slow"
