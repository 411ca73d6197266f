"""Counts of what the server does, for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

They say how much of what kind there was and how long it took, and name no namespace, key or token. Several processes that serve
together count in one file, each in a place of its own that nobody else writes, so that whichever is asked answers for all.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...version import __version__
from ..access.rules import TABLE

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds; the upper bounds of the histogram."""
PLACES = 130
"""Processes that can count together: as many as serve, and once more as many while they are replaced."""
_CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")
_FIRST_BUCKET = len(_CLASSES)
_ROWS = [*sorted(TABLE), ("", "")]
"""Method and route; the last one is what is none of them."""
_INDEX = {row: number for number, row in enumerate(_ROWS)}
_WIDTH = len(_CLASSES) + len(BUCKETS) + 2
_CONNECTIONS = len(_ROWS) * _WIDTH
_WATCHERS = _CONNECTIONS + 1
_COMMITS = _CONNECTIONS + 2
_WRITES = _CONNECTIONS + 3
_SIZE = _CONNECTIONS + 4
_SEPARATE = (_CONNECTIONS, _WATCHERS)
"""What is a number of now, and goes with its process."""


class Metrics:
    """The counts of a process.

    Args:
        file: where those of several processes are; None: it serves alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        if file is None:
            self._all = memoryview(bytearray(8 * _SIZE)).cast("Q")
            place = 0
        else:
            self._file = os.open(file, os.O_RDWR | os.O_CLOEXEC)
            place = _free_place(self._file)
            self._all = memoryview(mmap.mmap(self._file, 8 * _SIZE * PLACES)).cast("Q")
        self._own = self._all[place * _SIZE : (place + 1) * _SIZE]
        for index in _SEPARATE:
            self._own[index] = 0

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.count_at(place_of("GET" if method == "HEAD" else method, route), status, seconds)

    def count_at(self, place: int, status: int, seconds: float) -> None:
        """As `count`, in a microsecond, at the place of a route."""
        own = self._own
        own[place + status // 100] += 1
        own[place + _FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1
        own[place + _WIDTH - 1] += int(seconds * 1_000_000)

    def connected(self, by: int) -> None:
        """Count a connection more, or less."""
        self._own[_CONNECTIONS] = max(self._own[_CONNECTIONS] + by, 0)

    def watched(self, watchers: int) -> None:
        """Note how many watchers there are."""
        self._own[_WATCHERS] = watchers

    def committed(self, writes: int) -> None:
        """Count a commit of so many writes."""
        self._own[_COMMITS] += 1
        self._own[_WRITES] += writes

    def text(self) -> str:
        """Return all counts, of all processes together."""
        counts = [sum(self._all[index::_SIZE]) for index in range(_SIZE)]
        return "\n".join([*_lines(counts), ""])


def place_of(method: str, route: str) -> int:
    """Return where a route is counted."""
    return _INDEX.get((method, route), len(_ROWS) - 1) * _WIDTH


def make_file(path: Path) -> None:
    """Make the file that several processes count in."""
    path.write_bytes(bytes(8 * _SIZE * PLACES))


def _free_place(file: int) -> int:
    """Take a place that no living process has, for as long as this one lives."""
    for place in range(PLACES):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            continue
        return place
    raise RuntimeError("more processes than there can be")


def _lines(counts: list[int]) -> Iterator[str]:
    yield from _head("botwire_build_info", "gauge", "The version that runs.")
    yield f'botwire_build_info{{version="{__version__}"}} 1'
    yield from _head("botwire_requests_total", "counter", "Requests that were answered.")
    for row, route, start in _known():
        for index, name in enumerate(_CLASSES):
            if counts[start + index]:
                yield f'botwire_requests_total{{{_labels(row, route)},status="{name}"}} {counts[start + index]}'
    yield from _head("botwire_request_seconds", "histogram", "How long they took, until the answer began to leave.")
    for row, route, start in _known():
        yield from _histogram(_labels(row, route), counts[start + len(_CLASSES) : start + _WIDTH])
    for name, kind, index, text in (
        ("botwire_connections", "gauge", _CONNECTIONS, "Connections that are open."),
        ("botwire_watchers", "gauge", _WATCHERS, "Watchers, each with a connection."),
        ("botwire_commits_total", "counter", _COMMITS, "Commits to a SQLite file, each synced to disk once."),
        ("botwire_committed_writes_total", "counter", _WRITES, "Writes in them."),
    ):
        yield from _head(name, kind, text)
        yield f"{name} {counts[index]}"


def _known() -> Iterator[tuple[str, str, int]]:
    for number, (method, route) in enumerate(_ROWS):
        yield method, route, number * _WIDTH


def _labels(method: str, route: str) -> str:
    return f'method="{method or "other"}",route="{route.replace(":path", "") or "other"}"'


def _histogram(labels: str, counts: list[int]) -> Iterator[str]:
    *buckets, beyond, microseconds = counts
    total = sum(buckets) + beyond
    if not total:
        return
    below = 0
    for bound, count in zip(BUCKETS, buckets, strict=True):
        below += count
        yield f'botwire_request_seconds_bucket{{{labels},le="{bound:g}"}} {below}'
    yield f'botwire_request_seconds_bucket{{{labels},le="+Inf"}} {total}'
    yield f"botwire_request_seconds_sum{{{labels}}} {microseconds / 1_000_000:.6f}"
    yield f"botwire_request_seconds_count{{{labels}}} {total}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


class Counted:
    """Counts the requests to an app.

    Args:
        app: which.
        metrics: where.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get(ROUTE, "")
                self.metrics.count(scope["method"], route, message["status"], time.perf_counter() - begun)
            await send(message)

        await self._app(scope, receive, count)


ROUTE = "botwire.route"
"""Where the route of a request is in its scope, once it is known."""
