"""Filters: paths into a JSON value, and what they must equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_NOTHING = object()


def filters_of(where: Mapping[str, Any]) -> list[tuple[list[str], Any]]:
    """Return the paths of a filter as lists of names, with what each must equal."""
    return [(path.split("."), wanted) for path, wanted in where.items()]


def holds(value: Any, filters: Iterable[tuple[list[str], Any]]) -> bool:
    """Whether a value has what the filters want."""
    return all(_same(_at(value, names), wanted) for names, wanted in filters)


def _at(value: Any, names: Iterable[str]) -> Any:
    """Return the value at a path of names and numbers, such as ``data.tags.0``."""
    for name in names:
        if isinstance(value, dict):
            value = value.get(name, _NOTHING)
        elif (
            isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(value)
        ):
            value = value[int(name)]
        else:
            return _NOTHING
    return value


def _same(value: Any, wanted: Any) -> bool:
    """Whether two JSON values are the same; True is not 1."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)
