"""A TCP proxy that misbehaves as told: it cuts, doubles, delays and trickles."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Listens on ``port`` and passes everything on to a server, but for the next requests as `plan` says.

    A plan is a list; each request takes the first item:

    - ``"pass"``;
    - ``"cut before"`` the server sees the request, ``"cut inside"`` it: the server sees the first half of it;
    - ``"cut after"`` the server answered, without passing the answer on; ``"reset"``: the same, by a reset;
    - ``"half"``: the answer is passed on by half, and cut;
    - ``"twice"``: the request is sent to the server twice; ``"again"``: a second time, some time after it was answered;
    - ``"delay"``: the answer comes late, ``"hang"``: so late that nobody waits for it any more;
    - ``"trickle"``: the answer comes byte by byte, slowly; ``"drip"``: so does the request, to the server.
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
        """Let the server answer; whether the connection goes on."""
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
    """Return one request or response, with a Content-Length or without a body; nothing at the end."""
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
