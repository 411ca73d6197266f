"""What a context needs of each message, remembered: to measure a message takes several times as long as to read it."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ..values import decode_all
from .marks import Role
from .shapes import shape_of
from .tokens import estimate_tokens

_MOST = 32_768 if sys.hash_info.width >= 64 else 0
"""Messages that are remembered. A hash of 32 bits is too short to identify a message."""
_MOST_IDS = 256
"""Characters of the ids of a message that is remembered. So all of them together have a limit."""


class Measure(NamedTuple):
    """The estimated tokens of a message, and what it is, as `shape_of` finds it."""

    tokens: float
    role: Role | None
    calls: tuple[str, ...]
    results: tuple[str, ...]
    joins_next: bool


_known: dict[int, Measure] = {}
"""By the hash of the stored text. No text is kept: a message that is deleted or redacted leaves nothing here but its measure.

Two texts of a process have the same hash with a probability of 2⁻⁶⁴, and its key is random.
"""


def measures_of(texts: list[str]) -> list[Measure]:
    """Return the measures of messages, given as stored texts."""
    keys = list(map(hash, texts))
    found = list(map(_known.get, keys))
    missing = [number for number, measure in enumerate(found) if measure is None] if None in found else []
    if missing:
        if len(_known) + len(missing) > _MOST:
            _known.clear()
        for number, data in zip(missing, decode_all([texts[number] for number in missing]), strict=True):
            found[number] = measure = measure_of(data)
            ids = measure.calls + measure.results
            if len(_known) < _MOST and (not ids or sum(map(len, ids)) <= _MOST_IDS):
                _known[keys[number]] = measure
    return found  # type: ignore[return-value]


def measure_of(data: Any) -> Measure:
    """Return the measure of a message."""
    shape = shape_of(data)
    return Measure(estimate_tokens(data), shape.role, shape.calls, shape.results, shape.joins_next)
