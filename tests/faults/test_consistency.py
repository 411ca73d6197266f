"""The answers that clients receive are linearizable while their server is killed repeatedly."""

from __future__ import annotations

import collections
import random
import threading
import time

from botwire import Conflict, Timeout, Unavailable
from botwire.operations import Append, Delete, Increment, NewMessage, Put
from botwire.queries import GetEntry, ListMessages
from botwire.stores.http.store import HttpStore
from botwire.values import encode
from tests.faults.forked import ForkedServer
from tests.faults.linear import UNKNOWN, Event, explain, explain_log
from tests.faults.scale import rounds
from tests.servers import Server as StartedServer

Server = rounds(ForkedServer, StartedServer)
CLIENTS = 8
IMPATIENT = 0.4
"""The timeout of every second client, in seconds."""
KILLS = rounds(5, 100)
DOWN = rounds(IMPATIENT + 0.1, 0)
"""Seconds without a server, in addition to its start. A forked server starts so fast that no client would time out."""
KEYS = 4
PERIOD = 0.7
"""Seconds that a key is in use. A longer history takes longer to check."""


class Client(threading.Thread):
    """Sends random operations and records each answer with its times."""

    def __init__(self, number: int, url: str, stop: threading.Event) -> None:
        super().__init__()
        # Some time out before the server is back, so that they never learn the outcome of their write.
        self.store = HttpStore(url, timeout=IMPATIENT if number % 2 else 20)
        self.rng, self.number, self.stop = random.Random(number), number, stop
        self.keys: dict[str, list[Event]] = collections.defaultdict(list)
        self.appends: list[Event] = []
        self.reads: list[Event] = []
        self.versions: dict[str, int] = {}
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for count in range(1_000_000):
                if self.stop.is_set():
                    return
                self.act(f"{self.number}-{count}")
        except Exception as error:
            self.error = error
        finally:
            self.store.close()

    def act(self, unique: str) -> None:
        key = f"{int(time.monotonic() / PERIOD)}/{self.rng.randrange(KEYS)}"
        match self.rng.randrange(10):
            case 0 | 1 | 2:
                self.keys[key].append(self.timed("get", None, lambda: self.get(key)))
            case 3:
                self.keys[key].append(self.timed("set", unique, lambda: self.write(Put(key, encode(unique)))))
            case 4 | 5:
                expected = self.versions.get(key, 0)
                self.keys[key].append(
                    self.timed("cas", (expected, unique), lambda: self.compare_and_set(key, expected, unique))
                )
            case 6:
                self.keys[key].append(self.timed("delete", None, lambda: self.write(Delete(key))))
            case 7:
                counter = f"{key}/count"
                self.keys[counter].append(self.timed("increment", 1, lambda: self.write(Increment(counter))))
            case 8:
                append = Append("log", (NewMessage(unique, "1"),))
                self.appends.append(self.timed("append", unique, lambda: self.write(append)[0]))
            case _:
                self.reads.append(self.timed("read", None, self.read))

    def timed(self, verb, argument, call) -> Event:
        begin = time.monotonic()
        try:
            result = call()
        except (Timeout, Unavailable):
            result = UNKNOWN
        return Event(begin, time.monotonic(), verb, argument, result)

    def write(self, operation):
        return self.store.write("n", [operation])[0]

    def get(self, key):
        entry = self.store.read("n", GetEntry(key))
        self.versions[key] = 0 if entry is None else entry.version
        return None if entry is None else (entry.value, entry.version)

    def compare_and_set(self, key, expected, value):
        try:
            version = self.write(Put(key, encode(value), if_version=expected))
        except Conflict as conflict:
            self.versions[key] = conflict.details["version"]
            return ("conflict", conflict.details["version"])
        self.versions[key] = version
        return ("done", version)

    def read(self):
        return [(message.seq, message.id) for message in self.store.read("n", ListMessages("log"))]


def test_histories_are_linearizable_while_the_server_is_killed(tmp_path, figures):
    rng = random.Random(1)
    with Server(tmp_path / "a.db") as server:
        stop = threading.Event()
        clients = [Client(number, server.url, stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.3, 1.0))
                server.kill()
                time.sleep(DOWN)
                server.start()
            time.sleep(0.5)
        finally:
            stop.set()
            for client in clients:
                client.join(60)
        store = HttpStore(server.url)
        final = [(message.seq, message.id) for message in store.read("n", ListMessages("log"))]
        store.close()
    assert [client.error for client in clients] == [None] * CLIENTS
    histories = collections.defaultdict(list)
    for client in clients:
        for key, events in client.keys.items():
            histories[key] += events
    begun = time.monotonic()
    for key, history in histories.items():
        assert explain(history) is None, key
    appends = sum((client.appends for client in clients), [])
    assert explain_log(appends, sum((client.reads for client in clients), []), final) is None
    everything = [event for history in histories.values() for event in history]
    figures(
        **{
            "kills": KILLS,
            "keys": len(histories),
            "operations on keys": len(everything),
            "appends": len(appends),
            "without an answer": sum(event.result is UNKNOWN for event in everything + appends),
            "longest history": max(map(len, histories.values())),
            "seconds to check": round(time.monotonic() - begun, 1),
        }
    )
    assert len(everything) > 50 * KILLS
    assert any(event.result is UNKNOWN for event in everything)
