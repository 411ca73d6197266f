"""The results of `botwire doctor`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """The result of one check; ``ok`` is None for information only."""

    what: str
    found: str
    ok: bool | None = None


def reached(read: Callable[[], Any]) -> Finding:
    """Return the time of a second read, after a first one succeeded."""
    read()
    begun = time.perf_counter()
    read()
    return Finding("reached", f"yes, a read takes {(time.perf_counter() - begun) * 1_000:.2f} ms", ok=True)
