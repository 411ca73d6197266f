"""The workers of a server end with their parent process."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from botwire import Memory
from tests.servers import Server
from tests.waiting import until


def workers(server):
    """Return the two worker processes of a server, and wait until they have been started."""

    def found():
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        started = [int(child) for child in children if b"spawn_main" in command(child)]
        return started if len(started) == 2 else None

    return until(found, "workers")


def command(process):
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def started(server):
    return [event for event in server.events() if event["event"] == "Application startup complete."]


def test_workers_that_start_end_with_their_parent(tmp_path):
    with Server(tmp_path / "a.db", "--workers", "2") as server:
        ends(server)


def test_workers_end_with_their_parent(tmp_path):
    """A parent that is stopped for a while changes nothing. One that is killed, also during a reload, ends them."""
    with Server(tmp_path / "a.db", "--workers", "2") as server:
        until(lambda: len(started(server)) >= 2, "start")
        running = workers(server)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        with Memory("n", server.url) as memory:
            memory.set("k", 1)
        assert all(b"spawn_main" in command(worker) for worker in running)
        server.process.send_signal(signal.SIGCONT)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: any(event["event"] == "reloaded" for event in server.events()), "reload")
        ends(server)


def ends(server):
    """Kill the parent, and wait until its workers have ended and the port is free."""
    running = workers(server)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(b"spawn_main" in command(worker) for worker in running), "end", timeout=40)
    socket.create_server(("127.0.0.1", server.port)).close()
    server._ended()
