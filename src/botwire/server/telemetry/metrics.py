"""Metrics for Prometheus, by ``prometheus_client``. They name no namespace, key or token.

Several worker processes count together in its multiprocess mode: each writes files in one directory, and any of them reads all
files to answer ``GET /metrics``. The environment variable ``PROMETHEUS_MULTIPROC_DIR`` selects that mode when
``prometheus_client`` is imported, so `serve` sets it before it starts the workers.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ...version import __version__

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the directory in which several processes count."""
ROUTE = "botwire.route"
"""The key of a request's route in its ASGI scope, once the route is known."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram, in seconds."""


class Metrics:
    """The metrics of a process, or of all processes that count together in a directory, as in the variable `DIRECTORY`."""

    def __init__(self, directory: Path | None = None) -> None:
        disable_created_metrics()
        self._directory = directory
        own = CollectorRegistry()
        self._registry = own if directory is None else CollectorRegistry()
        if directory is not None:
            MultiProcessCollector(self._registry, str(directory))
        self._requests = Counter(
            "botwire_requests", "Requests that were answered.", ("method", "route", "status"), registry=own
        )
        self._seconds = Histogram(
            "botwire_request_seconds",
            "Time until the answer began to leave.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=own,
        )
        self._by_labels: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._commits = Counter("botwire_commits", "Commits to a SQLite file, each synced to disk once.", registry=own)
        self._writes = Counter("botwire_committed_writes", "Writes in these commits.", registry=own)
        self.connections = self._gauge("botwire_connections", "Open connections.", own)
        self.watchers = self._gauge("botwire_watchers", "Watchers, each with a connection.", own)
        self.refusals = Counter(
            "botwire_refusals",
            "Writes that were refused: the disk is nearly full, or an address used its new namespaces of the day.",
            ("reason",),
            registry=own,
        )
        self._disk_free, self._disk_reserve, self.namespaces_per_address = (
            Gauge(f"botwire_{name}", text, registry=own, multiprocess_mode="livemostrecent")
            for name, text in (
                ("disk_free_bytes", "Free space on the disk of the SQLite file; 0 without a file."),
                ("disk_reserve_bytes", "Free space below which writes are refused."),
                ("namespaces_per_address", "New namespaces that an address may use in a day; 0: no limit."),
            )
        )
        version = Gauge(
            "botwire_build_info", "The running version.", ("version",), registry=own, multiprocess_mode="livemax"
        )
        version.labels(__version__).set(1)

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
        gauge = Gauge(name, text, registry=registry, multiprocess_mode="livesum")
        gauge.set(0)  # an earlier process with the same id may have left its file
        return gauge

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request, and the seconds until its answer began to leave.

        An empty route means that the request has none. It counts as "other", because its method may be any text.
        """
        counter, histogram = self._by_labels.get((method, route, status // 100)) or self._series(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def _series(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """Find a series by its labels once, because that costs more than counting. It appears with its first request."""
        method = "GET" if method == "HEAD" else method
        if not route:
            method = route = "other"
        labels, status_class = (method, route.replace(":path", "")), status // 100
        found = self._requests.labels(*labels, f"{status_class}xx"), self._seconds.labels(*labels)
        return self._by_labels.setdefault((method, route, status_class), found)

    def committed(self, writes: int) -> None:
        """Count a commit of some writes."""
        self._commits.inc()
        self._writes.inc(writes)

    def show_disk(self, free: int, reserve: int) -> None:
        """Show the free space of the disk, and how much of it is kept free, in bytes."""
        self._disk_free.set(free)
        self._disk_reserve.set(reserve)

    def text(self) -> bytes:
        """Return the metrics of all processes together, in the text format of Prometheus."""
        if self._directory is not None:
            _remove_dead_processes(self._directory)
        return generate_latest(self._registry)


def _remove_dead_processes(directory: Path) -> None:
    """Remove the gauges of workers that were killed. Their counters stay, because a counter never falls."""
    for file in directory.glob("gauge_live*_*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process, str(directory))
        except PermissionError:  # it lives
            pass
