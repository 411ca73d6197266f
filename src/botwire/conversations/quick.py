"""The roles, calls, results and tokens of whole pages of the most frequent messages: OpenAI chat and plain dicts.

It finds what `shape_of` and `estimate_tokens` find, without an object for each message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from .tokens import MESSAGE_TOKENS

Mark: TypeAlias = bool | str | list[str] | None
"""True: a user's text; False: an assistant's text; a list: the ids of an assistant's calls; a str: the id of the call that the message
is the result of; None: not recognized."""

_ROLES = {"user": True, "assistant": False}
_ROUNDING = 4 * MESSAGE_TOKENS + 3


def quick_marks(decoded: Iterable[Any], room: float) -> tuple[list[int], list[Mark]]:
    """Return the estimated tokens and the mark of each message; the tokens of a message that is not recognized are 0.

    The lists end with the message that exceeds the `room` in tokens.
    """
    sizes: list[int] = []
    marks: list[Mark] = []
    for data in decoded:
        mark: Mark = None
        size = 0
        try:
            text = data["content"]
            if type(text) is str:
                size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
                if len(data) == 2:
                    mark = _ROLES.get(data["role"])
                else:
                    more, mark = _more(data, text)
                    size += more
            elif text is None and data["role"] == "assistant":
                size, mark = _more(data, "")
        except (AttributeError, KeyError, TypeError):
            mark = None
        size = 0 if mark is None else size + _ROUNDING >> 2
        marks.append(mark)
        sizes.append(size)
        room -= size
        if room < 0:
            break
    return sizes, marks


def _more(data: dict[str, Any], text: str) -> tuple[int, Mark]:
    """Return the bytes of a message's calls, and its mark."""
    if len(data) != 3 or text[:5] == "data:":
        return 0, None
    role = data["role"]
    if role == "tool":
        id_ = data["tool_call_id"]
        return 0, id_ if type(id_) is str and id_ else None
    return _calls(data["tool_calls"]) if role == "assistant" else (0, None)


def _calls(calls: list[dict[str, Any]]) -> tuple[int, Mark]:
    length, ids = 0, []
    for call in calls:
        id_, function = call["id"], call["function"]
        arguments = function["arguments"]
        is_usual = (
            len(call) == 3
            and len(function) == 2
            and call["type"] == "function"
            and type(id_) is type(arguments) is type(function["name"]) is str
            and id_
            and arguments[:5] != "data:"
        )
        if not is_usual:
            return 0, None
        length += len(arguments) if arguments.isascii() else len(arguments.encode("utf-8", "surrogatepass"))
        ids.append(id_)
    return length, ids
