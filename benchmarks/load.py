"""A load generator. It has a fixed number of connections, sends one request at a time on each, and times each request.

It is a closed loop over epoll in one process, on its own processor core. It sends about 90,000 requests a second, more than any
server measured here answers on one core. Requests are prepared in advance, so only sending and receiving are timed.

`run` starts the process, which runs ``python -m benchmarks.load``.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle

CORE = 1
"""The processor core of the load generator. Servers run on core 0."""
WARM_UP = 0.3


@dataclass(frozen=True)
class Load:
    """The results of a load. Times are in milliseconds."""

    rate: float
    p50: float
    p99: float
    p999: float
    worst: float
    failed: int


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Return a request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run(port: int, requests: list[bytes], *, connections: int, seconds: float, cores: str = str(CORE)) -> Load:
    """Send requests over n connections for some seconds, from a separate process on the given cores."""
    given = {"port": port, "connections": connections, "seconds": seconds, "requests": [r.decode() for r in requests]}
    command = ["taskset", "-c", cores, sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=json.dumps(given).encode(), stdout=subprocess.PIPE, check=True)
    return Load(**json.loads(done.stdout))


def main() -> None:
    """Read the task from standard input, run it, and print the results."""
    given = json.load(sys.stdin)
    print(
        json.dumps(
            _load(given["port"], [r.encode() for r in given["requests"]], given["connections"], given["seconds"])
        )
    )


def _load(port: int, requests: list[bytes], connections: int, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    next_request = cycle(requests).__next__
    sockets: dict[int, socket.socket] = {}
    sent: dict[int, float] = {}
    pending: dict[int, bytes] = {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    clock = time.perf_counter
    for number, sock in sockets.items():
        sent[number] = clock()
        sock.sendall(next_request())
    receive = {number: sock.recv for number, sock in sockets.items()}
    send = {number: sock.send for number, sock in sockets.items()}
    times: list[float] = []
    failed = 0
    begun = clock() + WARM_UP
    end = begun + seconds
    now = clock()
    while now < end:
        for number, _ in poll.poll(1.0):
            data = receive[number](65536)
            if number in pending:
                data = pending.pop(number) + data
            if not whole(data):
                pending[number] = data
                continue
            now = clock()
            if now > begun:
                times.append(now - sent[number])
            if data[9:10] != b"2":
                failed += 1
            sent[number] = now
            send[number](next_request())
    return _summary(times, seconds, failed)


def whole(data: bytes) -> bool:
    """Whether the answer is complete."""
    if not data:
        raise ConnectionError("the server closed a connection")
    head, found, body = data.partition(b"\r\n\r\n")
    return bool(found) and len(body) >= _length(head)


@lru_cache
def _length(head: bytes) -> int:
    """Return the length of the body after a header. A server sends the same header many times."""
    start = head.lower().find(b"content-length:")
    if start < 0:
        raise ValueError(f"an answer without Content-Length: {head!r}")
    return int(head[start + 15 :].partition(b"\r\n")[0])


def _summary(times: list[float], seconds: float, failed: int) -> dict[str, float]:
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1000  # noqa: E731
    return {
        "rate": len(times) / seconds,
        "p50": statistics.median(times) * 1000,
        "p99": at(0.99),
        "p999": at(0.999),
        "worst": times[-1] * 1000,
        "failed": failed,
    }


if __name__ == "__main__":
    main()
