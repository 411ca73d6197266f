"""Servers and proxies on real sockets, that answer as a test says."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import as_authority, identified

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Listener:
    """Accepts connections, and passes each to `talk` in a thread of its own."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=256)
        self.port = self.listener.getsockname()[1]
        self.connections = self.now = self.most = 0
        self._mutex = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._mutex:
            self.connections += 1
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            with contextlib.suppress(OSError), connection:
                self.talk(connection)
        finally:
            with self._mutex:
                self.now -= 1

    def talk(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Peer(Listener):
    """Answers each request on each connection with the next of its answers, and closes after the last.

    A ``|`` in an answer is a short pause. With ``answer`` every request gets the same one, after `pause` seconds.
    """

    def __init__(
        self,
        *answers: bytes,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        answer: bytes | None = None,
        pause: float = 0.0,
    ) -> None:
        self.answers, self.tls, self.answer, self.pause = list(answers), tls, answer, pause
        self.requests: list[bytes] = []
        super().__init__(host)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/base/"

    def talk(self, connection: socket.socket) -> None:
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            while self.answer or self.answers:
                request = head_of(connection)
                if not request:
                    return
                self.requests.append(request)
                time.sleep(self.pause)
                answer = self.answer or self.answers.pop(0)
                if not answer:
                    return  # the answer is lost
                for piece in answer.split(b"|"):
                    connection.sendall(piece)
                    time.sleep(0 if self.answer else 0.01)


class Proxy(Listener):
    """An HTTP proxy: it forwards requests with a full address, and opens tunnels for CONNECT."""

    def __init__(self, refusal: bytes | None = None) -> None:
        self.requests: list[bytes] = []
        self.refusal = refusal
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def talk(self, connection: socket.socket) -> None:
        head = head_of(connection)
        self.requests.append(head)
        if self.refusal:
            connection.sendall(self.refusal)
            return
        method, target, _ = head.decode("latin-1").split(" ", 2)
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = authority.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as server:
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server.sendall(head.replace(f"http://{authority}".encode(), b"", 1))
            back = threading.Thread(target=_copy, args=(server, connection), daemon=True)
            back.start()
            _copy(connection, server)
            back.join(10)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def head_of(connection: socket.socket) -> bytes:
    """Return a request as far as the end of its header at least; nothing if the connection ends."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = connection.recv(65536)
        if not part:
            return b""
        request += part
    return request


class Authority:
    """A certificate authority, with the certificate of one server for ``localhost``, 127.0.0.1 and ::1."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "ca.pem"
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = as_authority(_certificate("Test CA", ca_key, ca_key, "Test CA")).sign(ca_key, hashes.SHA256())
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", "::1"))]
        )
        server = (
            _certificate("localhost", key, ca_key, "Test CA")
            .add_extension(names, critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        self.file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        chain, secret = folder / "cert.pem", folder / "key.pem"
        chain.write_bytes(server.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(chain, secret)


def _certificate(subject, key, signer, issuer):
    def named(name):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    return identified(builder, key, signer)
