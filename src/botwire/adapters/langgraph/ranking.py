"""Ranks items for a query: by the similarity of vectors, or by words."""

from __future__ import annotations

import math
import operator
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import InvalidArgument, StoreError

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

_WORDS = re.compile(r"\w+")


def packed(vectors: Sequence[Sequence[float]], dims: int | None) -> bytes:
    """Return the stored form of an item's vectors: their length, and their numbers as 32-bit floats.

    Raises:
        InvalidArgument: they do not have the length given by ``dims``.
    """
    length = dims or len(vectors[0])
    wrong = next((len(vector) for vector in vectors if len(vector) != length), None)
    if wrong is not None:
        raise InvalidArgument(f"the embeddings have {wrong} dimensions; the index was made for {length} (dims)")
    numbers = array("f", (number for vector in vectors for number in vector))
    return msgspec.msgpack.encode((length, numbers.tobytes()))


def likeness(query: Sequence[float], stored: Sequence[bytes]) -> list[float]:
    """Return for each item the cosine similarity of the query to the closest of its vectors."""
    rows: list[array[float]] = []
    ends: list[int] = []
    for item in stored:
        try:
            length, data = msgspec.msgpack.decode(item, type=tuple[int, bytes])
        except msgspec.MsgspecError as error:
            raise StoreError(f"a stored vector is damaged: {error}. Put the item again") from error
        if length != len(query):
            raise InvalidArgument(f"the query's embedding has {len(query)} dimensions, the stored ones have {length}")
        numbers = array("f", data)
        rows.extend(numbers[start : start + length] for start in range(0, len(numbers), length))
        ends.append(len(rows))
    scores = _cosines(query, rows)
    starts = [0, *ends[:-1]]
    return [max(scores[start:end]) for start, end in zip(starts, ends, strict=True)]


def _cosines(query: Sequence[float], rows: Sequence[array[float]]) -> list[float]:
    if np is not None and rows:
        matrix = np.array([np.frombuffer(row, dtype=np.float32) for row in rows], dtype=np.float64)
        own = np.asarray(query, dtype=np.float64)
        norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(own)
        products = matrix @ own
        return [float(score) for score in np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)]
    length = math.hypot(*query)
    return [sum(map(operator.mul, row, query)) / norm if (norm := math.hypot(*row) * length) else 0.0 for row in rows]


def by_words(query: str, texts: Sequence[str]) -> list[float]:
    """Return for each text how well its words match those of a query. Rare words have more weight.

    For stores without a word index, such as encrypted ones.
    """
    asked = set(_words(query))
    owned = [Counter(word for word in _words(text) if word in asked) for text in texts]
    having = Counter(word for words in owned for word in words)
    weights = {word: math.log(1 + len(texts) / count) for word, count in having.items()}
    return [sum(weights[word] * count / (count + 1) for word, count in words.items()) for words in owned]


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def text_of(value: Any) -> str:
    """Return all texts in a value, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(map(text_of, value.values()))
    return " ".join(map(text_of, value)) if isinstance(value, list) else ""
