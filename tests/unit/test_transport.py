"""The HTTP transport against real sockets that answer in every legal and illegal way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from botwire import InvalidArgument
from botwire.stores.http.async_transport import AsyncTransport
from botwire.stores.http.exchange import ConnectionFailed, Request
from botwire.stores.http.transport import Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """Answers each request on each connection with the next of its answers, and closes after the last."""

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.answers, self.tls = list(answers), tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/base/"

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                while self.answers:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        part = connection.recv(65536)
                        if not part:
                            return
                        request += part
                    self.requests.append(request)
                    for piece in self.answers.pop(0).split(b"|"):
                        connection.sendall(piece)
                        time.sleep(0.01)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture(params=["blocking", "async"])
def exchange(request):
    """Send requests to a peer's answers and return the responses."""
    peers = []

    def exchange(*answers, count=None, tls=None, trust=None, timeout=2.0, requests=None):
        peer = Peer(*answers, tls=tls)
        peers.append(peer)
        todo = requests or [Request("GET", "/x")] * (count or len(answers))
        if request.param == "blocking":
            transport = Transport(peer.url, headers={"A": "b"})
            if trust:
                transport._origin.tls = trust
            try:
                return peer, [transport.send(item, timeout=timeout) for item in todo]
            finally:
                transport.close()

        async def run():
            transport = AsyncTransport(peer.url, headers={"A": "b"})
            if trust:
                transport._origin.tls = trust
            try:
                return [await transport.send(item, timeout=timeout) for item in todo]
            finally:
                transport.close()

        return peer, asyncio.run(run())

    yield exchange
    for peer in peers:
        peer.close()


def test_a_request(exchange):
    peer, (response,) = exchange(OK, requests=[Request("POST", "/m/n?x=1", b"{}", (("C", "d"),))])
    assert (response.status, response.headers, response.body) == (200, {"content-length": "2"}, b"ok")
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /base/m/n?x=1 HTTP/1.1",
        b"Host: localhost:%d" % peer.port,
        b"A: b",
        b"C: d",
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


def test_proxies_in_the_environment_are_not_used(exchange, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    _, (response,) = exchange(OK)
    assert response.status == 200


def test_a_stale_answer_is_not_taken_for_the_next_one(exchange):
    """A peer that sends more than was asked for."""
    peer, responses = exchange(OK + OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    assert [response.body for response in responses] == [b"ok", b"next"]
    assert peer.connections == 2


def test_a_timeout(exchange):
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        exchange(b"HTTP/1.1 200 OK\r\n" + b"|".join(b"X: y\r\n" for _ in range(200)), timeout=0.3)
    assert time.monotonic() - begun < 1.5


def test_header_fields_cannot_be_smuggled_in(exchange):
    with pytest.raises(InvalidArgument):
        exchange(OK, requests=[Request("GET", "/x", b"", (("A", "b\r\nX: y"),))])


@pytest.fixture
def certificate(tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    return tmp_path


def test_tls(exchange, certificate):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trust = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    peer, responses = exchange(OK, OK, tls=server, trust=trust)
    assert [response.body for response in responses] == [b"ok", b"ok"]
    assert peer.connections == 1
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        exchange(OK, tls=server)
