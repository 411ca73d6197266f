"""Messages as LangChain's `message_to_dict` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..marks import ROLES, Mark, Role, Shape, is_text, items_of, merged, place, shape, text_of
from .chat import block_marks, is_content, raw_calls, rule_of

_NAMES: tuple[tuple[Role | None, tuple[str, ...]], ...] = (
    ("user", ("human", "HumanMessage")),
    ("assistant", ("ai", "AIMessage")),
    ("system", ("system", "SystemMessage")),
    ("tool", ("tool", "ToolMessage", "function", "FunctionMessage")),
    (None, ("chat", "ChatMessage", "remove")),
)
_TYPES = {name + suffix: role for role, names in _NAMES for name in names for suffix in ("", "Chunk")}


def is_langchain(data: dict[str, Any]) -> bool:
    """Return whether a dict has the form of a stored message of LangChain."""
    return isinstance(data.get("data"), dict) and isinstance(data.get("type"), str) and data["type"] in _TYPES


def langchain_shape(data: dict[str, Any]) -> Shape:
    """Return the shape of a message."""
    inner, type_ = data["data"], data["type"]
    role = _TYPES[type_]
    if type_.lower().startswith("chat"):
        name = inner.get("role")
        role = ROLES.get(name) if isinstance(name, str) else None
    marks = merged(
        *(list(_calls(inner, key)) if inner.get(key) else () for key in ("tool_calls", "invalid_tool_calls")),
        raw_calls(inner.get("additional_kwargs"), ("data", "additional_kwargs")),
        *_content_marks(inner),
        list(_calls(inner, "tool_call_chunks")) if inner.get("tool_call_chunks") else (),
    )
    if role == "tool":
        marks += _result(inner)
    has_content = type_ == "remove" or bool(marks and role != "user") or _has_content(inner)
    if role == "user" and marks and not has_content and all(mark.kind == "result" for mark in marks):
        role = "tool"
    return shape("langchain", role, marks, has_content=has_content, rule=rule_of(marks))


def _calls(inner: dict[str, Any], key: str) -> Iterator[Mark]:
    for number, call in enumerate(items_of(inner, key)):
        if id_ := text_of(call, "id"):
            yield Mark("call", id_, (place(("data", key, number), "id"),), text_of(call, "name") or "", "tool")


def _content_marks(inner: dict[str, Any]) -> tuple[Sequence[Mark], ...]:
    content = inner.get("content")
    return (block_marks(content, ("data", "content")), list(_content_calls(inner))) if isinstance(content, list) else ()


def _content_calls(inner: dict[str, Any]) -> Iterator[Mark]:
    """Yield the calls in the content: as LangChain's own blocks, and as OpenAI Responses writes them."""
    for number, block in enumerate(items_of(inner, "content")):
        type_ = text_of(block, "type")
        key = {"tool_call": "id", "invalid_tool_call": "id", "function_call": "call_id"}.get(type_ or "")
        if key and (id_ := text_of(block, key)):
            yield Mark("call", id_, (place(("data", "content", number), key),), text_of(block, "name") or "", "tool")


def _result(inner: dict[str, Any]) -> list[Mark]:
    if id_ := text_of(inner, "tool_call_id"):
        return [Mark("result", id_, (place((), "data", "tool_call_id"),), form="tool")]
    if name := text_of(inner, "name"):
        return [Mark("result", name, (place((), "data", "name"),), form="function", unique=False)]
    return []


def _has_content(inner: dict[str, Any]) -> bool:
    content = inner.get("content")
    if isinstance(content, list):
        return any(is_content(part) for part in content)
    extra = inner.get("additional_kwargs")
    return is_text(content) or bool(text_of(extra, "refusal") or (isinstance(extra, dict) and extra.get("audio")))


def langchain_answers(data: dict[str, Any], calls: list[Mark], text: str) -> list[Any]:
    """Return messages with a text as the result of calls."""
    del data
    return [_answer(call, text) for call in calls]


def _answer(call: Mark, text: str) -> dict[str, Any]:
    if call.form == "function":
        return {"type": "function", "data": {"type": "function", "content": text, "name": call.name}}
    named = {"name": call.name} if call.name else {}
    result = {"type": "tool", "content": text, "tool_call_id": call.id, "status": "error", **named}
    return {"type": "tool", "data": result}
