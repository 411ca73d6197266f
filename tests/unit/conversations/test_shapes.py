from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botwire.conversations.shapes import shape_of

from .formats import FORMATS
from .histories import history

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.sampled_from(["user", "assistant", "tool", "ai"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "role",
                        "type",
                        "content",
                        "tool_calls",
                        "id",
                        "call_id",
                        "function",
                        "kind",
                        "parts",
                        "part_kind",
                        "data",
                    ),
                    *(
                        "blocks",
                        "contents",
                        "additional_kwargs",
                        "function_call",
                        "tool_call_id",
                        "tool_use_id",
                        "name",
                    ),
                ]
            ),
            inner
            | st.sampled_from(["tool_use", "function_call", "reasoning", "tool-call", "response", "AssistantMessage"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", FORMATS)
def test_every_message_of_a_history_has_its_shape(name):
    random = Random(name)
    for _ in range(200):
        for item in history(random, name):
            shape = shape_of(item.data)
            assert shape.role == item.role
            assert shape.calls == item.calls
            assert shape.results == item.results
            assert shape.joins_next == item.joins_next


@given(JSON)
def test_no_json_value_raises(data):
    shape_of(data)


@pytest.mark.parametrize(
    ("data", "role", "calls", "results"),
    [
        ({"role": "developer", "content": "x"}, "system", (), ()),
        ({"role": "critic", "content": "x"}, None, (), ()),
        ({"role": 7, "content": "x"}, None, (), ()),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, "assistant", ("f",), ()),
        ({"role": "function", "name": "f", "content": "x"}, "tool", (), ("f",)),
        ({"role": "assistant", "tool_calls": [{"id": "a"}, 7, {"id": 8}, {"id": ""}, None]}, "assistant", ("a",), ()),
        ({"type": "custom_tool_call", "call_id": "a", "input": "x"}, "assistant", ("a",), ()),
        ({"type": "custom_tool_call_output", "call_id": "a", "output": "x"}, "tool", (), ("a",)),
        ({"type": "local_shell_call_output", "id": "a", "output": "x"}, "tool", (), ("a",)),
        ({"type": "computer_call", "id": "i", "call_id": "a"}, "assistant", ("a",), ()),
        ({"type": "apply_patch_call_output", "call_id": "a", "status": "completed"}, "tool", (), ("a",)),
        ({"type": "web_search_call", "id": "ws", "status": "completed"}, "assistant", (), ()),
        ({"type": "mcp_approval_request", "id": "a"}, "assistant", ("a",), ()),
        ({"type": "mcp_approval_response", "approval_request_id": "a"}, "tool", (), ("a",)),
        ({"type": "compaction", "encrypted_content": "x"}, None, (), ()),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "id": "a"},
                    {"type": "web_search_tool_result", "tool_use_id": "a"},
                ],
            },
            "assistant",
            ("a",),
            ("a",),
        ),
        ({"type": "human", "data": {"content": "x"}}, "user", (), ()),
        ({"type": "chat", "data": {"content": "x", "role": "user"}}, "user", (), ()),
        (
            {"type": "AIMessageChunk", "data": {"content": "", "tool_call_chunks": [{"id": "a"}]}},
            "assistant",
            ("a",),
            (),
        ),
        ({"type": "ai", "data": {"content": "", "invalid_tool_calls": [{"id": "a"}]}}, "assistant", ("a",), ()),
        ({"type": "remove", "data": {"id": "a"}}, None, (), ()),
        (
            {"kind": "request", "parts": [{"part_kind": "retry-prompt", "content": "again", "tool_call_id": "a"}]},
            "user",
            (),
            (),
        ),
        ({"kind": "request", "parts": []}, "user", (), ()),
        ({"id": "e1", "parent_id": None, "kind": "message", "message": {"kind": "request", "parts": []}}, None, (), ()),
        ("text", None, (), ()),
        (None, None, (), ()),
        ([{"role": "user"}], None, (), ()),
    ],
)
def test_shapes(data, role, calls, results):
    shape = shape_of(data)
    assert (shape.role, shape.calls, shape.results) == (role, calls, results)


def test_ids_of_responses_are_those_of_items_and_calls():
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
    assert shape_of(item).ids == ("fc_1", "call_1")
    assert shape_of({"type": "message", "role": "assistant", "id": "msg_1", "content": []}).ids == ("msg_1",)
    assert shape_of({"type": "item_reference", "id": "msg_1"}).ids == ()
    assert shape_of({"type": "local_shell_call_output", "id": "call_1", "output": ""}).ids == ()


def test_a_call_that_langchain_stores_several_times_is_one():
    call = {"name": "f", "args": {}, "id": "a"}
    data = {
        "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}],
        "tool_calls": [call],
        "additional_kwargs": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
    }
    (mark,) = shape_of({"type": "ai", "data": data}).marks
    assert len(mark.places) == 3


@pytest.mark.parametrize(
    ("data", "is_empty"),
    [
        ({"role": "assistant", "content": ""}, True),
        ({"role": "assistant", "content": None}, True),
        ({"role": "assistant", "content": []}, True),
        ({"role": "assistant"}, True),
        ({"role": "assistant", "content": " \n"}, True),
        ({"role": "assistant", "content": [{"type": "text", "text": ""}]}, True),
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}, True),
        ({"role": "assistant", "content": None, "refusal": "no"}, False),
        ({"role": "assistant", "content": None, "audio": {"id": "a"}}, False),
        ({"role": "assistant", "content": [{"type": "image"}]}, False),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}, False),
        ({"role": "user", "content": ""}, False),
        ({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ""}]}, True),
        ({"type": "ai", "data": {"content": ""}}, True),
        ({"kind": "response", "parts": []}, True),
        ({"kind": "response", "parts": [{"part_kind": "thinking", "content": "hm"}]}, True),
        ({"type": "AssistantMessage", "content": "", "source": "a"}, True),
        ({"role": "assistant", "blocks": [{"block_type": "text", "text": ""}], "additional_kwargs": {}}, True),
        ({"type": "message", "role": "assistant", "contents": []}, True),
    ],
)
def test_empty_turns(data, is_empty):
    assert shape_of(data).is_empty is is_empty
