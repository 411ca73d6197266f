from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import messages_from_dict

from botwire.conversations.redaction import redact
from botwire.conversations.shapes import shape_of

from .formats import FORMATS
from .histories import history
from .test_shapes import JSON

SECRET = "Ada Lovelace 0815"
X = "[redacted]"


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", FORMATS)
def test_redacted_messages_keep_their_shape_and_lose_their_text(name):
    random = Random(name)
    for _ in range(100):
        for item in history(random, name):
            text = json.dumps(item.data).replace('"f"', '"the_tool"')
            data = redact(json.loads(text))
            shape, before = shape_of(data), shape_of(json.loads(text))
            assert (shape.role, shape.calls, shape.results, shape.ids) == (
                before.role,
                before.calls,
                before.results,
                before.ids,
            )
            assert not {"Rome", "sunny", "naïve", "quoted"} & set(
                re.findall(r"\w+", json.dumps(data, ensure_ascii=False))
            )
            assert redact(data) == data


@given(JSON, st.text(max_size=12))
@settings(deadline=None)
def test_redacting_again_changes_nothing(data, text):
    once = redact(data, text)
    assert redact(once, text) == once


@pytest.mark.parametrize(
    ("data", "redacted"),
    [
        ("secret", X),
        (12, X),
        (None, None),
        (True, True),
        (["a", 1, {"b": "c"}], [X, X, {"b": X}]),
        ({"role": "user", "content": "secret"}, {"role": "user", "content": X}),
        ({"role": "user", "name": "Ada", "content": "x"}, {"role": "user", "name": "redacted", "content": X}),
        ({"role": "tool", "tool_call_id": "a", "name": "search", "content": "x"}, {"role": "tool", "tool_call_id": "a", "name": "search", "content": X}),
        ({"event": "paid", "id": 7, "amount": 12.5, "by": {"name": "Ada", "id": 5}}, {"event": X, "id": 7, "amount": X, "by": {"name": X, "id": X}}),
        (
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "pay", "arguments": '{"to": "Ada"}'}}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "pay", "arguments": "{}"}}]},
        ),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "pay", "input": {"name": "Ada", "sum": 5, "id": "x"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "pay", "input": {"name": X, "sum": X, "id": X}}]},
        ),
        (
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x.test/ada.png"}}]},
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://redacted.invalid/"}}]},
        ),
        (
            {"type": "shell_call_output", "call_id": "a", "output": [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 1}}]},
            {"type": "shell_call_output", "call_id": "a", "output": [{"stdout": X, "stderr": X, "outcome": {"type": "exit", "exit_code": 1}}]},
        ),
        (
            {"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "f", "tool_call_id": "a", "content": {"type": "person", "name": "Ada", "age": 36}}]},
            {"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "f", "tool_call_id": "a", "content": {"type": X, "name": X, "age": X}}]},
        ),
        (
            {"kind": "response", "parts": [], "usage": {"input_tokens": 5}, "timestamp": "2026-11-30T00:00:00Z", "metadata": {"user": "Ada"}},
            {"kind": "response", "parts": [], "usage": {"input_tokens": 5}, "timestamp": "2026-11-30T00:00:00Z", "metadata": {"user": X}},
        ),
        (
            {"id": "e", "parent_id": None, "kind": "message", "message": {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "x"}]}},
            {"id": "e", "parent_id": None, "kind": "message", "message": {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": X}]}},
        ),
    ],
)  # fmt: skip
def test_redacted(data, redacted):
    assert redact(data) == redacted


def test_arguments_have_no_structure():
    arguments = {"type": "text", "name": "Ada", "id": "x", "role": "admin"}
    data = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": arguments}]}
    assert redact(data)["content"][0]["input"] == dict.fromkeys(arguments, X)


@pytest.mark.parametrize(
    ("part", "starts"),
    [
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "c2VjcmV0"}}, "iVBOR"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,c2VjcmV0"}}, "data:image/png;base64,iVBOR"),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "c2VjcmV0"}},
            "W3Jl",
        ),
        ({"type": "input_file", "file_url": "data:application/pdf;base64,c2VjcmV0"}, "data:text/plain;base64,W3Jl"),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "secret"}}, X),
        ({"kind": "binary", "media_type": "image/png", "data": "c2VjcmV0"}, "iVBOR"),
        ({"block_type": "image", "image": "c2VjcmV0"}, "iVBOR"),
        ({"data": "c2VjcmV0"}, "iVBOR"),
    ],
)
def test_images_and_files_stay_readable_without_their_content(part, starts):
    found = redact({"role": "user", "content": [part]})
    assert "c2VjcmV0" not in json.dumps(found)
    assert any(leaf.startswith(starts) for leaf in leaves(found))


def test_the_text_is_the_callers():
    assert redact({"role": "user", "content": "x"}, "removed") == {"role": "user", "content": "removed"}


def test_no_secret_stays_in_a_message_of_langchain():
    data = {
        "type": "ai",
        "data": {
            "type": "ai",
            "id": "run-1",
            "name": None,
            "content": [
                {"type": "text", "text": SECRET},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"q": SECRET}},
            ],
            "tool_calls": [{"name": "f", "args": {"q": SECRET}, "id": "a", "type": "tool_call"}],
            "invalid_tool_calls": [
                {"name": "f", "args": SECRET, "id": "b", "error": SECRET, "type": "invalid_tool_call"}
            ],
            "additional_kwargs": {
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": f'"{SECRET}"'}}],
                "x": SECRET,
            },
            "response_metadata": {"logprobs": [0.5], "model": "m", "id": SECRET},
            "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        },
    }
    found = redact(data)
    assert SECRET not in json.dumps(found)
    (message,) = messages_from_dict([found])
    assert message.tool_calls == [{"name": "f", "args": {"q": X}, "id": "a", "type": "tool_call"}]
    assert message.usage_metadata == data["data"]["usage_metadata"]


def test_langchain_reads_redacted_messages():
    random = Random(1)
    for _ in range(100):
        items = [redact(item.data) for item in history(random, "langchain")]
        assert len(messages_from_dict(items)) == len(items)
