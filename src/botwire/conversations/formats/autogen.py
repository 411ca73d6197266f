"""Messages between an AutoGen agent and its model."""

from __future__ import annotations

from typing import Any

from ..marks import Mark, Role, Shape, items_of, place, shape, text_of
from .chat import is_content

_TYPES: dict[str, Role] = {
    "SystemMessage": "system",
    "UserMessage": "user",
    "AssistantMessage": "assistant",
    "FunctionExecutionResultMessage": "tool",
}


def is_autogen(data: dict[str, Any]) -> bool:
    """Return whether a dict has the form of a message of AutoGen."""
    return isinstance(data.get("type"), str) and data["type"] in _TYPES and "content" in data


def autogen_shape(data: dict[str, Any]) -> Shape:
    """Return the shape of a message."""
    role = _TYPES[data["type"]]
    marks: list[Mark] = []
    if role in {"assistant", "tool"}:
        key = "id" if role == "assistant" else "call_id"
        for number, part in enumerate(items_of(data, "content")):
            if id_ := text_of(part, key):
                at = place(("content", number), key)
                marks.append(
                    Mark(
                        "call" if role == "assistant" else "result",
                        id_,
                        (at,),
                        text_of(part, "name") or "",
                        "autogen",
                    )
                )
    content = data["content"]
    parts = content if isinstance(content, list) else [content]
    has_content = role != "tool" and not marks and any(is_content(part) for part in parts)
    return shape("autogen", role, marks, has_content=has_content)


def autogen_answers(data: dict[str, Any], calls: list[Mark], text: str) -> list[Any]:
    """Return a message with a text as the result of calls."""
    del data
    results = [{"content": text, "name": call.name, "call_id": call.id, "is_error": True} for call in calls]
    return [{"type": "FunctionExecutionResultMessage", "content": results}]
