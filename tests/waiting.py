"""Wait in tests for a condition instead of a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "the condition", timeout: float = 60) -> T:
    """Return the first true result of a condition. Fail if there is none before the timeout.

    Args:
        condition: a function that is called until its result is true.
        what: a name for the condition, for the error.
        timeout: seconds; long enough for a busy machine.
    """
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, f"no {what} within {timeout:g} s"
        time.sleep(0.005)
    return result
