"""Connections count and end on time also while they shake hands for TLS, or never do."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import ssl
import sys
import time
from pathlib import Path

import pytest

from tests.certificates import write_certificate
from tests.servers import Server
from tests.waiting import until

HEADER = 1
QUICK = f"""
import resource, sys
from botwire.connections import peers, protocol
protocol.HEADER_SECONDS = {HEADER}
peers.is_exempt = lambda host: host == "127.0.0.1"
files = int(sys.argv[1])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
sys.argv = sys.argv[4:]
from botwire.cli import run
run()
"""
"""The server's command with a limit of open files, a shorter timeout, and only 127.0.0.1 as this machine."""

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
CONTEXT = ssl._create_unverified_context()


def served(folder, most, files=0):
    cert, key = write_certificate(folder)
    options = (
        "--host",
        "0.0.0.0",
        "--open",
        "--max-connections",
        str(most),
        "--tls-cert",
        str(cert),
        "--tls-key",
        str(key),
    )
    return Server(folder / "a.db", *options, prefix=(sys.executable, "-c", QUICK, str(files)))


def connect(server, host="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(host, 0))


def request(server, data=HEALTH, host="127.0.0.1"):
    """Return an answer, or nothing if the server refuses the connection."""
    answer = b""
    with contextlib.suppress(OSError), connect(server, host) as raw, CONTEXT.wrap_socket(raw) as connection:
        connection.sendall(data)
        while part := connection.recv(65536):
            answer += part
    return answer


def serves(server):
    return b" 200 OK" in request(server)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("tls"), 20) as server:
        yield server


def hello():
    """Return the first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    connection = CONTEXT.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def test_a_client_that_never_shakes_hands_is_disconnected(server):
    """It sends nothing, a part of the first message, all of it, or one byte at a time."""
    begun, connections = time.monotonic(), [connect(server) for _ in range(4)]
    for connection, begin in zip(connections, (b"", hello()[:50], hello()), strict=False):
        connection.sendall(begin)
    slow, waiting = connections[3], set(connections)
    for byte in hello():
        if not waiting:
            break
        with contextlib.suppress(OSError):
            slow.sendall(bytes([byte]))
        for connection in select.select(waiting, [], [], 0.1)[0]:
            if not _received(connection):
                assert time.monotonic() - begun > HEADER - 0.5
                waiting.remove(connection)
    assert not waiting
    for connection in connections:
        connection.close()
    assert serves(server)


def _received(connection):
    with contextlib.suppress(OSError):
        return connection.recv(65536)
    return b""


@pytest.mark.parametrize(
    "sent", [HEALTH, b"\x16\x03\x01" + b"\xff" * 600, os.urandom(5000)], ids=["HTTP", "records", "noise"]
)
def test_what_is_no_tls_is_ended_at_once(server, sent):
    with connect(server) as connection:
        connection.settimeout(5)
        connection.sendall(sent)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):  # an alert
                pass
    assert serves(server)


def test_a_client_that_is_silent_after_its_handshake_is_disconnected(server):
    with connect(server) as raw, CONTEXT.wrap_socket(raw) as connection:
        assert connection.recv(10) == b""


def test_handshakes_count_as_connections(server):
    """They have a limit for each client and one for all, and they are in the metrics."""

    def answered(host, count, path, wanted):
        shaking = [connect(server, host) for _ in range(count)]
        found = re.search(wanted, request(server, HEALTH.replace(b"/health", path), host))
        for connection in shaking:
            connection.close()
        return found

    until(lambda: answered("127.0.0.2", 10, b"/health", rb" 503 "), "refusal of one client")
    until(lambda: answered("127.0.0.1", 20, b"/health", rb" 503 "), "refusal of all clients")
    until(lambda: answered("127.0.0.1", 3, b"/metrics", rb"botwire_connections ([4-9]|\d\d)"), "count")
    until(lambda: serves(server), "answer")


def test_a_flood_of_handshakes_is_refused(tmp_path):
    with served(tmp_path, 2) as server:
        flood = [connect(server) for _ in range(50)]
        until(lambda: len(select.select(flood, [], [], 0)[0]) >= 50 - 2 * 16, "refusal", timeout=20)
        until(lambda: serves(server), "answer")
        for connection in flood:
            connection.close()


def test_connections_leave_files_for_others(tmp_path):
    """More connections than the process may have files end neither the server nor its database."""
    with served(tmp_path, 10_000, files=300) as server:
        flood = [connect(server) for _ in range(500)]
        time.sleep(0.5)
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 290
        for connection in flood:
            connection.close()
        until(lambda: serves(server), "answer")
        assert "Too many open files" not in "".join(server.log)
