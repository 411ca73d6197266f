"""How things are measured: in turns, so that whatever the machine does meanwhile happens to all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

TURN = 10


@dataclass
class Timing:
    """How long calls took, in microseconds."""

    median: float
    p99: float
    worst: float


def in_turns(calls: dict[str, Callable[[int], object]], rounds: int) -> dict[str, Timing]:
    """Time each call as many times, ten in a row, each time with another number, and sum up.

    Ten, because the first call after something else finds the processor's caches full of that; whoever's turn follows
    whose changes from round to round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for start in range(0, rounds, TURN):
        names.append(names.pop(0))
        for name in names:
            call, series = calls[name], times[name]
            for number in range(start, start + TURN):
                begun = time.perf_counter()
                call(number)
                series.append((time.perf_counter() - begun) * 1e6)
    return {name: _timing(series) for name, series in times.items()}


def _timing(series: list[float]) -> Timing:
    ordered = sorted(series)
    return Timing(statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])
