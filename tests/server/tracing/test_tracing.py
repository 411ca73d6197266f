"""Traces, with the real SDK of OpenTelemetry and a collector that is asked what it got."""

from __future__ import annotations

from tests.environments import run_tests


def test_with_the_newest_release() -> None:
    run_tests("tracing", only=["test_tracing.py"], within="server", extra="server,otel,encryption")
