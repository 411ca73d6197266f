"""How each format writes messages, with what a test knows of them. Nothing here uses `botwire.conversations`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Item(NamedTuple):
    """A message, and what it is."""

    data: Any
    role: str | None
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    joins_next: bool = False


class Format:
    """Writes the parts of a conversation."""

    name = ""

    def __init__(self):
        self.number = 0

    def new_id(self):
        self.number += 1
        return f"id{self.number}"

    def system(self, text):
        return [Item({"role": "system", "content": text}, "system")]

    def user(self, text):
        return [Item({"role": "user", "content": text}, "user")]

    def assistant(self, text):
        return [Item({"role": "assistant", "content": text}, "assistant")]

    def calls(self, ids, text):
        raise NotImplementedError

    def results(self, ids, text):
        raise NotImplementedError


class OpenAIChat(Format):
    name = "openai-chat"

    def user(self, text):
        self.number += 1
        if self.number % 3 == 0:
            parts = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
            ]
            return [Item({"role": "user", "content": parts}, "user")]
        return super().user(text)

    def calls(self, ids, text):
        calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}} for id_ in ids]
        return [Item({"role": "assistant", "content": text or None, "tool_calls": calls}, "assistant", tuple(ids))]

    def results(self, ids, text):
        return [Item({"role": "tool", "tool_call_id": id_, "content": text}, "tool", results=(id_,)) for id_ in ids]


class Anthropic(Format):
    name = "anthropic"

    def calls(self, ids, text):
        blocks = [{"type": "tool_use", "id": id_, "name": "f", "input": {"a": 1}} for id_ in ids]
        texts = [{"type": "text", "text": text}] if text else []
        return [Item({"role": "assistant", "content": texts + blocks}, "assistant", tuple(ids))]

    def results(self, ids, text):
        blocks = [{"type": "tool_result", "tool_use_id": id_, "content": text} for id_ in ids]
        if len(text) % 5 == 0:  # a message with results and the user's next words
            return [
                Item({"role": "user", "content": [*blocks, {"type": "text", "text": text}]}, "user", results=tuple(ids))
            ]
        return [Item({"role": "user", "content": blocks}, "tool", results=tuple(ids))]


class Responses(Format):
    name = "openai-responses"

    def assistant(self, text):
        data = {"type": "message", "role": "assistant", "id": f"msg_{self.new_id()}", "status": "completed"}
        data["content"] = [{"type": "output_text", "text": text, "annotations": []}]
        return [*self.reasoning(text), Item(data, "assistant")]

    def reasoning(self, text):
        if len(text) % 2:
            return []
        item = {"type": "reasoning", "id": f"rs_{self.new_id()}", "summary": [{"type": "summary_text", "text": text}]}
        return [Item(item, "assistant", joins_next=True)]

    def calls(self, ids, text):
        items = [
            Item(
                {"type": "function_call", "id": f"fc_{self.new_id()}", "call_id": id_, "name": "f", "arguments": "{}"},
                "assistant",
                (id_,),
            )
            for id_ in ids
        ]
        return [*self.reasoning(text), *items]

    def results(self, ids, text):
        return [
            Item({"type": "function_call_output", "call_id": id_, "output": text}, "tool", results=(id_,))
            for id_ in ids
        ]


class LangChain(Format):
    name = "langchain"

    def message(self, type_, text, **fields):
        return {"type": type_, "data": {"content": text, "type": type_, **fields}}

    def system(self, text):
        return [Item(self.message("system", text), "system")]

    def user(self, text):
        return [Item(self.message("human", text, additional_kwargs={}, response_metadata={}), "user")]

    def assistant(self, text):
        return [Item(self.message("ai", text, tool_calls=[], invalid_tool_calls=[]), "assistant")]

    def calls(self, ids, text):
        calls = [{"name": "f", "args": {"a": 1}, "id": id_, "type": "tool_call"} for id_ in ids]
        if len(text) % 2:  # as LangChain stores calls of Anthropic: in the content too
            content = [{"type": "tool_use", "id": id_, "name": "f", "input": {"a": 1}} for id_ in ids]
            return [Item(self.message("ai", content, tool_calls=calls), "assistant", tuple(ids))]
        raw = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
        data = self.message("ai", text, tool_calls=calls, additional_kwargs={"tool_calls": raw})
        return [Item(data, "assistant", tuple(ids))]

    def results(self, ids, text):
        return [
            Item(self.message("tool", text, tool_call_id=id_, status="success"), "tool", results=(id_,)) for id_ in ids
        ]


class PydanticAI(Format):
    name = "pydantic-ai"
    time = "2026-11-30T12:00:00Z"

    def request(self, role, *parts, results=()):
        return [Item({"kind": "request", "parts": list(parts)}, role, results=tuple(results))]

    def response(self, *parts, calls=()):
        data = {
            "kind": "response",
            "parts": list(parts),
            "usage": {"input_tokens": 3},
            "model_name": "m",
            "timestamp": self.time,
        }
        return [Item(data, "assistant", tuple(calls))]

    def system(self, text):
        return self.request("system", {"part_kind": "system-prompt", "content": text, "timestamp": self.time})

    def user(self, text):
        return self.request("user", {"part_kind": "user-prompt", "content": text, "timestamp": self.time})

    def assistant(self, text):
        return self.response({"part_kind": "text", "content": text})

    def calls(self, ids, text):
        parts = [{"part_kind": "tool-call", "tool_name": "f", "args": '{"a":1}', "tool_call_id": id_} for id_ in ids]
        return self.response(*parts, calls=ids)

    def results(self, ids, text):
        kind = "tool-return" if len(text) % 4 else "retry-prompt"
        parts = [{"part_kind": kind, "tool_name": "f", "content": text, "tool_call_id": id_} for id_ in ids]
        return self.request("tool", *parts, results=ids)


class AutoGen(Format):
    name = "autogen"

    def system(self, text):
        return [Item({"content": text, "type": "SystemMessage"}, "system")]

    def user(self, text):
        return [Item({"content": text, "source": "user", "type": "UserMessage"}, "user")]

    def assistant(self, text):
        return [Item({"content": text, "thought": None, "source": "a", "type": "AssistantMessage"}, "assistant")]

    def calls(self, ids, text):
        calls = [{"id": id_, "arguments": "{}", "name": "f"} for id_ in ids]
        data = {"content": calls, "thought": text or None, "source": "a", "type": "AssistantMessage"}
        return [Item(data, "assistant", tuple(ids))]

    def results(self, ids, text):
        results = [{"content": text, "name": "f", "call_id": id_, "is_error": False} for id_ in ids]
        return [Item({"content": results, "type": "FunctionExecutionResultMessage"}, "tool", results=tuple(ids))]


class LlamaIndex(Format):
    name = "llama-index"

    def message(self, role, text, **extra):
        return {"role": role, "additional_kwargs": extra, "blocks": [{"block_type": "text", "text": text}]}

    def system(self, text):
        return [Item(self.message("system", text), "system")]

    def user(self, text):
        return [Item(self.message("user", text), "user")]

    def assistant(self, text):
        return [Item(self.message("assistant", text), "assistant")]

    def calls(self, ids, text):
        if len(text) % 2:
            blocks = [{"block_type": "tool_call", "tool_call_id": i, "tool_name": "f", "tool_kwargs": {}} for i in ids]
            return [Item({"role": "assistant", "additional_kwargs": {}, "blocks": blocks}, "assistant", tuple(ids))]
        calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
        return [Item(self.message("assistant", text, tool_calls=calls), "assistant", tuple(ids))]

    def results(self, ids, text):
        return [Item(self.message("tool", text, tool_call_id=id_), "tool", results=(id_,)) for id_ in ids]


class AgentFramework(Format):
    name = "agent-framework"

    def message(self, role, *contents):
        return {"type": "message", "role": role, "contents": list(contents), "additional_properties": {}}

    def text(self, role, text):
        return [Item(self.message(role, {"type": "text", "text": text, "additional_properties": {}}), role)]

    def system(self, text):
        return self.text("system", text)

    def user(self, text):
        return self.text("user", text)

    def assistant(self, text):
        return self.text("assistant", text)

    def calls(self, ids, text):
        parts = [{"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}"} for id_ in ids]
        return [Item(self.message("assistant", *parts), "assistant", tuple(ids))]

    def results(self, ids, text):
        return [
            Item(
                self.message("tool", {"type": "function_result", "call_id": id_, "result": text}),
                "tool",
                results=(id_,),
            )
            for id_ in ids
        ]


class Plain(Format):
    """JSON values of no format, some with a role."""

    name = "plain"

    def user(self, text):
        self.number += 1
        if self.number % 3:
            return super().user(text)
        return [
            Item(
                [text, {"number": self.number, "text": json.dumps(text)}, {"text": text}, text, 7][self.number % 5],
                None,
            )
        ]

    def calls(self, ids, text):
        return self.assistant(text or "…")

    def results(self, ids, text):
        return self.user(text)


FORMATS = {
    cls.name: cls
    for cls in (*(OpenAIChat, Responses, Anthropic, LangChain, PydanticAI, AutoGen, LlamaIndex, AgentFramework, Plain),)
}
