"""Stores around a store: encryption, tracing. And whether to trace, for programs without OpenTelemetry."""

from __future__ import annotations

import os


def is_wanted() -> bool:
    """Whether the environment lets botwire trace calls, by the variables that all instrumentations use."""
    unwanted = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return not is_disabled() and "botwire" not in [name.strip() for name in unwanted]


def is_disabled() -> bool:
    """Whether the environment switches all of OpenTelemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
