"""What a context needs of each message, remembered: to measure a message takes several times as long as to read it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..values import decode_all
from .marks import Role
from .plain import plain_sizes
from .shapes import shape_of
from .tokens import estimate_tokens

_MOST = 32_768
"""Measures that are remembered, half of them used lately."""
_MOST_IDS = 32
"""Ids of a message that is remembered."""
_IS_RANDOM = sys.hash_info.width >= 64 and sys.flags.hash_randomization
"""Whether no one can make two texts with the same hash. Otherwise nothing is remembered, and ids are compared as they are."""

Id: TypeAlias = int | str
_mark: Callable[[str], Id] = hash if _IS_RANDOM else str


class Measure(NamedTuple):
    """The estimated tokens of a message, and what it is, as `shape_of` finds it.

    ``plain`` is the role of a user's or an assistant's message without calls, results and reasoning, else None. Ids are hashes.
    """

    tokens: float
    role: Role | None
    plain: Role | None
    calls: tuple[Id, ...] = ()
    results: tuple[Id, ...] = ()
    joins_next: bool = False


class _Known:
    """Measures by the hash of the stored text, so no text and no id of a message is kept: nothing is left of one that is erased.

    Two texts of a process have the same hash with a probability of 2⁻⁶⁴.
    """

    def __init__(self) -> None:
        self.lately: dict[int, Measure] = {}
        self.before: dict[int, Measure] = {}

    def keep(self, key: int, measure: Measure) -> None:
        if not _IS_RANDOM or len(measure.calls) + len(measure.results) > _MOST_IDS:
            return
        if len(self.lately) >= _MOST // 2:
            self.before, self.lately = self.lately, {}
        self.lately[key] = measure

    def clear(self) -> None:
        self.before, self.lately = {}, {}


known = _Known()


def measures_of(texts: Sequence[str]) -> list[Measure]:
    """Return the measures of messages, given as stored texts."""
    keys = list(map(hash, texts))
    found = list(map(known.lately.get, keys))
    if None in found:
        _complete(texts, keys, found)
    return found  # type: ignore[return-value]


def _complete(texts: Sequence[str], keys: list[int], found: list[Measure | None]) -> None:
    """Fill in what was not used lately."""
    new: list[int] = []
    for number, measure in enumerate(found):
        if measure is None:
            found[number] = again = known.before.get(keys[number])
            if again is None:
                new.append(number)
            else:
                known.keep(keys[number], again)
    for number, measure in zip(new, _measured(decode_all([texts[number] for number in new])), strict=True):
        found[number] = measure
        known.keep(keys[number], measure)


def _measured(decoded: list[Any]) -> list[Measure]:
    plain = plain_sizes(decoded)
    if plain is not None:
        return [Measure(size, role, role) for size, role in zip(*plain, strict=True)]
    return list(map(_measure_of, decoded))


def _measure_of(data: Any) -> Measure:
    shape = shape_of(data)
    calls, results = tuple(map(_mark, shape.calls)), tuple(map(_mark, shape.results))
    is_plain = shape.role in {"user", "assistant"} and not (calls or results or shape.joins_next)
    plain = shape.role if is_plain else None
    return Measure(estimate_tokens(data), shape.role, plain, calls, results, shape.joins_next)
