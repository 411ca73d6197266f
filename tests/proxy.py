"""A TCP proxy with planned faults: it cuts, duplicates, delays and slows requests and answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Listens on ``port`` and forwards requests to a server. Each request uses the next item of `plan`; without one, it passes.

    - ``"pass"``: forward request and answer.
    - ``"cut before"``: close the connection before the server receives the request.
    - ``"cut inside"``: send half of the request to the server, then close.
    - ``"cut after"``: close after the server answered, without the answer.
    - ``"reset"``: like ``"cut after"``, with a TCP reset.
    - ``"half"``: return half of the answer, then close.
    - ``"twice"``: send the request to the server twice.
    - ``"again"``: send the request a second time 50 ms after the answer.
    - ``"delay"``: return the answer after 0.1 s.
    - ``"hang"``: return the answer after 3 s, longer than any client of the tests waits.
    - ``"trickle"``: return the answer slowly, byte by byte.
    - ``"drip"``: send the request to the server slowly, byte by byte.
    """

    def __init__(self, server_port: int, plan: list[str] | None = None) -> None:
        self.server_port = server_port
        self.plan = plan or []
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while request := _message(client):
                self.requests += 1
                how = self.plan.pop(0) if self.plan else "pass"
                if how == "cut before" or not self._pass_on(client, request, how):
                    return

    def _pass_on(self, client: socket.socket, request: bytes, how: str) -> bool:
        """Forward a request and its answer. Return whether the connection stays open."""
        if how == "cut inside":
            with socket.create_connection(("127.0.0.1", self.server_port)) as server:
                server.sendall(request[: len(request) // 2])
            return False
        answer = self._ask(request, pause=0.0005 if how == "drip" else 0)
        if how == "twice":
            answer = self._ask(request)
        if how == "again":
            threading.Timer(0.05, self._ask, [request]).start()
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how in {"cut after", "reset"}:
            return False
        if how == "half":
            client.sendall(answer[: len(answer) // 2])
            return False
        if how in {"delay", "hang"}:
            time.sleep(0.1 if how == "delay" else 3)
        _send(client, answer, pause=0.05 if how == "trickle" else 0)
        return how != "hang"

    def _ask(self, request: bytes, pause: float = 0) -> bytes:
        with socket.create_connection(("127.0.0.1", self.server_port)) as server:
            _send(server, request, pause)
            return _message(server)


def _send(connection: socket.socket, data: bytes, pause: float) -> None:
    if not pause:
        connection.sendall(data)
        return
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(pause)


def _message(connection: socket.socket) -> bytes:
    """Return one request or response, with a Content-Length or without a body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
