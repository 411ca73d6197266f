"""What `botwire doctor` finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at; ``ok``: None when it is neither good nor bad."""

    what: str
    found: str
    ok: bool | None = None


def reached(look: Callable[[], Any]) -> Finding:
    """Return how long a look takes, once it has been taken."""
    look()
    begun = time.perf_counter()
    look()
    return Finding("reached", f"yes, a read takes {(time.perf_counter() - begun) * 1_000:.2f} ms", ok=True)
