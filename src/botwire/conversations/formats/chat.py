"""Messages with a role: OpenAI chat, Anthropic blocks, LlamaIndex, Agent Framework and plain dicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..marks import ROLES, Mark, Rule, Shape, is_text, items_of, merged, place, shape, text_of

_ANTHROPIC_CALLS = {"tool_use": False, "server_tool_use": True, "mcp_tool_use": True}
"""The types of Anthropic's blocks that are calls, and whether the provider runs them."""
_LISTS = "content", "blocks", "contents"
"""Where formats keep the parts of a message: OpenAI and Anthropic, LlamaIndex, Agent Framework."""
_OTHER_CONTENT = "refusal", "audio"
_NO_CONTENT = {
    *("thinking", "redacted_thinking", "reasoning", "text_reasoning", "usage"),
    *(*_ANTHROPIC_CALLS, "tool_call", "function_call", "function_result"),
}
"""Types of parts that are no answer: reasoning, calls and results."""


def chat_shape(data: dict[str, Any]) -> Shape:
    """Return the shape of a dict with a role."""
    role = ROLES.get(data["role"]) if isinstance(data["role"], str) else None
    marks = merged(
        block_marks(data.get("content"), ("content",)),
        _llama_marks(data) if "blocks" in data else (),
        _agent_marks(data) if "contents" in data else (),
        raw_calls(data, ()),
        raw_calls(data.get("additional_kwargs"), ("additional_kwargs",)),
    )
    if role == "tool":
        marks += _tool_message(data)
    # A message with calls is not empty, whatever its content is.
    has_content = bool(marks and role != "user") or _has_content(data)
    if role == "user" and marks and not has_content and all(mark.kind == "result" for mark in marks):
        role = "tool"
    return shape(
        _format(data, marks), role, marks, has_content=has_content, rule=rule_of(marks), item_id=_item_id(data)
    )


def block_marks(blocks: Any, path: tuple[str | int, ...]) -> list[Mark]:
    """Return the calls and results among content blocks, as Anthropic and LangChain write them."""
    found = []
    for number, block in enumerate(blocks if type(blocks) is list else ()):
        type_ = text_of(block, "type")
        if type_ is not None and type_ != "text":
            mark = _block_mark(block, type_, (*path, number))
            if mark is not None:
                found.append(mark)
    return found


def _block_mark(block: dict[str, Any], type_: str, path: tuple[str | int, ...]) -> Mark | None:
    name = text_of(block, "name") or ""
    if type_ in _ANTHROPIC_CALLS and (id_ := text_of(block, "id")):
        return Mark("call", id_, (place(path, "id"),), name, "blocks", _ANTHROPIC_CALLS[type_])
    if (type_ == "tool_result" or type_.endswith("_tool_result")) and (id_ := text_of(block, "tool_use_id")):
        return Mark("result", id_, (place(path, "tool_use_id"),), name, "blocks", type_ != "tool_result")
    return None


def raw_calls(data: Any, path: tuple[str | int, ...]) -> list[Mark]:
    """Return the calls in ``tool_calls`` and ``function_call``, as OpenAI writes them."""
    if type(data) is not dict or not ("tool_calls" in data or "function_call" in data):
        return []
    return list(_raw_calls(data, path))


def _raw_calls(data: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[Mark]:
    for number, call in enumerate(items_of(data, "tool_calls")):
        if id_ := text_of(call, "id"):
            name = text_of(call, "name") or text_of(call.get("function"), "name") or text_of(call.get("custom"), "name")
            yield Mark("call", id_, (place((*path, "tool_calls", number), "id"),), name or "", "tool")
    call = data.get("function_call")
    if name := text_of(call, "name"):
        yield Mark("call", name, (place((*path, "function_call"), "name"),), name, "function", unique=False)


def _llama_marks(data: dict[str, Any]) -> list[Mark]:
    found = []
    for number, block in enumerate(items_of(data, "blocks")):
        if text_of(block, "block_type") == "tool_call" and (id_ := text_of(block, "tool_call_id")):
            at = place(("blocks", number), "tool_call_id")
            found.append(Mark("call", id_, (at,), text_of(block, "tool_name") or "", "tool"))
    return found


def _agent_marks(data: dict[str, Any]) -> list[Mark]:
    found = []
    for number, part in enumerate(items_of(data, "contents")):
        type_, id_ = text_of(part, "type"), text_of(part, "call_id")
        if id_ and type_ == "function_call" and not (part.get("hosted") or part.get("informational_only")):
            found.append(
                Mark("call", id_, (place(("contents", number), "call_id"),), text_of(part, "name") or "", "contents")
            )
        elif id_ and type_ == "function_result":
            found.append(Mark("result", id_, (place(("contents", number), "call_id"),), "", "contents"))
    return found


def _tool_message(data: dict[str, Any]) -> list[Mark]:
    """Return the result that a whole message is."""
    if id_ := text_of(data, "tool_call_id"):
        return [Mark("result", id_, (place((), "tool_call_id"),), form="tool")]
    if id_ := text_of(data.get("additional_kwargs"), "tool_call_id"):
        return [Mark("result", id_, (place((), "additional_kwargs", "tool_call_id"),), form="tool")]
    if data["role"] == "function" and (name := text_of(data, "name")):
        return [Mark("result", name, (place((), "name"),), form="function", unique=False)]
    return []


def _has_content(data: dict[str, Any]) -> bool:
    for key in _LISTS:
        value = data.get(key)
        if isinstance(value, list):
            if any(is_content(part) for part in value):
                return True
        elif is_text(value) or (value and not isinstance(value, str)):
            return True
    return any(data.get(key) for key in _OTHER_CONTENT)


def is_content(part: Any) -> bool:
    """Return whether a part of a message is content: not a call, not a result, not empty text and not reasoning."""
    if not isinstance(part, dict):
        return is_text(part) or (part is not None and not isinstance(part, str))
    type_ = text_of(part, "type") or text_of(part, "block_type") or ""
    if type_ in _NO_CONTENT or type_.endswith("tool_result"):
        return False
    texts = [part[key] for key in ("text", "refusal") if isinstance(part.get(key), str)]
    return not texts or any(is_text(text) for text in texts)


def _item_id(data: dict[str, Any]) -> str | None:
    return text_of(data, "id") if data.get("type") == "message" else None


def _format(data: dict[str, Any], marks: list[Mark]) -> str:
    if isinstance(data.get("blocks"), list):
        return "llama_index"
    if isinstance(data.get("contents"), list):
        return "agent_framework"
    return "anthropic" if any(mark.form == "blocks" for mark in marks) else "chat"


def rule_of(marks: list[Mark]) -> Rule:
    """Return where a provider expects the results of these calls."""
    # Anthropic joins messages of one role, so the parts of a turn may be messages of their own.
    return "turn" if any(mark.form == "blocks" for mark in marks) else "next"


def chat_answers(data: dict[str, Any], calls: list[Mark], text: str) -> list[Any]:
    """Return messages with a text as the result of calls of a message."""
    if isinstance(data.get("contents"), list):
        results = [{"type": "function_result", "call_id": call.id, "result": text} for call in calls]
        return [{"type": "message", "role": "tool", "contents": results}]
    if isinstance(data.get("blocks"), list):
        return [_llama_answer(call, text) for call in calls]
    blocks = [
        {"type": "tool_result", "tool_use_id": call.id, "content": text, "is_error": True}
        for call in calls
        if call.form == "blocks"
    ]
    others = [_openai_answer(call, text) for call in calls if call.form != "blocks"]
    return [*([{"role": "user", "content": blocks}] if blocks else []), *others]


def _openai_answer(call: Mark, text: str) -> dict[str, Any]:
    if call.form == "function":
        return {"role": "function", "name": call.name, "content": text}
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def _llama_answer(call: Mark, text: str) -> dict[str, Any]:
    extra = {"tool_call_id": call.id, "name": call.name}
    return {"role": "tool", "additional_kwargs": extra, "blocks": [{"block_type": "text", "text": text}]}
