"""Times calls. All candidates alternate in one run, so that other load on the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

TURN = 10


class Row(NamedTuple):
    """One comparison: our time, the other time, and the goal."""

    what: str
    theirs: str
    our_us: float
    their_us: float
    worst_us: float
    bar: float | None = None
    smaller_is_better: bool = True
    group: str = ""

    @property
    def ratio(self) -> float:
        """Our time divided by the other time. If ``smaller_is_better`` is false, the other time divided by ours."""
        return self.our_us / self.their_us if self.smaller_is_better else self.their_us / self.our_us

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        if self.bar is None:
            return True
        return self.ratio <= self.bar if self.smaller_is_better else self.ratio >= self.bar


@dataclass
class Timing:
    """Times of calls, in microseconds."""

    median: float
    p99: float
    worst: float
    mean: float


def in_turns(
    calls: dict[str, Callable[[int], object]],
    rounds: int,
    *,
    turn: int = TURN,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each call `rounds` times, each with a different number, and return the statistics.

    A candidate runs `turn` calls in a row, because its first call finds another candidate's data in the processor's caches. The
    order of the candidates changes from turn to turn. `clock` may be `time.process_time` for calls that never wait.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for start in range(0, rounds, turn):
        names.append(names.pop(0))
        for name in names:
            call, series = calls[name], times[name]
            for number in range(start, start + turn):
                begun = clock()
                call(number)
                series.append((clock() - begun) * 1e6)
    return {name: _timing(series) for name, series in times.items()}


def _timing(series: list[float]) -> Timing:
    ordered = sorted(series)
    return Timing(statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1], statistics.fmean(ordered))


def row(what: str, theirs: str, timings: dict[str, Timing], bar: float | None, name: str = "theirs") -> Row:
    """Return a row with the goal that ours takes at most `bar` times as long."""
    ours = timings["ours"]
    return Row(what, theirs, ours.median, timings[name].median, ours.worst, bar)


def faster(what: str, theirs: str, timings: dict[str, Timing], bar: float | None, name: str) -> Row:
    """Return a row with the goal that ours is at least `bar` times as fast."""
    ours = timings["ours"]
    return Row(what, theirs, ours.median, timings[name].median, ours.worst, bar, smaller_is_better=False)
