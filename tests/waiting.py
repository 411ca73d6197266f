"""Waiting in tests: for a condition, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "the condition", timeout: float = 60) -> T:
    """Return the first true result of a condition; fail when there is none in time.

    Args:
        condition: is called until its result is true.
        what: the missing condition, for the error.
        timeout: in seconds; long, so that a busy machine passes.
    """
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, f"no {what} within {timeout:g} s"
        time.sleep(0.005)
    return result
