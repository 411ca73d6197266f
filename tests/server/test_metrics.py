"""Metrics of a running server."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from contextlib import closing, suppress
from urllib.error import HTTPError

import pytest

from botwire import Memory
from botwire.server.access.rules import TABLE
from botwire.server.operator import OnStore
from botwire.server.telemetry.metrics import BUCKETS, Metrics
from tests.servers import Server


def fetch(url, token=None):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples(text):
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in found
            found[name] = float(value)
    return found


def counts(server, **token):
    return samples(fetch(f"{server.url}/metrics", **token)[1])


def test_counts(server):
    with Memory("secret-namespace", server.url) as memory:
        for number in range(20):
            memory.set(f"secret-key-{number}", number)
        for number in range(30):
            memory.get(f"secret-key-{number}")
        with memory.watch():
            time.sleep(0.1)
            kind, text = fetch(f"{server.url}/metrics")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert "secret" not in text
    found = samples(text)
    post = 'method="POST",route="/memory/{namespace}"'
    get = 'method="GET",route="/memory/{namespace}/{name}"'
    assert found[f'botwire_requests_total{{{post},status="2xx"}}'] == 20
    assert found[f'botwire_requests_total{{{get},status="2xx"}}'] == 20
    assert found[f'botwire_requests_total{{{get},status="4xx"}}'] == 10
    assert found[f"botwire_request_seconds_count{{{get}}}"] == 30
    assert 0 < found[f"botwire_request_seconds_sum{{{get}}}"] < 10
    buckets = [found[f'botwire_request_seconds_bucket{{le="{bound}",{get}}}'] for bound in BUCKETS]
    assert buckets == sorted(buckets)
    assert found[f'botwire_request_seconds_bucket{{le="+Inf",{get}}}'] == 30
    assert found["botwire_watchers"] == 1
    assert found["botwire_connections"] >= 2
    assert found["botwire_committed_writes_total"] >= 20
    assert 1 <= found["botwire_commits_total"] <= found["botwire_committed_writes_total"]
    for path in ("/nothing", "/memory/n/k"):
        with pytest.raises(HTTPError):
            fetch(f"{server.url}{path}")
    found = counts(server)
    assert found['botwire_requests_total{method="other",route="other",status="4xx"}'] == 1
    deadline = time.monotonic() + 5
    while counts(server)["botwire_watchers"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counts(server)["botwire_watchers"] == 0
    for line in text.splitlines():
        assert re.fullmatch(
            r"# (HELP \w+ .+\.|TYPE \w+ (counter|gauge|histogram))|\w+(\{[^{}]*(\{\w+\}[^{}]*)*\})? [\d.]+(e[+-]\d+)?",
            line,
        ), line


def test_who_may_see_them(tmp_path):
    with Server(tmp_path / "a.db", "--auth", "required") as server:
        with closing(OnStore(f"sqlite:///{server.db}")) as file:
            everywhere, somewhere = (
                file.create(namespaces=names, can=["read"], name="", expires_in=None)["secret"]
                for names in (["*"], ["n", "a*"])
            )
        assert counts(server, token=everywhere)["botwire_connections"] >= 1
        for token, status in ((None, 401), ("x" * 20, 401), (somewhere, 403)):
            with pytest.raises(HTTPError) as caught:
                fetch(f"{server.url}/metrics", token)
            assert caught.value.code == status
            caught.value.close()


def test_processes_count_together(tmp_path):
    with Server(tmp_path / "a.db", "--workers", "2") as server:
        for _ in range(40):  # each on a connection of its own
            with Memory("n", server.url) as memory:
                memory.set("k", 1)
        seen = {
            counts(server)['botwire_requests_total{method="POST",route="/memory/{namespace}",status="2xx"}']
            for _ in range(8)
        }
        assert seen == {40}
        assert not [event for event in server.events() if event["level"] == "error"]


def test_a_killed_worker_loses_no_counts(tmp_path):
    with Server(tmp_path / "a.db", "--workers", "2") as server:
        for _ in range(20):
            with Memory("n", server.url) as memory:
                memory.set("k", 1)
        workers = [
            int(pid) for event in server.events() for pid in re.findall(r"server process \[(\d+)\]", event["event"])
        ]
        with Memory("n", server.url) as memory, memory.watch():
            deadline = time.monotonic() + 20
            while not counts(server)["botwire_watchers"]:
                assert time.monotonic() < deadline
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            while True:
                assert time.monotonic() < deadline
                with suppress(OSError):
                    found = counts(server)
                    if 'botwire_requests_total{method="GET",route="/metrics",status="2xx"}' in found:
                        break
                time.sleep(0.05)
        assert found['botwire_requests_total{method="POST",route="/memory/{namespace}",status="2xx"}'] == 20
        assert found["botwire_committed_writes_total"] >= 20
        assert found["botwire_watchers"] <= 1  # the watcher may have come again; the dead worker's is not counted
        assert 1 <= found["botwire_connections"] <= 3


def test_every_route_is_counted():
    metrics = Metrics()
    for method, route in [*TABLE, ("BREW", "")]:
        metrics.count(method, route, 200, 0.003)
        metrics.count(method, route, 599, 99)
    found = samples(metrics.text().decode())
    assert sum(value for name, value in found.items() if name.startswith("botwire_requests_total")) == 2 * (
        len(TABLE) + 1
    )
    assert len([name for name in found if name.startswith("botwire_requests_total")]) == 2 * (len(TABLE) + 1)
