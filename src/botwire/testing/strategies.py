"""Hypothesis strategies for names and values, and helpers of the contracts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..operations import NewMessage, Put
from ..timestamps import new_id
from ..values import encode, encode_json

AWKWARD_NAMES = (
    ".",
    "..",
    "../..",
    "a//b",
    "/",
    "//",
    "/a/",
    "a/../b",
    "%2F",
    "%",
    "%00",
    "?",
    "a?b=c&d",
    "#",
    "a#b",
    "a b",
    "+",
    "a\\b",
    "'; DROP TABLE entries; --",
    '"',
    "é",
    "e\u0301",
    "日本語",
    "🤖",
    "\u202eright to left",
    "k" * 512,
    "é" * 256,
)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)
"""Legal keys and session names."""
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=20,
)
"""JSON values of every kind."""
values = json_values | st.binary()
"""What may be stored under a key."""


def exact(value: Any) -> Any:
    """Return a form in which different values differ: ``1``, ``1.0`` and ``True`` are equal in Python."""
    return repr(value)


def put(key: str, value: Any, **options: Any) -> Put:
    """Return the operation that sets a key to a value."""
    return Put(key, encode(value), **options)


def messages_of(*data: Any) -> tuple[NewMessage, ...]:
    """Return new messages with these data."""
    return tuple(NewMessage(new_id(), encode_json(item)) for item in data)
