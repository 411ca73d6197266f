from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from botwire import AsyncMemory, Conflict, InvalidArgument, Memory, generate_key
from botwire.server.telemetry.exporters import begin, exporters_of
from tests.examples import ROOT, blocks
from tests.servers import Server

specification = importlib.util.spec_from_file_location("collector", Path(__file__).parent / "collector.py")
collector = importlib.util.module_from_spec(specification)
specification.loader.exec_module(collector)

EXPORTER = InMemorySpanExporter()
SECRET = "gehe1m"


@pytest.fixture(scope="session")
def provider():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider):
    EXPORTER.clear()
    return EXPORTER.get_finished_spans


def told(spans):
    return [(span.name, dict(span.attributes)) for span in spans()]


def test_a_provider_that_is_set_later(tmp_path, request):
    """This test is the first: a provider is set once."""
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    with Memory("n", f"sqlite:///{tmp_path / 'a.db'}") as memory:
        memory.set("k", 1)
        request.getfixturevalue("provider")
        memory.set("k", 2)
    assert [span.name for span in EXPORTER.get_finished_spans()] == ["put"]


def test_what_is_in_a_span(spans, tmp_path):
    with Memory(SECRET, f"sqlite:///{tmp_path / 'a.db'}") as memory:
        with trace.get_tracer("agent").start_as_current_span("agent") as agent:
            memory.set(f"{SECRET} key", SECRET)
            memory.set_many({f"{SECRET} 1": 1, f"{SECRET} 2": SECRET})
            memory.get(f"{SECRET} 1")
            memory.history(SECRET).append([SECRET])
            with pytest.raises(Conflict):
                memory.set(f"{SECRET} key", SECRET, if_version=999)
            memory.search(SECRET)
            list(memory.watch(after=0, wait=0))
    system = {"db.system.name": "sqlite"}
    assert told(spans)[:-1] == [
        ("put", {**system, "db.operation.name": "put"}),
        ("BATCH put", {**system, "db.operation.name": "BATCH put", "db.operation.batch.size": 2}),
        ("get_entry", {**system, "db.operation.name": "get_entry"}),
        ("append", {**system, "db.operation.name": "append"}),
        ("put", {**system, "db.operation.name": "put", "error.type": "conflict"}),
        ("search", {**system, "db.operation.name": "search"}),
    ]
    *calls, _ = spans()
    assert {span.parent.span_id for span in calls} == {agent.get_span_context().span_id}
    assert {span.kind for span in calls} == {trace.SpanKind.CLIENT}
    assert [span.status.is_ok for span in calls] == [True, True, True, True, False, True]
    assert {span.instrumentation_scope.name for span in calls} == {"botwire"}
    assert SECRET not in "".join(span.to_json() for span in spans())


async def test_on_an_event_loop_and_encrypted(spans, tmp_path):
    async with AsyncMemory(SECRET, f"sqlite:///{tmp_path / 'a.db'}", encryption_key=generate_key()) as memory:
        with trace.get_tracer("agent").start_as_current_span("agent") as agent:
            await memory.set(SECRET, SECRET)
            assert await memory.get(SECRET) == SECRET
            assert await memory.reencrypt() == 0
    assert [span.name for span in spans()] == ["put", "get_entry", "list_entries", "list_entries", "agent"]
    assert {span.parent.span_id for span in spans()[:-1]} == {agent.get_span_context().span_id}
    twin = AsyncMemory.of(Memory("n", f"sqlite:///{tmp_path / 'b.db'}"))
    await twin.set("k", 1)
    assert spans()[-1].name == "put"


def test_a_trace_goes_through_a_server(spans, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")  # which would put down whole URLs
    with collector.Collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        with Server(tmp_path / "a.db") as server, Memory(SECRET, server.url) as memory:
            with trace.get_tracer("agent").start_as_current_span("agent") as agent:
                memory.set(SECRET, SECRET)
                memory.get(SECRET)
                memory.get(f"{SECRET} none")
                memory.usage()
            memory.set(SECRET, SECRET)
            for path in ("/health", "/metrics"):
                urllib.request.urlopen(f"{server.url}{path}", timeout=10).close()
        found = taken.spans()  # a server that stops sends what it has
    context = agent.get_span_context()
    ours = [span for span in spans() if span.name != "agent"]
    assert [span.name for span in ours] == [
        f"{name} 127.0.0.1:{server.port}" for name in ("put", "get_entry", "get_entry", "get_usage", "put")
    ]
    assert ours[0].attributes["db.system.name"] == "botwire"
    assert (ours[0].attributes["server.address"], ours[0].attributes["server.port"]) == ("127.0.0.1", server.port)
    answered = [span for span in found if "http.request.method" in span["attributes"]]
    assert [span["name"] for span in answered] == [
        "POST /memory/{namespace}",
        "GET /memory/{namespace}/{name}",
        "GET /memory/{namespace}/{name}",
        "GET /usage/{namespace}",
        "POST /memory/{namespace}",
    ]
    assert [span["attributes"]["http.response.status_code"] for span in answered] == [200, 200, 404, 200, 200]
    assert answered[1]["attributes"] == {
        "http.request.method": "GET",
        "http.route": "/memory/{namespace}/{name}",
        "url.path": "/memory/{namespace}/{name}",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
    }
    assert [span["parent"] for span in answered] == [f"{span.context.span_id:016x}" for span in ours]
    assert {span["trace"] for span in answered[:4]} == {f"{context.trace_id:032x}"}
    assert answered[4]["trace"] != answered[0]["trace"]
    for span, call in zip(answered, ("put", "get_entry", "get_entry", "get_usage", "put"), strict=False):
        assert call in [beneath["name"] for beneath in found if beneath["parent"] == span["id"]]
    assert {(span["service"], span["by"], span["failed"]) for span in found} == {("botwire", "botwire", False)}
    assert SECRET.encode() not in b"".join(taken.bodies)


def test_an_unreachable_collector_does_not_delay_the_stop(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    with Server(tmp_path / "a.db", "--traces", "otlp") as server:
        with Memory("n", server.url) as memory:
            memory.set("k", 2)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 8
        assert [event["exporters"] for event in server.events() if event["event"] == "traced"] == [["otlp_proto_http"]]
        assert all(line.startswith("{") for line in server.log)


def test_what_decides(monkeypatch):
    assert exporters_of(None) is None
    for variables, option, expected in [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, None, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, None, []),
        ({}, "console, otlp", ["console", "otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "console"}, None, ["console"]),
        ({}, "none", []),
        ({"OTEL_SDK_DISABLED": "true"}, "otlp", []),
    ]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert exporters_of(option) == expected
    monkeypatch.setenv("OTEL_SDK_DISABLED", "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    for option, name in (("zipkin", "zipkin"), ("otlp", "otlp_proto_grpc")):
        with pytest.raises(InvalidArgument, match=rf"no exporter '{name}' is installed: pip install 'botwire\[otel\]'"):
            exporters_of(option)


def test_none_is_none_although_a_provider_is_set(provider):
    assert begin(None) is not None
    assert begin([]) is None


def test_switched_off(spans, tmp_path, monkeypatch):
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis, botwire")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with Memory("n", f"sqlite:///{tmp_path / 'a.db'}") as memory:
                memory.set("k", 1)
    assert spans() == ()


def test_who_does_not_use_it_does_not_load_it(tmp_path):
    code = f"""
import sys, botwire
with botwire.Memory("n", "sqlite:///{tmp_path / "a.db"}") as memory:
    memory.set("k", 1)
    assert type(memory.bridge.store).__name__ == "SqliteStore"
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_page():
    """In a process of its own, since it sets a provider."""
    (example,) = blocks(ROOT / "docs" / "tracing.md", "python")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    (said,) = re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert (done.stderr, done.stdout.strip()) == ("", said)
