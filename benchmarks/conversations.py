"""Conversations with tools, in the formats of frameworks: a question, a call, its result and an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LONG = "x" * 160


def _plain(number: int) -> list[Any]:
    return [
        {"role": "user", "content": f"question {number} {_LONG}"},
        {"role": "assistant", "content": f"answer {number} {_LONG}"},
    ]


def _with_tools(number: int, *used: Any) -> list[Any]:
    question, answer = _plain(number)
    return [question, *used, answer]


def _chat(number: int) -> list[Any]:
    call = {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    return _with_tools(
        number,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {number} {_LONG}"},
    )


def _responses(number: int) -> list[Any]:
    return _with_tools(
        number,
        {"type": "reasoning", "id": f"rs_{number}", "summary": [{"type": "summary_text", "text": "I need the tool"}]},
        {"type": "function_call", "id": f"fc_{number}", "call_id": f"c{number}", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": f"c{number}", "output": f"result {number} {_LONG}"},
    )


def _anthropic(number: int) -> list[Any]:
    result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": f"result {number} {_LONG}"}
    return _with_tools(
        number,
        {"role": "assistant", "content": [{"type": "tool_use", "id": f"toolu_{number}", "name": "f", "input": {}}]},
        {"role": "user", "content": [result]},
    )


def _langchain(number: int) -> list[Any]:
    def message(type_: str, text: str, **fields: Any) -> dict[str, Any]:
        return {"type": type_, "data": {"content": text, "type": type_, **fields}}

    call = {"name": "f", "args": {"a": 1}, "id": f"call_{number}", "type": "tool_call"}
    return [
        message("human", f"question {number} {_LONG}", additional_kwargs={}, response_metadata={}),
        message("ai", "", tool_calls=[call], invalid_tool_calls=[]),
        message("tool", f"result {number} {_LONG}", tool_call_id=call["id"], status="success"),
        message("ai", f"answer {number} {_LONG}", tool_calls=[], invalid_tool_calls=[]),
    ]


def _pydantic_ai(number: int) -> list[Any]:
    def request(**part: Any) -> dict[str, Any]:
        return {"kind": "request", "parts": [{**part, "timestamp": "2026-11-30T12:00:00Z"}]}

    def response(**part: Any) -> dict[str, Any]:
        return {"kind": "response", "parts": [part], "usage": {"input_tokens": 3}, "model_name": "m"}

    tool = {"tool_name": "f", "tool_call_id": f"call_{number}"}
    return [
        request(part_kind="user-prompt", content=f"question {number} {_LONG}"),
        response(part_kind="tool-call", args='{"a": 1}', **tool),
        request(part_kind="tool-return", content=f"result {number} {_LONG}", **tool),
        response(part_kind="text", content=f"answer {number} {_LONG}"),
    ]


FORMATS: dict[str, Callable[[int], list[Any]]] = {
    "plain messages": _plain,
    "OpenAI chat": _chat,
    "OpenAI Responses": _responses,
    "Anthropic": _anthropic,
    "LangChain": _langchain,
    "Pydantic AI": _pydantic_ai,
}
"""By name: returns the messages of a turn."""
