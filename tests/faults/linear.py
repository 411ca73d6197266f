"""Check whether a history of operations is linearizable.

It is, if some order of the operations explains all results, with each operation at one moment between its call and its return.

The search is that of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", Journal of Parallel and Distributed
Computing 17 (1993), 164-182. It tries each operation that can be first, then each that can be next, and backtracks if none fits.
It adds the cache of G. Lowe, "Testing for linearizability", Concurrency and Computation: Practice and Experience 29(4) (2017):
a pair of completed operations and state is explored once. Linearizability is local, so each key is checked alone (M. P. Herlihy
and J. M. Wing, "Linearizability: A Correctness Condition for Concurrent Objects", ACM TOPLAS 12(3), 1990, theorem 1).

An operation whose answer was lost may have been applied at any moment after its call, or never.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

UNKNOWN = "unknown"
"""The result of an operation whose answer was lost."""


class Event(NamedTuple):
    """One operation of one client. All times come from one clock."""

    begin: float
    end: float
    verb: str
    argument: Any
    result: Any


class State(NamedTuple):
    """The value of a key (None if it does not exist) and its version. If not `exact`, the true version is greater than this."""

    value: Any
    version: int
    exact: bool

    def fits(self, version: int) -> bool:
        """Whether the entry may have a version; version 0 means that it does not exist."""
        if self.value is None:
            return version == 0
        return version == self.version if self.exact else version > self.version


EMPTY = State(None, 0, exact=True)


def explain(history: Iterable[Event]) -> str | None:
    """Return None if the history of a key is linearizable, otherwise a text with the first operations that do not fit."""
    events = sorted(history)
    ends = [math.inf if event.result is UNKNOWN else event.end for event in events]
    needed = sum(1 << place for place, event in enumerate(events) if event.result is not UNKNOWN)
    stack, seen, best = [(0, EMPTY)], {(0, EMPTY)}, 0
    while stack:
        done, state = stack.pop()
        if done & needed == needed:
            return None
        best = max(best, done & needed, key=int.bit_count)
        for place in reversed(_next(events, ends, done)):
            for following in step(state, events[place]):
                config = (done | 1 << place, following)
                if config not in seen:
                    seen.add(config)
                    stack.append(config)
    left = [event for place, event in enumerate(events) if needed & ~best & 1 << place]
    return f"no order explains this, after {best.bit_count()} of {len(events)} operations: {left[:8]}"


def _next(events: Sequence[Event], ends: Sequence[float], done: int) -> list[int]:
    """Return the operations that may be next: those that began before any other remaining operation ended."""
    found, limit = [], math.inf
    for place, event in enumerate(events):
        if event.begin > limit:
            break
        if not done >> place & 1:
            found.append(place)
            limit = min(limit, ends[place])
    return found


def step(state: State, event: Event) -> list[State]:
    """Return the possible states of a key after an operation with this result; none if the result is impossible."""
    return _STEP[event.verb](state, event.argument, event.result)


def _set(state: State, value: Any, version: Any) -> list[State]:
    if version is UNKNOWN:
        return [State(value, state.version, exact=False)]
    return [State(value, version, exact=True)] if version > state.version else []


def _get(state: State, _: None, found: Any) -> list[State]:
    if found is UNKNOWN:
        return [state]
    if found is None:
        return [state] if state.value is None else []
    value, version = found
    return [State(value, version, exact=True)] if value == state.value and state.fits(version) else []


def _compare_and_set(state: State, argument: tuple[int, Any], result: Any) -> list[State]:
    """The result is ("done", version) or ("conflict", version)."""
    expected, value = argument
    if result is UNKNOWN:
        return [State(value, max(state.version, expected), exact=False)] if state.fits(expected) else []
    outcome, version = result
    if outcome == "done":
        fits = state.fits(expected) and version > max(state.version, expected)
        return [State(value, version, exact=True)] if fits else []
    if version == expected or not state.fits(version):
        return []
    return [state if version == 0 else State(state.value, version, exact=True)]


def _delete(state: State, _: None, existed: Any) -> list[State]:
    deleted = State(None, state.version, exact=True)
    return [deleted] if existed in {UNKNOWN, state.value is not None} else []


def _increment(state: State, by: int, total: Any) -> list[State]:
    value = (state.value or 0) + by
    return [State(value, state.version, exact=False)] if total in {UNKNOWN, value} else []


_STEP = {"set": _set, "get": _get, "cas": _compare_and_set, "delete": _delete, "increment": _increment}


# A session without pops


def explain_log(appends: Sequence[Event], reads: Sequence[Event], final: Sequence[tuple[int, str]]) -> str | None:
    """Return None if the appends to a session and its reads are consistent, otherwise the inconsistency.

    Args:
        appends: the argument is the message's id, the result is its seq.
        reads: the result is a list of (seq, id).
        final: the messages at the end, as (seq, id).
    """
    ids = [name for _, name in final]
    places = {name: seq for seq, name in final}
    if [seq for seq, _ in final] != list(range(1, len(final) + 1)):
        return "sequence numbers have gaps or repeats"
    if len(places) < len(ids):
        return "a message is stored twice"
    if unsent := set(ids) - {event.argument for event in appends}:
        return f"no client appended {unsent}"
    for event in appends:
        if event.result is not UNKNOWN and places.get(event.argument) != event.result:
            return f"{event.argument} was acknowledged at {event.result} and is at {places.get(event.argument)}"
    known = [event for event in appends if event.argument in places]
    return _out_of_order(known, places) or _stale(known, reads, list(final), places)


def _out_of_order(appends: Sequence[Event], places: dict[str, int]) -> str | None:
    """Check that an append that began after an acknowledgement has a higher seq than the acknowledged message."""
    acknowledged = sorted((event.end, places[event.argument]) for event in appends if event.result is not UNKNOWN)
    highest, position = 0, 0
    for event in sorted(appends):
        while position < len(acknowledged) and acknowledged[position][0] < event.begin:
            highest = max(highest, acknowledged[position][1])
            position += 1
        if places[event.argument] < highest:
            return f"{event.argument} precedes a message that was acknowledged before {event.argument} was sent"
    return None


def _stale(appends: Sequence[Event], reads: Sequence[Event], final: list, places: dict[str, int]) -> str | None:
    """Check that a read returns the beginning of the log, with every message acknowledged or read before, and no later ones."""
    seen: list[tuple[float, int]] = [
        (event.end, places[event.argument]) for event in appends if event.result is not UNKNOWN
    ]
    begun = {places[event.argument]: event.begin for event in appends}
    for event in sorted(reads, key=lambda event: event.begin):
        if event.result is UNKNOWN:
            continue
        length = len(event.result)
        if event.result != final[:length]:
            return f"a read returned something other than the beginning of the log: {event.result[-3:]}"
        if any(end < event.begin and seq > length for end, seq in seen):
            return f"a read returned {length} messages after more had been acknowledged or read"
        if any(begun[seq] > event.end for seq, _ in event.result):
            return "a read returned a message before it was sent"
        seen.append((event.end, length))
    return None
