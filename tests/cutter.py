"""A proxy in front of PostgreSQL that loses commits or their answers."""

from __future__ import annotations

import contextlib
import socket
import threading

import psycopg


class Cutter:
    """Cuts the connection at the next commits, as `plan` says: before the server receives one, or before its answer returns.

    `seen` counts the commits. A plan item that contains "for good" also refuses all later connections.
    """

    def __init__(self, address):
        self._folder = psycopg.conninfo.conninfo_to_dict(address)["host"]
        self.plan, self.seen, self.refusing = [], 0, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self, address):
        parts = psycopg.conninfo.conninfo_to_dict(address)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{parts['dbname']}?sslmode=disable&gssencmode=disable"

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refusing:
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(f"{self._folder}/.s.PGSQL.5432")
                cut = threading.Event()
                threading.Thread(target=self._there, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._back, args=(client, server, cut), daemon=True).start()

    def _there(self, client, server, cut):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                how = ""
                if b"botwire_commit" in data:
                    self.seen += 1
                    how = self.plan.pop(0) if self.plan else ""
                if how == "cut before":
                    break
                if how.startswith("cut after"):
                    self.refusing = "for good" in how
                    cut.set()
                server.sendall(data)
        if not cut.is_set():
            _hang_up(client, server)

    def _back(self, client, server, cut):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                if cut.is_set():
                    break
                client.sendall(self._changed(data))
        _hang_up(client, server)

    def _changed(self, data):
        return data


def _hang_up(*sockets):
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
