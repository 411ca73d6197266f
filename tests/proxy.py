"""A TCP proxy that misbehaves as told: it cuts, delays and trickles."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Listens on ``port`` and passes everything on to a server, but for the next connections as `plan` says.

    A plan is a list; each request takes the first item:
    ``"pass"``; ``"cut before"`` the server sees the request; ``"cut after"`` it answered, without passing the answer on;
    ``"half"`` the answer is passed on by half; ``"trickle"``, byte by byte, slowly; ``"twice"``, the
    request is sent to the server twice; ``"hang"``, nothing ever comes back.
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
                if how == "cut before":
                    return
                answer = self._ask(request)
                if how == "twice":
                    answer = self._ask(request)
                if how == "cut after":
                    return
                if how == "half":
                    client.sendall(answer[: len(answer) // 2])
                    return
                if how == "hang":
                    time.sleep(3)
                    return
                if how == "trickle":
                    for byte in answer:
                        client.sendall(bytes([byte]))
                        time.sleep(0.05)
                else:
                    client.sendall(answer)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.server_port)) as server:
            server.sendall(request)
            return _message(server)


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
