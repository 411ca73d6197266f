"""The roles, calls, results and tokens of whole pages of the most frequent messages: OpenAI chat and plain dicts.

It finds what `shape_of` and `estimate_tokens` find, without an object for each message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from .tokens import MESSAGE_TOKENS

Mark: TypeAlias = bool | list[str] | tuple[str] | None
"""True: a user's text; False: an assistant's text; a list: the ids of an assistant's calls; a tuple: the id of the call that the
message is the result of; None: not recognized."""

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
            role, text, fields = data["role"], data["content"], len(data)
            if type(text) is str:
                size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            elif text is not None:
                fields = 0
            if fields == 2 and (role == "user" or role == "assistant"):  # noqa: PLR1714 - a set takes longer
                mark = role == "user"
            elif fields == 3 and role == "tool":
                mark = _result(data, text)
            elif fields == 3 and role == "assistant":
                length, mark = _calls(data, text)
                size += length
        except (KeyError, TypeError):
            mark = None
        size = 0 if mark is None else size + _ROUNDING >> 2
        marks.append(mark)
        sizes.append(size)
        room -= size
        if room < 0:
            break
    return sizes, marks


def _result(data: dict[str, Any], text: str | None) -> Mark:
    id_ = data["tool_call_id"]
    return (id_,) if type(id_) is str and id_ and not (text and text.startswith("data:")) else None


def _calls(data: dict[str, Any], text: str | None) -> tuple[int, Mark]:
    """Return the bytes of the arguments of all calls, and the ids of the calls."""
    length, ids = 0, []
    if text and text.startswith("data:"):
        return 0, None
    for call in data["tool_calls"]:
        id_, function = call["id"], call["function"]
        arguments = function["arguments"]
        is_usual = (
            call["type"] == "function"
            and len(call) == 3
            and len(function) == 2
            and type(id_) is type(arguments) is type(function["name"]) is str
            and id_
            and not arguments.startswith("data:")
        )
        if not is_usual:
            return 0, None
        length += len(arguments) if arguments.isascii() else len(arguments.encode("utf-8", "surrogatepass"))
        ids.append(id_)
    return length, ids
