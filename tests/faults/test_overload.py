"""Ten times the connections that a server serves: it refuses politely, fairly, in bounded memory, and recovers."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import statistics
import time
from pathlib import Path

from botwire import Memory
from tests.faults.scale import rounds
from tests.servers import Server

LIMIT = 25
CLIENTS = 10 * LIMIT
SECONDS = rounds(6, 60)
BODY = b'{"value": "' + b"x" * 1000 + b'"}'
PUT = (
    b"PUT /memory/n/k%d HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)


def memory_of(server: Server, what: str) -> int:
    """Return VmRSS or VmHWM (the most it ever had) in MB."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) // 1024
    raise AssertionError(what)


async def client(number: int, port: int, until: float, counts: collections.Counter) -> int:
    """Write as often as possible; wait a little after a refusal. Returns how many writes were served."""
    served = 0
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            counts["no connection"] += 1
            await asyncio.sleep(0.1)
            continue
        try:
            while time.monotonic() < until:
                writer.write(PUT % number)
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split()[1])
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                body = await reader.readexactly(int(fields[b"content-length"]))
                counts[status] += 1
                served += status == 200
                if status == 503:
                    assert fields[b"retry-after"] == b"1"
                    assert fields[b"content-type"] == b"application/problem+json"
                    assert json.loads(body)["type"] == "urn:botwire:error:unavailable"
                    await asyncio.sleep(random.uniform(0.1, 0.3))
                if fields.get(b"connection") == b"close":
                    break
        except (OSError, asyncio.IncompleteReadError):
            counts["broken off"] += 1
        finally:
            writer.close()
    return served


async def storm(port: int) -> tuple[list[int], collections.Counter]:
    counts = collections.Counter()
    until = time.monotonic() + SECONDS
    return await asyncio.gather(*(client(number, port, until, counts) for number in range(CLIENTS))), counts


def speed(server: Server) -> float:
    """Return reads a second of one client."""
    with Memory("n", server.url) as memory:
        begun = time.monotonic()
        for _ in range(500):
            memory.get("k1")
        return 500 / (time.monotonic() - begun)


def test_ten_times_as_many_clients_as_it_takes(tmp_path):
    with Server(tmp_path / "a.db", "--max-connections", str(LIMIT)) as server:
        Memory("n", server.url).set("k1", 1)
        before, small = max(speed(server) for _ in range(3)), memory_of(server, "VmRSS")
        served, counts = asyncio.run(storm(server.port))
        most = memory_of(server, "VmHWM")
        time.sleep(0.5)
        after = max(speed(server) for _ in range(3))
        print(
            {
                "clients": CLIENTS,
                "limit": LIMIT,
                "seconds": SECONDS,
                "answers": dict(counts),
                "writes/s": sum(served) // SECONDS,
                "served least, median, most": (min(served), statistics.median(served), max(served)),
                "MB before, at most": (small, most),
                "reads/s before, after": (round(before), round(after)),
            }
        )
        assert counts[503] > CLIENTS
        assert counts[200] > 100 * SECONDS
        assert set(counts) <= {200, 503}
        assert min(served) > 0.05 * statistics.median(served) > 0
        assert most - small < 60
        assert after > 0.7 * before


def test_a_library_client_gets_its_turn(tmp_path):
    """What is refused is tried again until the timeout; who waits gets in although others never leave."""
    with Server(tmp_path / "a.db", "--max-connections", "3") as server:

        async def crowd():
            counts, until = collections.Counter(), time.monotonic() + 4
            busy = [client(number, server.port, until, counts) for number in range(12)]
            mine = asyncio.to_thread(lambda: [Memory("n", server.url).increment("mine") for _ in range(3)])
            *_, result = await asyncio.gather(*busy, mine)
            return counts, result

        counts, result = asyncio.run(crowd())
        print(dict(counts), result)
        assert counts[503] > 10
        assert result == [1, 2, 3]
