"""Metrics for Prometheus: what the server does, counted with ``prometheus_client``.

They say how many requests of which kind there were and how long they took. They name no namespace, key or token.

Several worker processes count together in the multiprocess mode of ``prometheus_client``: each writes files of its own in
one directory, and any of them reads all files to answer ``GET /metrics``. That mode is chosen when ``prometheus_client`` is
imported, by the environment variable ``PROMETHEUS_MULTIPROC_DIR``. So `serve` sets it before it starts the workers.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...version import __version__
from ..access.rules import TABLE

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the directory in which several processes count."""
ROUTE = "botwire.route"
"""The key of a request's route in its ASGI scope, once the route is known."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram, in seconds."""
_LABELS = ("method", "route")
_OTHER = ("", "")
"""Stands for every request that no route takes."""
_FILE_OF_GAUGE = re.compile(r"gauge_live\w+_(\d+)\.db")


class RouteMetrics:
    """The metrics of one route.

    Looking up labels in ``prometheus_client`` costs more than counting, so each pair of labels is looked up once. A series
    appears with its first request: Prometheus gets no zeros for unused routes.
    """

    def __init__(self, requests: Counter, seconds: Histogram, method: str, route: str) -> None:
        self._labels = (method or "other", route.replace(":path", "") or "other")
        self._requests = requests
        self._seconds = seconds
        self._observe: Histogram | None = None
        self._by_class: dict[int, Counter] = {}

    def count(self, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            status: of the answer, such as 200.
            seconds: until the answer began to leave.
        """
        counter = self._by_class.get(status // 100)
        if counter is None:
            counter = self._by_class[status // 100] = self._requests.labels(*self._labels, f"{status // 100}xx")
        if self._observe is None:
            self._observe = self._seconds.labels(*self._labels)
        counter.inc()
        self._observe.observe(seconds)


class Metrics:
    """The metrics of a process, and those of all processes that serve with it.

    Args:
        directory: where several processes count together, as in the variable `DIRECTORY`; None: this process serves alone.
    """

    def __init__(self, directory: Path | None = None) -> None:
        disable_created_metrics()
        self._directory = directory
        own = CollectorRegistry()
        self._registry = own if directory is None else CollectorRegistry()
        if directory is not None:
            MultiProcessCollector(self._registry, str(directory))
        requests = Counter("botwire_requests", "Requests that were answered.", (*_LABELS, "status"), registry=own)
        seconds = Histogram(
            "botwire_request_seconds", "Time until the answer began to leave.", _LABELS, buckets=BUCKETS, registry=own
        )
        self._routes = {row: RouteMetrics(requests, seconds, *row) for row in (*TABLE, _OTHER)}
        self._commits = Counter("botwire_commits", "Commits to a SQLite file, each synced to disk once.", registry=own)
        self._writes = Counter("botwire_committed_writes", "Writes in these commits.", registry=own)
        self._connections = self._gauge("botwire_connections", "Open connections.", own)
        self._watchers = self._gauge("botwire_watchers", "Watchers, each with a connection.", own)
        version = Gauge(
            "botwire_build_info",
            "The running version.",
            ("version",),
            registry=own,
            multiprocess_mode="livemax",
        )
        version.labels(__version__).set(1)

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
        gauge = Gauge(name, text, registry=registry, multiprocess_mode="livesum")
        gauge.set(0)  # an earlier process with the same id may have left its file
        return gauge

    def route(self, method: str, route: str) -> RouteMetrics:
        """Return the metrics of a route, given as in `TABLE`; any other counts as "other"."""
        return self._routes.get(("GET" if method == "HEAD" else method, route)) or self._routes[_OTHER]

    def connected(self, by: int) -> None:
        """Count a connection that opened (1) or closed (-1)."""
        self._connections.inc(by)

    def watched(self, watchers: int) -> None:
        """Set the number of watchers."""
        self._watchers.set(watchers)

    def committed(self, writes: int) -> None:
        """Count a commit of some writes; a commit without any is none."""
        if writes:
            self._commits.inc()
            self._writes.inc(writes)

    def text(self) -> bytes:
        """Return the metrics of all processes together, in the text format of Prometheus."""
        if self._directory is not None:
            _forget_dead_processes(self._directory)
        return generate_latest(self._registry)


def _forget_dead_processes(directory: Path) -> None:
    """Remove the gauges of workers that died: a killed worker can't do it. Their counters stay, for counters never fall."""
    for file in directory.iterdir():
        found = _FILE_OF_GAUGE.fullmatch(file.name)
        if found and not _is_alive(int(found[1])):
            mark_process_dead(int(found[1]), str(directory))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Counted:
    """ASGI middleware that counts the requests to an app.

    Args:
        app: the app.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = self._metrics.route(scope["method"], scope.get(ROUTE, ""))
                route.count(message["status"], time.perf_counter() - begun)
            await send(message)

        await self._app(scope, receive, count)
