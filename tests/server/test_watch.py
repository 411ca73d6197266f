"""Watching through what goes wrong: connections that are cut, servers that are killed, stopped and full, and tokens revoked."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import apsw
import pytest

from botwire import AsyncMemory, AuthError, ChangesLost, Conflict, InvalidArgument, Memory, Unavailable
from botwire.operations import Append, NewMessage, Put, Write
from botwire.queries import ListChanges
from botwire.server.operator import OnStore
from botwire.stores.engine.statements import load_migrations
from botwire.stores.sqlite.connection import APPLICATION_ID, SQL_FOLDER
from botwire.stores.sqlite.store import SqliteStore
from tests.servers import Server


class Wire:
    """A TCP proxy that passes on both ways, and can be cut."""

    def __init__(self, port):
        self.port_there = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open, self._threads = [], []
        self.connections = 0
        self._start(self._accept)

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self.port_there))
                except OSError:
                    client.close()
                    continue
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    self._start(self._pass_on, one, other)

    def _pass_on(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(1000):
                other.sendall(data)
        self._end(one, other)
        one.close()

    @staticmethod
    def _end(*connections):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def cut(self):
        connections, self._open = self._open, []
        self._end(*connections)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def wire(server):
    wire = Wire(server.port)
    yield wire
    wire.close()


def write(memory, count, pause=0.002, first=0):
    for number in range(first, first + count):
        memory.history("s").append([number])
        memory.set(f"k{number}", number)
        time.sleep(pause)


def told_until(watch, last):
    found = []
    for change in watch:
        found.append(change.value)
        if change.key == last:
            return found
    raise AssertionError(found)


def test_no_change_is_missed_or_repeated_when_connections_are_cut(server, wire):
    count = 150
    with Memory("n", wire.url) as memory, memory.watch() as watch, ThreadPoolExecutor(1) as threads:
        done = threads.submit(write, Memory("n", server.url), count)
        cutter = threading.Event()

        def cut():
            while not cutter.wait(0.03):
                wire.cut()

        thread = threading.Thread(target=cut)
        thread.start()
        found = told_until(watch, f"k{count - 1}")
        cutter.set()
        thread.join()
        done.result()
    assert found == [number for number in range(count) for _ in range(2)]
    assert wire.connections > 5


def test_nothing_is_missed_on_an_event_loop_when_connections_are_cut(server, wire):
    count, at_once = 60, 10

    async def follow():
        found, other = [], Memory("n", server.url)
        async with AsyncMemory("n", wire.url) as memory, memory.watch() as watch:
            await asyncio.to_thread(write, other, at_once)
            async for change in watch:
                found.append(change.value)
                if change.key == f"k{count - 1}":
                    break
                if change.key is not None and (change.value + 1) % at_once == 0:
                    wire.cut()
                    await asyncio.to_thread(write, other, at_once, first=change.value + 1)
        return found

    assert asyncio.run(follow()) == [number for number in range(count) for _ in range(2)]
    assert wire.connections > 5


def test_a_server_that_is_killed_and_comes_back(server):
    with Memory("n", server.url) as memory, memory.watch() as watch:
        memory.set("before", 1)
        assert next(watch).key == "before"
        server.kill()
        restarting = threading.Timer(0.3, server.start)
        restarting.start()
        with Memory("n", f"sqlite:///{server.db}") as file:
            file.set("meanwhile", 2)
        assert next(watch).key == "meanwhile"
        restarting.join()
        memory.set("after", 3)
        assert next(watch).key == "after"


def test_a_server_that_stays_away(server):
    with Memory("n", server.url, timeout=0.5) as memory, memory.watch() as watch:
        memory.set("k", 1)
        assert next(watch).key == "k"
        server.kill()
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"Is the server running.*Iterate again to resume"):
            next(watch)
        assert 0.1 < time.monotonic() - begun < 3
        with Memory("n", f"sqlite:///{server.db}") as file:
            file.set("l", 2)
        server.start()
        assert next(watch).key == "l"


def test_a_server_that_stops_waits_for_no_watcher(tmp_path):
    with Server(tmp_path / "a.db") as server:
        with Memory("n", server.url) as memory, ThreadPoolExecutor(1) as threads:
            watch = memory.watch()
            waiting = threads.submit(list, watch)
            time.sleep(0.2)
            begun = time.monotonic()
            server.stop()
            assert time.monotonic() - begun < 3
            watch.close()
            assert waiting.result(10) == []
            assert "stopped" in [event["event"] for event in server.events()]
            assert not [event for event in server.events() if event["level"] == "error"]


def test_a_burst_of_watchers_stays_within_the_limit(postgres):
    with Server(postgres, "--max-connections", "40") as server, ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(36)]
        for stream in streams:
            stream.settimeout(20)
            stream.sendall(b"GET /watch/n HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        found = Counter(stream.recv(4096).split()[1] for stream in streams)
        assert found == {b"200": 20, b"503": 16}


def test_as_many_watchers_as_a_server_takes(tmp_path):
    with Server(tmp_path / "a.db", "--max-connections", "6") as server:
        with Memory("n", server.url, timeout=0.2) as memory:
            watches = [memory.watch() for _ in range(3)]
            with pytest.raises(Unavailable, match="maximum of"):
                memory.watch()
            memory.set("k", 1)  # there is still room for others
            assert [next(watch).key for watch in watches] == ["k"] * 3
            watches.pop().close()
            deadline = time.monotonic() + 5
            while True:
                try:
                    watches.append(memory.watch())
                    break
                except Unavailable:
                    assert time.monotonic() < deadline
            for watch in watches:
                watch.close()


def test_a_token_that_is_revoked(tmp_path):
    with Server(tmp_path / "a.db", "--auth", "required") as server:
        with closing(OnStore(f"sqlite:///{server.db}")) as file:
            made = file.create(namespaces=["n"], can=["read"], name="", expires_in=None)
            with Memory("n", server.url, token=made["secret"]) as memory, memory.watch() as watch:
                writer = Memory("n", f"sqlite:///{server.db}")
                writer.set("k", 1)
                assert next(watch).key == "k"
                file.revoke(made["id"])
                writer.set("secret", 2)
                with pytest.raises(AuthError, match="revoked"):
                    next(watch)
        with Memory("n", server.url) as memory, pytest.raises(AuthError):
            memory.watch()


def test_a_stalled_reader_delays_no_one_and_receives_the_last_values(server):
    """What the server has for him is one piece, and what was set again meanwhile is told of once."""
    count, value = 300, "x" * 100_000
    with Memory("n", server.url) as memory, socket.create_connection(("127.0.0.1", server.port), 10) as slow:
        slow.sendall(b"GET /watch/n?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with memory.watch() as watch:
            for number in range(count):
                memory.set(f"k{number % 10}", [number, value])
                assert next(watch).value[0] == number
        told, rest, last = 0, b"", f'"value":[{count - 1},'.encode()
        while last not in rest:
            data = rest[-100:] + slow.recv(1 << 16)
            told += data.count(b'"kind":"set"') - rest[-100:].count(b'"kind":"set"')
            rest = data
        assert 10 <= told < 200


def test_the_events(server):
    with Memory("n", server.url) as memory:
        memory.set("a", {"x": 1})
        memory.history("s").append([{"role": "user"}])
        memory.delete("a")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/watch/n?after=0", headers={"Last-Event-ID": "1"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        lines = [answer.readline().decode().rstrip("\n") for _ in range(8)]
        assert lines[0] == "id: 2"
        document = json.loads(lines[1].removeprefix("data: "))
        assert document["kind"] == "append"
        assert document["message"]["data"] == {"role": "user"}
        assert lines[2:] == ["", "id: 3", 'data: {"version":3,"kind":"delete","key":"a"}', "", "id: 3", ""]
        connection.close()
        for wrong in ("after=x", "after=-1", "prefix=%00", "session="):
            connection.request("GET", f"/watch/n?{wrong}")
            assert connection.getresponse().status == 422
            connection.close()
        connection.request("GET", "/watch/n?after=9")
        answer = connection.getresponse()
        assert answer.status == 410
        assert json.loads(answer.read())["type"] == "urn:botwire:error:changes_lost"
        connection.close()
        with memory.watch(after=9, wait=0) as watch, pytest.raises(ChangesLost):
            next(watch)


def test_values_with_line_breaks_between_their_tokens(server):
    body = '{"value": {"a":\n 1,\r\n "b":\t[2\r]}}'
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with Memory("n", server.url) as memory, memory.watch() as watch:
        connection.request("PUT", "/memory/n/k", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        assert next(watch).value == {"a": 1, "b": [2]}
        memory.set("k", b"\0\r\n\xff")
        assert next(watch).value == b"\0\r\n\xff"
        memory.set("k", "a\r\nb\u2028c")
        assert next(watch).value == "a\r\nb\u2028c"
    connection.close()


# Without a server


def test_a_file_from_before_there_was_a_journal(tmp_path):
    path = tmp_path / "old.db"
    with closing(apsw.Connection(str(path))) as connection:
        for script in load_migrations(SQL_FOLDER / "migrations")[:3]:
            connection.execute(script).fetchall()
        connection.execute(
            "INSERT INTO namespaces (name, day, bytes, version) VALUES ('n', 1, 4, 1);"
            "INSERT INTO entries VALUES (1, 'old', 1, 1, 1, NULL, '1');"
            f"PRAGMA user_version = 3; PRAGMA application_id = {APPLICATION_ID}"
        ).fetchall()
    with Memory("n", f"sqlite:///{path}") as memory:
        with memory.watch() as watch:
            memory.set("new", 2)
            assert next(watch).key == "new"
            assert dict(memory.items()) == {"old": 1, "new": 2}
            with memory.watch(after=0) as lost, pytest.raises(ChangesLost, match="Read everything again"):
                next(lost)


def test_a_change_without_a_line(tmp_path):
    """Who came from before there was a journal wrote in between: nobody is told half of it."""
    path = tmp_path / "a.db"
    with Memory("n", f"sqlite:///{path}") as memory, memory.watch() as watch:
        memory.set("a", 1)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE namespaces SET version = version + 1")
            connection.commit()
        with pytest.raises(ChangesLost):
            next(watch)
        memory.set("b", 1)
        with memory.watch(after=0) as early:
            assert next(early).key == "a"
            with pytest.raises(ChangesLost):
                next(early)
        with memory.watch(after=2) as later:
            assert next(later).key == "b"


def test_a_refused_write_in_a_group_is_not_delivered(tmp_path):
    """One of the writes of a commit is refused, after it has changed something."""
    store = SqliteStore(tmp_path / "a.db")
    good, bad = Put("good", "1"), Put("bad", "1")
    writes = [
        Write("n", (good, Append("s", (NewMessage("a", "1"),)))),
        Write("n", (bad, Append("s", (NewMessage("b", "1"),)), Put("good", "2", if_version=99))),
        Write("n", (Append("s", (NewMessage("c", "1"),)), Put("last", "1"))),
    ]
    outcomes = store._commit(writes, time.monotonic() + 10)
    assert isinstance(outcomes[1], Conflict)
    found = store.read("n", ListChanges(0)).changes
    assert [(change.kind, change.key or change.message.id) for change in found] == [
        ("set", "good"), ("append", "a"), ("append", "c"), ("set", "last")
    ]  # fmt: skip
    assert [change.version for change in found] == [1, 2, 3, 4]
    store.close()


def test_a_process_that_writes_is_killed(tmp_path):
    """Whatever it has been told is written, its watcher in another process sees; and nothing else."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    command = [sys.executable, "-m", "tests.faults.writer", url, "n", "w"]
    with Memory("n", url) as memory, memory.watch(wait=1) as watch:
        for _ in range(3):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdout.readline() == b"ready 0\n"
            process.stdin.write(b"\n")
            process.stdin.flush()
            time.sleep(0.3)
            process.kill()
            process.communicate()
            memory.clear()
        entries, messages = {}, []
        for change in watch:
            match change.kind:
                case "set":
                    entries[change.key] = change.value
                case "clear":
                    entries.clear()
                case "append":
                    messages.append(change.message)
        assert entries == dict(memory.items())
        assert messages == memory.history("shared").messages()
        assert len(messages) > 10


def test_milliseconds_between_processes(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    code = (
        "import time, sys; from botwire import Memory; m = Memory('n', sys.argv[1])\n"
        "for _ in range(40): m.set('k', time.time()); time.sleep(0.01)"
    )
    took = []
    with Memory("n", url) as memory, memory.watch(wait=5) as watch:
        process = subprocess.Popen([sys.executable, "-c", code, url])
        for change in watch:
            took.append(time.time() - change.value)
            if len(took) == 30:
                break
        process.wait()
    assert sorted(took)[15] < 0.05


FORKED = """
import os, sys
from botwire import Memory
memory = Memory("n", sys.argv[1])
watch = memory.watch()
memory.set("a", 1)
assert next(watch).key == "a"
child = os.fork()
if not child:
    memory.set("b", 2)
    assert next(watch).key == "b"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert next(watch).key == "b"
"""


def test_a_watch_continues_after_a_fork(server):
    for url in (server.url, f"sqlite:///{server.db}"):
        subprocess.run([sys.executable, "-c", FORKED, url], check=True, timeout=30)


def test_arguments(tmp_path):
    with Memory("n", f"sqlite:///{tmp_path / 'a.db'}") as memory:
        for wrong in ({"after": -1}, {"after": "1"}, {"wait": -1}, {"wait": "1"}, {"prefix": "\0"}, {"session": ""}):
            with pytest.raises((InvalidArgument, ValueError)):
                memory.watch(**wrong)
        with memory.watch(wait=0) as watch:
            assert list(watch) == []
            memory.set("k", 1)
            assert [change.key for change in watch] == ["k"]
            assert watch.version == 1
        memory.set("l", 1)
        assert list(watch) == []


async def cancelled(memory):
    async with memory.watch("k") as watch:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 0.05)
        await memory.set("k", 1)
        assert (await anext(watch)).value == 1
        await memory.history("s").append(["x"])
        async with memory.history("s").watch(after=0, wait=0) as messages:
            assert [change.value async for change in messages] == ["x"]
            assert messages.version == 2


@pytest.mark.parametrize("where", ["file", "server"])
def test_a_call_that_is_cancelled(server, where):
    async def run():
        async with AsyncMemory("n", server.url if where == "server" else f"sqlite:///{server.db}") as memory:
            await cancelled(memory)

    asyncio.run(run())
