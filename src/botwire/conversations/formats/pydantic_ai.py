"""Messages of Pydantic AI, as its `ModelMessagesTypeAdapter` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..marks import Mark, Role, Shape, is_text, place, shape, text_of

_KINDS = {
    "tool-call": ("call", False),
    "builtin-tool-call": ("call", True),
    "tool-return": ("result", False),
    "retry-prompt": ("result", False),
    "builtin-tool-return": ("result", True),
}
"""The parts that are calls and results, and whether the provider runs them."""


def is_pydantic_ai(data: dict[str, Any]) -> bool:
    """Return whether a dict has the form of a message of Pydantic AI."""
    return text_of(data, "kind") in {"request", "response"} and isinstance(data.get("parts"), list)


def pydantic_ai_shape(data: dict[str, Any]) -> Shape:
    """Return the shape of a request or a response."""
    kinds = [text_of(part, "part_kind") for part in data["parts"]]
    marks = tuple(_marks(data["parts"]))
    if data["kind"] == "response":
        role: Role = "assistant"
        has_content = any(_is_content(part, kind) for part, kind in zip(data["parts"], kinds, strict=True))
    else:
        role = _role(kinds, marks)
        has_content = len(marks) < len(kinds) or is_text(data.get("instructions"))
    return shape("pydantic_ai", role, marks, has_content=has_content, rule="response")


def _role(kinds: list[str | None], marks: tuple[Mark, ...]) -> Role:
    if marks and len(marks) == len(kinds):
        return "tool"
    return "system" if kinds and set(kinds) == {"system-prompt"} else "user"


def _marks(parts: list[Any]) -> Iterator[Mark]:
    for number, part in enumerate(parts):
        kind, hosted = _KINDS.get(text_of(part, "part_kind") or "", ("", False))
        name = text_of(part, "tool_name")
        # A retry prompt without a tool asks for another answer, and belongs to no call.
        if (kind == "call" or (kind == "result" and name)) and (id_ := text_of(part, "tool_call_id")):
            at = place(("parts", number), "tool_call_id")
            yield Mark("call" if kind == "call" else "result", id_, (at,), name or "", "parts", hosted)


def _is_content(part: Any, kind: str | None) -> bool:
    if kind in _KINDS or kind == "thinking" or not isinstance(part, dict):
        return False
    return kind != "text" or is_text(part.get("content"))


def pydantic_ai_answers(data: dict[str, Any], calls: list[Mark], text: str) -> list[Any]:
    """Return a request with a text as the result of calls."""
    del data
    parts = [
        {
            "part_kind": "tool-return",
            "tool_name": call.name,
            "tool_call_id": call.id,
            "content": text,
            "outcome": "failed",
        }
        for call in calls
    ]
    return [{"kind": "request", "parts": parts}]
