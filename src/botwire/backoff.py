"""Compare-and-set, tried again when somebody else was faster: how often, and how long to wait."""

from __future__ import annotations

MAX_ATTEMPTS = 100


def pause_after(attempt: int) -> float:
    """Return how many seconds to wait after a try, the first being 0: drawn anew each time, from up to 0.5 ms to up to 0.1 s."""
    import random  # which most programs never need

    return random.random() * min(0.1, 0.0005 * 2.0**attempt)  # noqa: S311 - not a secret
