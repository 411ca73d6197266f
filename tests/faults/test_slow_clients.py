"""The server disconnects clients that never finish. Other clients are not affected."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from botwire import Memory
from tests.certificates import write_certificate
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
        server.ca, server.wrap = None, lambda connection: connection
        yield server


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secure")
    cert, key = write_certificate(folder)
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    with Server(folder / "a.db", *options, prefix=(sys.executable, "-c", QUICK)) as server:
        server.url, server.ca = server.url.replace("http:", "https:"), str(cert)
        server.wrap = partial(ssl.create_default_context(cafile=cert).wrap_socket, server_hostname="127.0.0.1")
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
        (PUT.replace(b"json", b"xml").replace(b"100", b"999999999"), b"x" * 50_000, BODY),
        (b"GET /memory/n/k HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n", HEADER),
    ],
    ids=[
        "nothing",
        "half a line",
        "header without end",
        "no body",
        "body without end",
        "body after its answer",
        "line breaks",
    ],
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


STEADY = 5
"""Seconds that a slow client takes: longer than any timeout."""


def read_slowly(connection):
    """Return how much of an answer the server sends to a client that reads a little 20 times a second."""
    begun, received = time.monotonic(), 0
    connection.sendall(b"GET /memory/n/steady HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    with contextlib.suppress(OSError):
        while data := connection.recv(100_000):
            received += len(data)
            time.sleep(max(0.0, begun + STEADY * received / 8_000_000 - time.monotonic()))
    return received


def write_slowly(connection):
    """Return the answer to a body that a client sends in small parts."""
    body = b'{"value": "' + b"x" * 1_000_000 + b'"}'
    with contextlib.suppress(OSError):
        connection.sendall(PUT.replace(b"100", str(len(body)).encode()))
        for at in range(0, len(body), 10_000):
            connection.sendall(body[at : at + 10_000])
            time.sleep(STEADY / 100)
        return connection.recv(65536)
    return b""


def read_bytes(connection):
    """Return how much of two answers the server sends to a client that reads ten bytes a second."""
    connection.sendall(b"GET /memory/n/steady HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
    received, end = 0, time.monotonic() + READING + 3
    with contextlib.suppress(OSError):
        while data := connection.recv(1 if time.monotonic() < end else 1_000_000):
            received += len(data)
            if time.monotonic() < end:
                time.sleep(0.1)
    return received


def test_a_slow_client_that_makes_progress_is_served(server, secure_server):
    """One that reads a byte now and then is not."""
    for each in (server, secure_server):
        Memory("n", each.url, ca=each.ca).set("steady", "x" * 8_000_000)

    def narrow(each):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", each.port))
        return each.wrap(connection)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(6) as pool:
        connections = [stack.enter_context(narrow(each)) for each in (server, secure_server) for _ in range(3)]
        reading = [pool.submit(read_slowly, connection) for connection in connections[::3]]
        writing = [pool.submit(write_slowly, connection) for connection in connections[1::3]]
        pausing = [pool.submit(read_bytes, connection) for connection in connections[2::3]]
        assert [result.result() > 8_000_000 for result in reading] == [True, True]
        assert [result.result()[:12] for result in writing] == [b"HTTP/1.1 200"] * 2
        assert max(result.result() for result in pausing) < 16_000_000


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
