"""Spans of calls: one for each operation and query, and none while there is no tracer provider."""

from __future__ import annotations

import asyncio
import typing
from contextlib import contextmanager

import pytest
from opentelemetry import trace

from botwire import Conflict
from botwire.operations import Operation, Put
from botwire.queries import GetEntry, ListChanges, Query
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.tracing import TracedGuardedStore, TracedStore, Tracing, operation_name
from tests.unit.stores.wrappers.samples import OPERATIONS, QUERIES


class Recorder(Tracing):
    """Records the names of spans instead of making them."""

    tracer = object()

    def __init__(self):
        self.spans = []

    @contextmanager
    def call(self, name, attributes):
        self.spans.append((name, attributes))
        yield


class Beneath:
    address = "http://h:1"
    plans = "plans"

    def read(self, namespace, query):
        return namespace, query

    def write(self, namespace, operations, *, idempotency_key=None):
        return [namespace, *operations, idempotency_key]


def test_every_call_passes_through_and_has_a_span():
    assert set(OPERATIONS) == set(typing.get_args(Operation))
    assert set(QUERIES) == set(Query.__subclasses__())
    store = TracedStore(Beneath(), tracing := Recorder())
    for kind, operation in OPERATIONS.items():
        assert store.write("n", [operation], idempotency_key="k") == ["n", operation, "k"]
        assert tracing.spans.pop() == span_of(kind)
    for kind, query in QUERIES.items():
        assert store.read("n", query) == ("n", query)
        assert tracing.spans == ([] if kind is ListChanges else [span_of(kind)])
        tracing.spans.clear()


def span_of(kind):
    name = operation_name(kind)
    place = {"db.system.name": "botwire", "server.address": "h", "server.port": 1}
    return f"{name} h:1", {**place, "db.operation.name": name}


def test_no_provider_is_no_span(tmp_path):
    store = TracedStore(SqliteStore(tmp_path / "a.db"), Tracing())
    assert store.write("n", [Put("k", "1")]) == [1]
    assert store.read("n", GetEntry("k")).value == 1
    with pytest.raises(Conflict):
        store.write("n", [Put("k", "1", if_version=7)])
    store.close()


@pytest.mark.parametrize("is_known", [True, False], ids=["with", "without"])
def test_a_provider_that_is_set_later(tmp_path, monkeypatch, is_known):
    """With and without the global variable that is faster to read than `get_tracer_provider`."""
    if not is_known:
        monkeypatch.delattr(trace, "_TRACER_PROVIDER")
        monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    tracing = Tracing()
    assert tracing.tracer is None
    if is_known:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace.NoOpTracerProvider())
    else:
        monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
        monkeypatch.setattr(trace, "get_tracer", lambda *_, **__: trace.NoOpTracer())
    assert tracing.tracer is not None


def test_on_an_event_loop(tmp_path):
    beneath = SqliteStore(tmp_path / "a.db")

    async def main():
        tracing = Recorder()
        store = TracedStore(beneath, tracing).to_async()
        assert await store.write("n", [Put("k", "1")]) == [1]
        guarded = TracedGuardedStore(beneath.to_async(), tracing)
        assert (await guarded.read("n", GetEntry("k"), guard=None)).value == 1
        assert guarded.plans is beneath.plans
        assert [name for name, _ in tracing.spans] == ["put", "get_entry"]
        await store.close()

    asyncio.run(main())
