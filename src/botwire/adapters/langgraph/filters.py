"""Filters of items and checkpoints. They are compared in Python and never become SQL."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ...errors import InvalidArgument

Test: TypeAlias = Callable[[Any], bool]

_FIELD = re.compile(r"[\w .:/@-]+")


def check_field(name: object) -> str:
    """Return the name of a filter's field, or raise `InvalidArgument`.

    It has letters, digits, spaces and ``_ - . : / @``. Other names are more likely a mistake, or SQL, than a field.
    """
    if isinstance(name, str) and _FIELD.fullmatch(name):
        return name
    raise InvalidArgument(
        f"Invalid filter key: {name!a:.60}. It is a field, or a path such as user.name: letters, digits, spaces and _ - . : / @"
    )


def field(value: Mapping[str, Any], name: str) -> Any:
    """Return a field, or what a dotted path leads to; None: there is none. A field whose name has periods comes before a path."""
    if name in value or "." not in name:
        return value.get(name)
    found: Any = value
    for part in name.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def filtering(filter_: Mapping[str, Any] | None) -> Test:
    """Return a test of whether an item's value matches a filter.

    By LangGraph's rules: dicts and lists item by item, ``$`` operators. Values that an operator cannot compare do not match.

    Raises:
        InvalidArgument: as `check_field`, or an operator is unknown.
    """
    tests = [(check_field(name), _test(wanted)) for name, wanted in (filter_ or {}).items()]
    return lambda value: all(matches(field(value, name)) for name, matches in tests)


def _test(wanted: Any) -> Test:
    if isinstance(wanted, dict):
        if any(str(name).startswith("$") for name in wanted):
            tests = [_operator(name, operand) for name, operand in wanted.items()]
            return lambda value: all(test(value) for test in tests)
        fields = [(name, _test(item)) for name, item in wanted.items()]
        return lambda value: isinstance(value, dict) and all(test(value.get(name)) for name, test in fields)
    if isinstance(wanted, list | tuple):
        items = [_test(item) for item in wanted]
        return lambda value: (
            isinstance(value, list)
            and len(value) == len(items)
            and all(test(item) for test, item in zip(items, value, strict=True))
        )
    return lambda value: bool(value == wanted)


_EQUALITY = {"$eq": operator.eq, "$ne": operator.ne}
_ORDERS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def _operator(name: str, operand: Any) -> Test:
    if name in _EQUALITY:
        return lambda value: bool(_EQUALITY[name](value, operand))
    if name not in _ORDERS:
        raise InvalidArgument(f"Unsupported operator: {name}; there are $eq, $ne, $gt, $gte, $lt and $lte")
    if not isinstance(operand, int | float | str):
        return lambda _: False
    kinds: Any = str if isinstance(operand, str) else (int, float)
    return lambda value: isinstance(value, kinds) and bool(_ORDERS[name](value, operand))
