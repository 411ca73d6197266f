"""Problems and repairs of conversations. `providers` checks them without the code under test."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botwire.conversations.health import CANCELLED, problems, repair
from botwire.errors import InvalidArgument

from .formats import FORMATS, Item
from .histories import history, messages
from .providers import refusals
from .test_shapes import JSON


def stored(*data):
    return messages([Item(item, None) for item in data])


def kinds(*data):
    return [(problem.kind, problem.seq) for problem in problems(stored(*data))]


def mended(*data, policy="cancel"):
    """Return the data of a session after its repair, which must be complete."""
    before = stored(*data)
    found = repair(before, policy)
    if found is None:
        return list(data)
    after = [*data[: found.after], *(item for _, item in found.messages)]
    assert problems(stored(*after)) == []
    by_id = {message.id: message.seq for message in before}
    kept = [by_id[id_] for id_, _ in found.messages if id_ is not None]
    assert len(set(kept)) == len(kept)
    assert all(seq > found.after for seq in kept)
    return after


def user(text="hello"):
    return {"role": "user", "content": text}


def assistant(text="hi"):
    return {"role": "assistant", "content": text}


def call(*ids, text=None):
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def result(id_="a", text="done"):
    return {"role": "tool", "tool_call_id": id_, "content": text}


@pytest.mark.parametrize("policy", ["cancel", "drop"])
@pytest.mark.parametrize("name", FORMATS)
def test_repaired_conversations_are_accepted_by_their_provider(name, policy):
    random, broken = Random(f"{name} {policy}"), 0
    for _ in range(300):
        items = history(random, name, faults=0.8)
        data = [item.data for item in items]
        assert bool(refusals(name, data)) == bool(kinds(*data)), data
        broken += bool(kinds(*data))
        assert refusals(name, mended(*data, policy=policy)) == []
    assert broken > 60 or name == "plain"


@given(st.lists(JSON, max_size=8), st.sampled_from(["cancel", "drop"]))
@settings(deadline=None, max_examples=500)
def test_any_json_can_be_repaired(data, policy):
    after = mended(*data, policy=policy)
    assert repair(stored(*after), policy) is None


@given(st.randoms(use_true_random=False), st.sampled_from(["cancel", "drop"]))
@settings(deadline=None, max_examples=300)
def test_a_mixture_of_formats_can_be_repaired(random, policy):
    names = [name for name in FORMATS if name != "plain"]
    items = [item for _ in range(3) for item in history(random, random.choice(names), turns=2, faults=0.5)]
    random.shuffle(items)
    mended(*(item.data for item in items[:12]), policy=policy)


def test_a_valid_conversation_has_no_problems():
    data = [user(), call("a", "b"), result("b"), result("a"), assistant()]
    assert kinds(*data) == []
    assert repair(stored(*data)) is None


def test_a_call_without_a_result_is_cancelled_where_it_is():
    data = [user(), call("a", "b"), result("a"), user("are you there?")]
    assert problems(stored(*data))[0].detail == "tool call 'b' of 'f' has no result"
    assert mended(*data) == [*data[:3], result("b", CANCELLED), data[3]]
    found = repair(stored(*data))
    assert found.after == 3
    assert [id_ for id_, _ in found.messages] == [None, "m4"]
    assert [(problem.kind, problem.seq, problem.id, problem.action) for problem in found.done] == [
        ("call_without_result", 2, "b", "inserted")
    ]


def test_a_call_without_a_result_is_dropped():
    data = [user(), call("a", "b"), result("a"), user("are you there?")]
    assert mended(*data, policy="drop") == [user(), call("a"), result("a"), user("are you there?")]
    assert mended(user(), call("a"), policy="drop") == [user()]
    assert mended(user(), call("a", text="one moment"), policy="drop") == [user(), assistant("one moment")]


def test_a_late_result_moves_to_its_call_and_keeps_its_id():
    data = [user(), call("a"), user("hurry"), result("a"), assistant()]
    assert kinds(*data) == [("call_without_result", 2), ("result_without_call", 4)]
    for policy in ("cancel", "drop"):
        assert mended(*data, policy=policy) == [user(), call("a"), result("a"), user("hurry"), assistant()]
    found = repair(stored(*data))
    assert [id_ for id_, _ in found.messages] == ["m4", "m3", "m5"]
    assert {problem.action for problem in found.done} == {"moved"}


def test_a_late_result_among_other_parts_moves_alone():
    block = {"type": "tool_result", "tool_use_id": "a", "content": "done"}
    data = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
        user("hurry"),
        {"role": "user", "content": [block, {"type": "text", "text": "here"}]},
    ]
    after = mended(*data)
    assert after == [
        data[0],
        {"role": "user", "content": [block]},
        data[1],
        {"role": "user", "content": [{"type": "text", "text": "here"}]},
    ]


def test_a_result_without_a_call_is_removed():
    assert kinds(user(), result("x"), assistant()) == [("result_without_call", 2)]
    assert mended(user(), result("x"), assistant()) == [user(), assistant()]


def test_a_result_before_its_call_is_removed():
    data = [user(), result("a"), call("a"), assistant()]
    assert kinds(*data) == [("result_without_call", 2), ("call_without_result", 3)]
    assert mended(*data) == [user(), call("a"), result("a", CANCELLED), assistant()]


def test_a_second_result_is_removed():
    data = [user(), call("a"), result("a", "one"), result("a", "two")]
    assert problems(stored(*data))[0].detail == "tool call 'a' has a result already, in message 3"
    assert kinds(*data) == [("duplicate_id", 4)]
    assert mended(*data) == data[:3]


def test_a_call_that_was_stored_twice_is_removed():
    data = [user(), {**call("a"), "tool_calls": call("a", "a")["tool_calls"]}, result("a")]
    assert kinds(*data) == [("duplicate_id", 2)]
    assert mended(*data) == [user(), call("a"), result("a")]


def test_a_later_call_with_the_same_id_gets_another_and_keeps_its_result():
    data = [user(), call("call_0"), result("call_0", "one"), user(), call("call_0"), result("call_0", "two")]
    assert kinds(*data) == [("duplicate_id", 5)]
    assert mended(*data) == [*data[:4], call("call_0_2"), result("call_0_2", "two")]
    found = repair(stored(*data))
    assert [id_ for id_, _ in found.messages] == ["m5", "m6"]
    assert [problem.action for problem in found.done] == ["renamed"]


def test_new_ids_are_short_enough_for_every_provider():
    long = "x" * 64
    after = mended(user(), call(long), result(long), user(), call(long), result(long))
    ids = [item["tool_calls"][0]["id"] for item in after if "tool_calls" in item]
    assert len(set(ids)) == 2
    assert max(map(len, ids)) <= 64


def test_a_late_result_of_a_renamed_call_is_not_lost():
    data = [user(), call("a"), result("a", "one"), call("a"), user(), result("a", "two")]
    assert mended(*data) == [*data[:3], call("a_2"), result("a_2", "two"), user()]


def test_repeated_items_of_responses_are_removed():
    item = {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "x"}]}
    assert kinds(user(), item, item) == [("duplicate_id", 3)]
    assert mended(user(), item, item) == [user(), item]


def test_empty_turns_are_removed():
    assert kinds(user(), assistant(""), user()) == [("empty_turn", 2)]
    assert mended(user(), assistant(""), user("again")) == [user(), user("again")]


def test_a_reasoning_item_without_the_next_is_removed():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    output = {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"}
    assert kinds(user(), reasoning) == [("empty_turn", 2)]
    assert mended(user(), reasoning, output, policy="drop") == [user()]
    assert len(mended(user(), reasoning, output)) == 4


def test_several_reasoning_items_without_the_next_are_found_at_once():
    def reasoning(number):
        return {"type": "reasoning", "id": f"rs_{number}", "summary": []}

    assert kinds(*map(reasoning, range(3)), user()) == [("empty_turn", seq) for seq in (1, 2, 3)]
    assert kinds(*map(reasoning, range(3)), assistant()) == []


def test_a_message_that_is_a_result_and_has_one_moves_as_a_whole():
    both = {
        "role": "tool",
        "tool_call_id": "a",
        "content": [{"type": "tool_result", "tool_use_id": "b", "content": "x"}],
    }
    assert mended(user(), call("a"), user(), both)[2]["tool_call_id"] == "a"


def test_results_of_responses_may_come_later():
    output = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    data = [user(), output, assistant(), user(), {"type": "function_call_output", "call_id": "a", "output": "x"}]
    assert kinds(*data) == []


def test_calls_in_several_messages_of_one_turn_are_answered_after_it():
    def use(id_):
        return {"role": "assistant", "content": [{"type": "tool_use", "id": id_, "name": "f", "input": {}}]}

    data = [
        user(),
        use("a"),
        use("b"),
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]},
    ]
    assert kinds(*data) == [("call_without_result", 3)]
    block = {"type": "tool_result", "tool_use_id": "b", "content": CANCELLED, "is_error": True}
    assert mended(*data) == [*data, {"role": "user", "content": [block]}]


def test_a_result_is_inserted_after_the_turn():
    def use(id_):
        return {"role": "assistant", "content": [{"type": "tool_use", "id": id_, "name": "f", "input": {}}]}

    found = repair(stored(user(), use("a"), use("b"), user()))
    assert found.after == 3
    assert [item["content"][0]["tool_use_id"] for _, item in found.messages[:2]] == ["a", "b"]


def test_a_message_without_any_part_left_is_removed():
    data = [
        {"type": "UserMessage", "content": "x", "source": "user"},
        {
            "type": "FunctionExecutionResultMessage",
            "content": [{"content": "x", "name": "f", "call_id": "a", "is_error": False}],
        },
    ]
    assert mended(*data) == data[:1]
    assert [problem.kind for problem in repair(stored(user(), call("a")), "drop").done] == ["call_without_result"]


def test_a_call_that_a_function_hides_is_found():
    hidden = {"type": "function_call", "call_id": "f", "name": "f", "arguments": "{}"}
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    assert kinds(hidden, old, {"role": "function", "name": "f", "content": "x"}) == [("call_without_result", 1)]


def test_a_call_of_the_provider_without_a_result_is_removed():
    text = {"type": "text", "text": "I search"}
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    assert kinds(user(), {"role": "assistant", "content": [text, use, found]}) == []
    data = [user(), {"role": "assistant", "content": [text, use]}, user()]
    assert mended(*data) == [user(), {"role": "assistant", "content": [text]}, user()]


def test_calls_of_functions_have_no_ids():
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    done = {"role": "function", "name": "f", "content": "x"}
    assert kinds(user(), old, done, user(), old, done) == []
    assert mended(user(), old, user()) == [user(), old, {**done, "content": CANCELLED}, user()]
    assert mended(user(), old, user(), policy="drop") == [user(), user()]


def test_langchain_loses_a_call_in_every_place_that_has_it():
    data = {
        "content": [{"type": "text", "text": "hm"}, {"type": "tool_use", "id": "a", "name": "f", "input": {}}],
        "tool_calls": [{"name": "f", "args": {}, "id": "a"}],
        "additional_kwargs": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
    }
    (after,) = mended({"type": "ai", "data": data}, policy="drop")
    assert after == {"type": "ai", "data": {"content": data["content"][:1], "tool_calls": [], "additional_kwargs": {}}}


@pytest.mark.parametrize(
    ("item", "answer"),
    [
        ({"type": "custom_tool_call", "call_id": "a", "input": "x"}, {"type": "custom_tool_call_output", "call_id": "a", "output": CANCELLED}),
        ({"type": "local_shell_call", "call_id": "a", "action": {}}, {"type": "local_shell_call_output", "id": "a", "output": CANCELLED}),
        (
            {"type": "apply_patch_call", "call_id": "a", "operation": {}},
            {"type": "apply_patch_call_output", "call_id": "a", "status": "failed", "output": CANCELLED},
        ),
        ({"type": "mcp_approval_request", "id": "a"}, {"type": "mcp_approval_response", "approval_request_id": "a", "approve": False, "reason": CANCELLED}),
        ({"type": "computer_call", "id": "i", "call_id": "a"}, None),
        ({"type": "tool_search_call", "call_id": "a"}, {"type": "tool_search_output", "call_id": "a", "execution": "client", "tools": []}),
    ],
)  # fmt: skip
def test_items_of_responses_are_cancelled_in_their_own_way(item, answer):
    assert mended(user(), item) == ([user(), item, answer] if answer else [user()])


def test_unknown_data_is_left_alone():
    data = [{"event": "tool", "id": 1}, "text", None, {"event": "tool", "id": 1}]
    assert kinds(*data) == []
    assert kinds(call("a"), {"event": "noted"}, result("a")) == []


def test_no_message_is_changed_in_place():
    data = [user(), call("a", "b"), result("a"), call("a"), result("a")]
    before, copy = stored(*data), json.dumps(data)
    repair(before, "drop")
    assert json.dumps([message.data for message in before]) == copy


@pytest.mark.parametrize("policy", ["delete", None, ""])
def test_another_policy_is_refused(policy):
    with pytest.raises(InvalidArgument, match='policy is "cancel" or "drop", not'):
        repair([], policy)
