"""How things are measured: in turns, so that whatever the machine does meanwhile happens to all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Timing:
    """How long calls took, in microseconds."""

    median: float
    p99: float
    worst: float


def in_turns(calls: dict[str, Callable[[int], object]], rounds: int) -> dict[str, Timing]:
    """Time each call once a round, with the number of the round, and sum up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            call(number)
            times[name].append((time.perf_counter() - begun) * 1e6)
    return {name: _timing(series) for name, series in times.items()}


def _timing(series: list[float]) -> Timing:
    ordered = sorted(series)
    return Timing(statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])
