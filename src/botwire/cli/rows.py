"""Rows of output: reads in pages, and messages and values on one line."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_PAGE = 500
"""Rows per read."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def paged(
    read: Callable[[Any, int], Sequence[T]], cursor: Callable[[T], Any], start: Any, limit: int | None = None
) -> Iterator[T]:
    """Read rows in pages. The cursor of a row is where the page after it starts."""
    left = sys.maxsize if limit is None else limit
    while left and (page := read(start, min(_PAGE, left))):
        yield from page
        start, left = cursor(page[-1]), left - len(page)


def said(data: Any) -> str:
    """Return role and text of a message in the form of OpenAI or LangChain; else its data."""
    if isinstance(data, Mapping):
        inner = data.get("data")
        role, content = data.get("role"), data.get("content")
        if isinstance(inner, Mapping):
            role, content = data.get("type"), inner.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return f"{role}: {content}"
    return text_of(data)


def shortened(text: str, most: int = 80) -> str:
    """Return the beginning of a text on one line. Control characters, such as those that move a cursor, become spaces."""
    line = _CONTROL.sub(" ", text[: 2 * most]).strip()
    return line if len(line) <= most and len(text) <= 2 * most else f"{line[: most - 1]}…"


def text_of(value: Any) -> str:
    """Return a value on one line: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else json_of(value)


def json_of(value: Any) -> str:
    """Return a value as JSON; bytes as an object with their base64."""
    return json.dumps(value, ensure_ascii=False, default=in_base64)


def in_base64(value: bytes) -> dict[str, str]:
    """Return bytes as a JSON object."""
    return {"value_base64": base64.b64encode(value).decode()}
