"""Items of OpenAI Responses, also of the OpenAI Agents SDK."""

from __future__ import annotations

from typing import Any

from ..marks import Mark, Role, Shape, place, shape, text_of

_OUTPUTS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "tool_search_call": "tool_search_output",
    "program": "program_output",
    "mcp_approval_request": "mcp_approval_response",
}
"""The type of the result of each type of call."""
_RESULTS = set(_OUTPUTS.values())
_NOT_CANCELLABLE = {"computer_call", "program"}
"""Calls whose result is something that only their tool can create."""
_ROLES: dict[str, Role | None] = {
    **dict.fromkeys(_OUTPUTS, "assistant"),
    **dict.fromkeys(_RESULTS, "tool"),
    "reasoning": "assistant",
    "mcp_list_tools": "assistant",
    "mcp_call": "assistant",
    "web_search_call": "assistant",
    "file_search_call": "assistant",
    "code_interpreter_call": "assistant",
    "image_generation_call": "assistant",
    "additional_tools": "system",
    "configuration_update": "system",
    "compaction": None,  # replaces everything before it, so a context may begin with it
    "item_reference": None,
}


def is_item(type_: Any) -> bool:
    """Return whether a type is one of an item without a role."""
    return isinstance(type_, str) and (type_ in _ROLES or type_.endswith(("_call", "_call_output")))


def item_shape(data: dict[str, Any]) -> Shape:
    """Return the shape of an item without a role."""
    type_ = data["type"]
    mark = _call(data, type_) if type_ in _OUTPUTS else _result(data, type_)
    # A reference has the id of another item, and the output of a local shell that of its call.
    is_own = type_ != "item_reference" and not (
        mark is not None and mark.places[0].id_path == ("id",) and mark.kind == "result"
    )
    return shape(
        "responses",
        _ROLES[type_] if type_ in _ROLES else "tool" if type_.endswith("_output") else "assistant",
        () if mark is None else (mark,),
        has_content=True,
        rule="later",
        item_id=text_of(data, "id") if is_own and type_ != "mcp_approval_request" else None,
        joins_next=type_ == "reasoning",
    )


def _call(data: dict[str, Any], type_: str) -> Mark | None:
    key = "id" if type_ == "mcp_approval_request" else "call_id"
    id_ = text_of(data, key)
    if id_ is None or data.get("execution") == "server":
        return None
    return Mark("call", id_, (place((), key),), text_of(data, "name") or "", type_, type_ in _NOT_CANCELLABLE)


def _result(data: dict[str, Any], type_: str) -> Mark | None:
    if (type_ not in _RESULTS and not type_.endswith("_call_output")) or data.get("execution") == "server":
        return None
    keys = {"mcp_approval_response": ("approval_request_id",), "local_shell_call_output": ("call_id", "id")}
    for key in keys.get(type_, ("call_id",)):
        if id_ := text_of(data, key):
            return Mark("result", id_, (place((), key),), form=type_)
    return None


def item_answers(data: dict[str, Any], calls: list[Mark], text: str) -> list[Any]:
    """Return items with a text as the result of calls."""
    del data
    return [{"type": _OUTPUTS[call.form], **_output(call, text)} for call in calls]


def _output(call: Mark, text: str) -> dict[str, Any]:
    outputs: dict[str, dict[str, Any]] = {
        "local_shell_call": {"id": call.id, "output": text},
        "shell_call": {
            "call_id": call.id,
            "output": [{"stdout": "", "stderr": text, "outcome": {"type": "exit", "exit_code": 1}}],
        },
        "apply_patch_call": {"call_id": call.id, "status": "failed", "output": text},
        "tool_search_call": {"call_id": call.id, "execution": "client", "tools": []},
        "mcp_approval_request": {"approval_request_id": call.id, "approve": False, "reason": text},
    }
    return outputs.get(call.form, {"call_id": call.id, "output": text})
