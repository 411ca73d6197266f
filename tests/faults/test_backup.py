"""Back up a server under load, restore the backup into a new one, and compare everything."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from botwire import Memory
from botwire.queries import GetUsage, ListEntries, ListMessages, ListSessions
from botwire.stores.http.store import HttpStore
from botwire.stores.sqlite.check import check
from tests.faults.scale import rounds
from tests.servers import Server

CLIENTS = 4
MEGABYTES = rounds(10, 500)


class Client(threading.Thread):
    """Writes repeatedly and counts acknowledged writes."""

    def __init__(self, number: int, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.number, self.stop = number, stop
        self.memory = Memory(f"client {number}", url)
        self.acknowledged = 0
        self.slowest = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        history = self.memory.history("log")
        try:
            while not self.stop.is_set():
                count, begun = self.acknowledged + 1, time.monotonic()
                if count % 2:
                    history.append([count])
                else:
                    self.memory.set_many({"count": count, f"k{count % 100}": count})
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.acknowledged = count
        except Exception as error:
            self.error = error


def botwire(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "botwire", *map(str, arguments)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_clients(url: str, clients: list[Client], before: list[int], after: list[int]) -> None:
    """Check that each client's first n writes exist, and no others. n is between its counts before and after the backup."""
    for client, least, most in zip(clients, before, after, strict=True):
        with Memory(f"client {client.number}", url) as memory:
            log = [message.data for message in memory.history("log").messages()]
            count = memory.get("count", 0)
        last = max(count, log[-1] if log else 0)
        assert least <= last <= most + 1
        assert log == list(range(1, last + 1, 2))
        assert count in {last, last - 1}


def everything(url: str, namespaces: list[str]) -> dict:
    store = HttpStore(url)
    found = {}
    for namespace in namespaces:
        sessions = store.read(namespace, ListSessions())
        logs = [store.read(namespace, ListMessages(session.name)) for session in sessions]
        found[namespace] = (store.read(namespace, ListEntries()), sessions, logs, store.read(namespace, GetUsage()))
    store.close()
    return found


def test_a_backup_of_a_busy_server_restores_everything(tmp_path, figures):
    copy = tmp_path / "copy.db"
    with Server(tmp_path / "a.db") as server:
        with Memory("big", server.url) as memory:
            for number in range(MEGABYTES):
                memory.set(f"k{number}", f"{number % 10}" * 1_000_000)
        stop = threading.Event()
        clients = [Client(number, server.url, stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        before, begun = [client.acknowledged for client in clients], time.monotonic()
        for client in clients:
            client.slowest = 0.0
        botwire("backup", copy, "--db", server.db)
        seconds, after = time.monotonic() - begun, [client.acknowledged for client in clients]
        slowest = max(client.slowest for client in clients)
        stop.set()
        for client in clients:
            client.join(60)
        assert [client.error for client in clients] == [None] * CLIENTS
        botwire("restore", copy, "--db", tmp_path / "new.db")
        assert check(tmp_path / "new.db").problems == []
        with Server(tmp_path / "new.db") as other:
            check_clients(other.url, clients, before, after)
        botwire("backup", copy, "--db", server.db)
        botwire("restore", copy, "--db", tmp_path / "new.db", "--force")
        with Server(tmp_path / "new.db") as other:
            namespaces = ["big", *(f"client {number}" for number in range(CLIENTS))]
            found = everything(other.url, namespaces)
            assert found == everything(server.url, namespaces)
            with Memory("client 1", other.url) as memory:
                length = len(memory.history("log"))
                assert memory.history("log").append(["after"]) == [length + 1]
    figures(
        MB=round(copy.stat().st_size / 1e6),
        seconds_with_the_check=round(seconds, 1),
        writes_during_it=sum(after) - sum(before),
        slowest_write_in_s=round(slowest, 2),
        entries_and_messages_compared=sum(len(item[0]) + sum(map(len, item[2])) for item in found.values()),
    )
    assert sum(after) > sum(before)
