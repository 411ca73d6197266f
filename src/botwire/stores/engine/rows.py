"""Rows and statements, as both databases see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

Row: TypeAlias = tuple[Any, ...]
Run: TypeAlias = Callable[[str, tuple[Any, ...]], Iterable[Row]]
"""Runs a statement of queries.sql by its name."""


def as_json(items: Sequence[Any]) -> str:
    """Return a list as a statement takes it."""
    return msgspec.json.encode(items).decode()
