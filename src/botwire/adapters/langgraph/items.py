"""The items of a store: their keys, stored forms, and ranks for a query by the similarity of vectors or by words.

The key is ``item/{label}/{label}//{key}``, and ``vector/…`` beside it. A label is never empty, so that ``//`` ends a namespace,
and all that is within a namespace has its prefix.
"""

from __future__ import annotations

import math
import operator
import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from langgraph.store.base import InvalidNamespaceError, Item, MatchCondition, SearchItem

from ...errors import InvalidArgument, InvalidName, StoreError
from ...limits import MAX_NAME_BYTES
from ...operations import Put
from ...records import Entry
from ...timestamps import moment
from ...values import encode_json
from .keys import MAX_PART_BYTES, check_text, escape, part, unescape

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

_WORDS = re.compile(r"\w+")
ITEM, VECTOR = "item/", "vector/"
LAST = "\U0010ffff"
"""Sorts after every key of an item, because `part` leaves no such character in one."""
_MAX_NAMESPACE_BYTES = MAX_NAME_BYTES - MAX_PART_BYTES - len(VECTOR) - 2
_REFRESH = 0.01
"""The part of its time to live that may pass before a read refreshes an item, so that reads seldom write."""


class ItemPath(NamedTuple):
    """The namespace and the key of an item, as parts of the keys of its entries."""

    namespace: str
    key: str

    @classmethod
    def of(cls, namespace: tuple[str, ...], key: str) -> ItemPath:
        if not namespace:
            raise InvalidNamespaceError("Namespace cannot be empty.")
        return cls(joined(namespace), part(str(key)))

    @property
    def item(self) -> str:
        return f"{ITEM}{self.namespace}/{self.key}"

    @property
    def vector(self) -> str:
        return f"{VECTOR}{self.namespace}/{self.key}"


def joined(labels: Sequence[str]) -> str:
    """Return a namespace, or the beginning of one, as the prefix of the keys within it, or raise `InvalidNamespaceError`."""
    try:
        return _joined(tuple(labels))
    except TypeError as error:
        raise InvalidNamespaceError(f"Invalid namespace {labels!r}: {error}.") from error


@lru_cache(4096)
def _joined(labels: tuple[str, ...]) -> str:
    for label in labels:
        if not isinstance(label, str) or not label or "." in label or "\x00" in label:
            raise InvalidNamespaceError(
                f"Invalid namespace label {label!r} in {labels!r}: labels are not empty and contain "
                "no periods and no NUL."
            )
    text = "".join(f"{escape(label)}/" for label in labels)
    try:
        check_text(text)
    except InvalidName as error:
        raise InvalidNamespaceError(f"Invalid namespace: {error}.") from error
    if len(text.encode()) > _MAX_NAMESPACE_BYTES:
        raise InvalidNamespaceError(
            f"The namespace {labels[:3]!r}… is too long: {len(text.encode()):,} bytes of {_MAX_NAMESPACE_BYTES}."
        )
    return text


def namespace_of(key: str) -> str:
    """Return the namespace in the key of an entry, as `joined` returned it."""
    start = key.index("/") + 1
    return key[start : key.index("//", start) + 1]


def namespaces_in(keys: Sequence[str]) -> list[str]:
    """Return the namespaces in sorted keys of items; most keys are skipped."""
    found: list[str] = []
    start = 0
    while start < len(keys):
        found.append(namespace_of(keys[start]))
        start = bisect_left(keys, f"{ITEM}{found[-1]}/{LAST}", start + 1)
    return found


@lru_cache(4096)
def labels_of(namespace: str) -> tuple[str, ...]:
    """Return the labels of a namespace that `joined` returned."""
    return tuple(unescape(label) for label in namespace[:-1].split("/"))


class Stored(NamedTuple):
    """An item as it was read."""

    entry: Entry
    content: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> Stored:
        return cls(entry, entry.value)

    @property
    def value(self) -> dict[str, Any]:
        value: dict[str, Any] = self.content["value"]
        return value

    @property
    def has_ttl(self) -> bool:
        return "ttl" in self.content

    @property
    def path(self) -> ItemPath:
        namespace = namespace_of(self.entry.key)
        return ItemPath(namespace, self.entry.key[len(ITEM) + len(namespace) + 1 :])

    def item(self, namespace: tuple[str, ...], key: str) -> Item:
        """Return it as LangGraph expects it, with the namespace and key that the caller gave."""
        created, updated = self._times()
        return Item(value=self.value, key=key, namespace=namespace, created_at=created, updated_at=updated)

    def found(self, score: float | None) -> SearchItem:
        """Return it as LangGraph expects the result of a search."""
        path = self.path
        key = self.content.get("key") or unescape(path.key)
        return SearchItem(labels_of(path.namespace), key, self.value, *self._times(), score)

    def _times(self) -> tuple[datetime, datetime]:
        created, updated = self.entry.created, self.content.get("updated") or self.entry.updated
        moment_created = moment(created)
        return moment_created, moment_created if updated == created else moment(updated)

    def refreshed(self, now: int) -> Put | None:
        """Return the write that restarts the item's time to live; None if it has none or was refreshed recently."""
        minutes = self.content.get("ttl")
        if minutes is None or self.entry.expires is None:
            return None
        life = minutes * 60
        if self.entry.expires - now > life * 1_000_000 * (1 - _REFRESH):
            return None
        content = {"updated": self.entry.updated, **self.content}
        return Put(self.entry.key, encode_json(content), life, if_version=self.entry.version)


def content(key: str, value: Mapping[str, Any], ttl: float | None) -> str:
    """Return the stored form of an item."""
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"the value of an item is a dict, not {type(value).__name__}")
    stored: dict[str, Any] = {"value": dict(value)}
    if unescape(part(key)) != key:  # too long for a part of a key, which has its digest
        stored["key"] = key
    if ttl is not None:
        stored["ttl"] = ttl
    return encode_json(stored)


def matches(condition: MatchCondition, labels: tuple[str, ...]) -> bool:
    """Whether a namespace matches a condition; ``*`` matches any label."""
    path = tuple(condition.path)
    if condition.match_type not in {"prefix", "suffix"}:
        raise InvalidArgument(f"a namespace is matched by 'prefix' or 'suffix', not {condition.match_type!r}")
    if len(labels) < len(path):
        return False
    own = labels[: len(path)] if condition.match_type == "prefix" else labels[len(labels) - len(path) :]
    return all(wanted in {"*", label} for wanted, label in zip(path, own, strict=True))


def packed_vectors(vectors: Sequence[Sequence[float]], dims: int | None) -> bytes:
    """Return the stored form of an item's vectors, each of the length `dims`: the length, and the numbers as 32-bit floats."""
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
    """Return how well each text matches a query, for stores without a word index. Rare words have more weight."""
    asked = set(_tokens(query))
    owned = [Counter(word for word in _tokens(text) if word in asked) for text in texts]
    having = Counter(word for words in owned for word in words)
    weights = {word: math.log(1 + len(texts) / count) for word, count in having.items()}
    return [sum(weights[word] * count / (count + 1) for word, count in words.items()) for words in owned]


def _tokens(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def text_of(value: Any) -> str:
    """Return all texts in a value, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(map(text_of, value.values()))
    return " ".join(map(text_of, value)) if isinstance(value, list) else ""
