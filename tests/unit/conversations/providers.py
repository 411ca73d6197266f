"""What providers accept, checked on the messages themselves. Nothing here uses `botwire.conversations`."""

from __future__ import annotations

from itertools import groupby
from typing import Any


def refusals(name: str, data: list[Any]) -> list[str]:
    """Return why the provider of a format refuses a conversation."""
    if name == "openai-responses":
        return list(_responses(data))
    if name == "plain":
        return list(_chat([item for item in data if isinstance(item, dict) and "role" in item], "openai-chat"))
    return list((_turns if name in {"anthropic", "pydantic-ai"} else _chat)(data, name))


def _responses(data):
    ids, calls, results = set(), set(), set()
    for number, item in enumerate(data):
        type_ = item.get("type")
        if "id" in item:
            if item["id"] in ids:
                yield f"duplicate item {item['id']}"
            ids.add(item["id"])
        if type_ == "function_call":
            if item["call_id"] in calls:
                yield f"duplicate call {item['call_id']}"
            calls.add(item["call_id"])
        elif type_ == "function_call_output":
            if item["call_id"] not in calls:
                yield f"no call for {item['call_id']}"
            if item["call_id"] in results:
                yield f"second output for {item['call_id']}"
            results.add(item["call_id"])
        elif type_ == "reasoning":
            after = data[number + 1] if number + 1 < len(data) else {}
            if after.get("type") not in {"message", "reasoning", "function_call"} or after.get("role") == "user":
                yield "reasoning without its item"
    for id_ in calls - results:
        yield f"no output for {id_}"


def _chat(data, name):
    """Check as OpenAI does: after calls come their results, and nothing else."""
    waiting: set[str] = set()
    used: set[str] = set()
    for item in data:
        role, calls, results, empty = read(name, item)
        if role == "tool":
            for id_ in results:
                if id_ not in waiting:
                    yield f"no call directly before the result {id_}"
                waiting.discard(id_)
            continue
        for id_ in waiting:
            yield f"no result directly after the call {id_}"
        waiting = set(calls)
        if len(waiting) < len(calls) or used & waiting:
            yield f"duplicate call in {calls}"
        used |= waiting
        if empty:
            yield "empty message of the assistant"
    for id_ in waiting:
        yield f"no result for {id_}"


def _turns(data, name):
    """Check as Anthropic and Pydantic AI do: messages of one side are one turn, and the next turn has the results of its calls."""
    sides = groupby(data, lambda item: read(name, item)[0] == "assistant")
    waiting, used = [], set()
    for is_assistant, messages in sides:
        turn = list(messages)
        items = [read(name, item) for item in turn]
        if is_assistant:
            calls = [id_ for item in items for id_ in item[1]]
            if len(set(calls)) < len(calls) or used & set(calls):
                yield f"duplicate call in {calls}"
            used |= set(calls)
            if any(item[3] for item in items):
                yield "empty message of the assistant"
            waiting = calls
        else:
            results = [id_ for item in items for id_ in item[2]]
            if name == "anthropic" and _has_late_results(turn):
                yield "other content before a result"
            if sorted(results) != sorted(waiting):
                yield f"calls {waiting}, results {results}"
            waiting = []
    if waiting:
        yield f"no results for {waiting}"


def _has_late_results(items: list[dict]) -> bool:
    """Return whether the results are not the first content of a turn, as Anthropic requires."""
    has_other = False
    for item in items:
        for block in item["content"] if isinstance(item["content"], list) else [item["content"]]:
            is_result = isinstance(block, dict) and block["type"] == "tool_result"
            if is_result and has_other:
                return True
            has_other = has_other or not is_result
    return False


def read(name, item):
    """Return role, calls, results, and whether it is an empty message of the assistant."""
    calls, results = READERS[name](item)
    role = _role(name, item)
    if not calls and not results and role == "assistant":
        return role, calls, results, not _texts(item)
    return role, calls, results, False


def _role(name, item):
    if name == "langchain":
        return {"human": "user", "ai": "assistant"}.get(item["type"], item["type"])
    if name == "autogen":
        return {"AssistantMessage": "assistant", "FunctionExecutionResultMessage": "tool"}.get(item["type"], "user")
    if name == "pydantic-ai":
        return {"response": "assistant", "request": "user"}[item["kind"]]
    return item["role"]


def _texts(item) -> str:
    """Return all text of a message."""
    if isinstance(item, list):
        return "".join(map(_texts, item))
    if isinstance(item, dict):
        inner = item.get("data", item)
        keys = ("content", "text", "blocks", "contents", "parts")
        return "".join(_texts(inner[key]) for key in keys if key in inner)
    return item.strip() if isinstance(item, str) else ""


def _ids(parts, **wanted):
    parts = parts if isinstance(parts, list) else []
    return [part[key] for part in parts if isinstance(part, dict) for key in [wanted.get(_type(part))] if key]


def _type(part):
    return (part.get("type") or part.get("part_kind") or part.get("block_type") or "").replace("-", "_")


def _openai(item):
    return [call["id"] for call in item.get("tool_calls", ())], [item["tool_call_id"]] if item["role"] == "tool" else []


def _anthropic(item):
    return _ids(item["content"], tool_use="id"), _ids(item["content"], tool_result="tool_use_id")


def _langchain(item):
    data = item["data"]
    calls = [call["id"] for call in data.get("tool_calls", ())]
    assert set(_ids(data["content"], tool_use="id")) <= set(calls)
    raw = data.get("additional_kwargs", {}).get("tool_calls")
    assert raw is None or [call["id"] for call in raw] == calls
    return calls, [data["tool_call_id"]] if item["type"] == "tool" else []


def _pydantic_ai(item):
    found = _ids(item["parts"], tool_call="tool_call_id"), _ids(
        item["parts"], tool_return="tool_call_id", retry_prompt="tool_call_id"
    )
    return found


def _autogen(item):
    parts = item["content"] if isinstance(item["content"], list) else []
    key = "id" if item["type"] == "AssistantMessage" else "call_id"
    ids = [part[key] for part in parts]
    return (ids, []) if key == "id" else ([], ids)


def _llama_index(item):
    calls = [call["id"] for call in item["additional_kwargs"].get("tool_calls", ())]
    calls += _ids(item["blocks"], tool_call="tool_call_id")
    return calls, [item["additional_kwargs"]["tool_call_id"]] if item["role"] == "tool" else []


def _agent_framework(item):
    return _ids(item["contents"], function_call="call_id"), _ids(item["contents"], function_result="call_id")


READERS = {
    "openai-chat": _openai,
    "anthropic": _anthropic,
    "langchain": _langchain,
    "pydantic-ai": _pydantic_ai,
    "autogen": _autogen,
    "llama-index": _llama_index,
    "agent-framework": _agent_framework,
}
