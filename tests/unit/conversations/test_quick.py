"""What is read at once is what the slower functions find for each message."""

from __future__ import annotations

import math
from random import Random

import pytest

from botwire.conversations.context import Picker
from botwire.conversations.quick import quick_marks
from botwire.conversations.shapes import shape_of
from botwire.conversations.tokens import estimate_tokens

from .formats import FORMATS
from .histories import case, expected, history, messages, pick

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
UNUSUAL = [
    None,
    7,
    "user",
    [{"role": "user", "content": "x"}],
    {},
    {"role": "user"},
    {"role": "user", "content": ["x"]},
    {"role": ["user"], "content": "x"},
    {"role": "user", "content": "x", "name": "Ada"},
    {"role": "user", "content": "data:image/png;base64,aaaa"},
    {"role": "tool", "content": "x"},
    {"role": "tool", "tool_call_id": "", "content": "x"},
    {"role": "tool", "tool_call_id": 7, "content": "x"},
    {"role": "tool", "tool_call_id": "c", "content": "data:image/png;base64,aaaa"},
    {"role": "tool", "tool_call_id": "c", "content": None},
    {"role": "assistant", "content": None},
    {"role": "assistant", "content": "é" * 9, "tool_calls": [CALL]},
    {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "d"}]},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "assistant", "content": None, "tool_calls": "none"},
    {"role": "assistant", "content": None, "tool_calls": [7]},
    {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": None}]},
    {"role": "assistant", "content": None, "tool_calls": [{**CALL, "type": "image"}]},
    {"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 1}]},
    {"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]},
    {"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": {"name": 7, "arguments": "{}"}}]},
    {"role": "assistant", "content": "x", "refusal": "no"},
]


def agree(data):
    """Return whether a message is recognized, and check what is found then."""
    (size,), (mark,) = quick_marks([data], math.inf)
    if mark is None:
        return False
    shape = shape_of(data)
    assert size == estimate_tokens(data), data
    assert shape.calls == (tuple(mark) if isinstance(mark, list) else ()), data
    assert shape.results == ((mark,) if isinstance(mark, str) else ()), data
    assert shape.role == ("user" if mark is True else "tool" if isinstance(mark, str) else "assistant"), data
    assert not shape.joins_next
    return True


@pytest.mark.parametrize("data", UNUSUAL, ids=str)
def test_unusual_messages_are_left_to_the_slower_functions_or_agree(data):
    agree(data)


@pytest.mark.parametrize("name", FORMATS)
def test_messages_of_each_format_agree(name):
    random = Random(name)
    found = [agree(item.data) for _ in range(200) for item in history(random, name)]
    if name == "openai-chat":
        assert sum(found) > 0.9 * len(found)


def test_a_page_ends_where_the_room_does():
    page = [{"role": "user", "content": "x" * 40}] * 10
    sizes, marks = quick_marks(page, 30)
    assert (sizes, marks) == ([14, 14, 14], [True] * 3)


@pytest.mark.parametrize("start", ["user", "any"])
def test_a_page_gives_the_same_as_its_messages_one_by_one(start):
    random = Random(start)
    for _ in range(500):
        made = case(random, "openai-chat")
        made.start = start
        first, _ = expected(made)
        if first is not None:
            assert pick(made, 100)[0] == pick(made, 1)[0]


def test_a_counter_is_not_called_for_messages_beyond_the_limit():
    counted, random = [], Random(2)
    items = [item for _ in range(100) for item in history(random, "openai-chat", faults=0)]
    picker = Picker(10, lambda data: counted.append(data) or 1)
    picker.add(messages(items))
    assert 10 < len(counted) < 40 < len(items)
    assert picker.is_full
