"""Measures are what the functions of shapes and tokens find for each message."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest

from botwire.conversations import measures
from botwire.conversations.context import Picker
from botwire.conversations.measures import measures_of
from botwire.conversations.shapes import shape_of
from botwire.conversations.tokens import estimate_tokens

from .formats import FORMATS, Item
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
    """Check what is found of a message, when it is first measured and when its measure is remembered."""
    (text,) = [message.stored for message in messages([Item(data, None)])]
    for _ in range(2):
        (found,) = measures_of([text])
        shape = shape_of(data)
        assert found.tokens == estimate_tokens(data), data
        assert (found.role, found.calls, found.results, found.joins_next) == (
            shape.role,
            tuple(map(hash, shape.calls)),
            tuple(map(hash, shape.results)),
            shape.joins_next,
        ), data


@pytest.fixture(autouse=True)
def _nothing_is_known():
    measures.known.clear()


@pytest.mark.parametrize("data", UNUSUAL, ids=str)
def test_unusual_messages_agree(data):
    agree(data)


@pytest.mark.parametrize("name", FORMATS)
def test_messages_of_each_format_agree(name):
    random = Random(name)
    for item in [item for _ in range(200) for item in history(random, name)]:
        agree(item.data)


def test_known_and_new_messages_keep_their_order():
    texts = [f'{{"role":"user","content":"{"x" * 4 * number}"}}' for number in range(20)]
    measures_of(texts[::3])
    assert [measure.tokens for measure in measures_of(texts)] == [4 + number for number in range(20)]


def test_a_known_message_is_not_decoded_again(monkeypatch):
    text = '{"role":"user","content":"hi"}'
    first = measures_of([text])
    monkeypatch.setattr(measures, "decode_all", None)
    assert measures_of([text, text]) == first * 2


def test_the_measures_that_are_remembered_have_a_limit(monkeypatch):
    """Those that were used lately stay."""
    monkeypatch.setattr(measures, "_MOST", 20)
    texts = [f'{{"role":"user","content":"{number}"}}' for number in range(100)]
    for text in texts:
        assert [measure.role for measure in measures_of([text, texts[0]])] == ["user"] * 2
        assert len(measures.known.lately) + len(measures.known.before) <= 20
    assert hash(texts[0]) in measures.known.lately
    assert hash(texts[50]) not in {**measures.known.lately, **measures.known.before}
    assert len(measures_of(texts)) == 100


def test_many_ids_are_not_remembered():
    calls = ", ".join(
        f'{{"id":"c{number}","type":"function","function":{{"name":"f","arguments":"x"}}}}' for number in range(50)
    )
    (found,) = measures_of([f'{{"role":"assistant","content":null,"tool_calls":[{calls}]}}'])
    assert len(found.calls) == 50
    assert not measures.known.lately


def test_nothing_of_a_message_is_kept():
    texts = [
        '{"role":"tool","tool_call_id":"a-secret-id","content":"a secret"}',
        '{"role":"user","content":"a secret"}',
    ]
    measures_of(texts)
    assert measures.known.lately
    assert "secret" not in repr(vars(measures.known))


def test_nothing_is_remembered_without_random_hashes():
    code = """
from botwire.conversations import measures
(found,) = measures.measures_of(['{"role":"tool","tool_call_id":"c","content":"x"}'])
assert found.results == ("c",)
assert not measures.known.lately
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONHASHSEED": "0"})


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
