"""Contexts: the newest messages that fit, valid for every provider."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botwire.conversations.context import Picker
from botwire.conversations.tokens import estimate_tokens
from botwire.errors import InvalidArgument

from .formats import FORMATS, Item
from .histories import WRONG, Case, case, expected, history, messages, pick, run

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def user(text="hello"):
    return {"role": "user", "content": text}


def assistant(text="hi"):
    return {"role": "assistant", "content": text}


def call(id_="c"):
    return {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": id_}]}


def result(id_="c"):
    return {"role": "tool", "tool_call_id": id_, "content": "done"}


def stored(*data):
    return messages([Item(item, None) for item in data])


def picked(*data, page=64, **options):
    """Return the seqs of the context of a session, with one token for each message."""
    options.setdefault("count", lambda _: 1)
    picker, all_messages = Picker(**options), stored(*data)
    while all_messages and not picker.is_full:
        picker.add(all_messages[-page:])
        del all_messages[-page:]
    return [message.seq for message in picker.finish().messages]


@pytest.mark.parametrize("name", FORMATS)
def test_contexts_of_random_histories_follow_the_rules(name):
    found = run(name, 400)
    assert {kind: found[kind] for kind in WRONG} == dict.fromkeys(WRONG, 0)
    assert found["contexts"] > 50 < found["refused"] or name == "plain"


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(FORMATS)), st.integers(1, 5))
@settings(deadline=None, max_examples=300)
def test_the_minimum_that_an_error_names_is_exact(random, name, page):
    made = case(random, name)
    first, least = expected(made)
    if first is None:
        with pytest.raises(InvalidArgument, match=f"Pass at least {least}$"):
            pick(made, page)
        made.max_tokens = least
        assert pick(made, page)[0].tokens == least
    elif least > 1:
        made.max_tokens = least - 1
        with pytest.raises(InvalidArgument, match=f"Pass at least {least}$"):
            pick(made, page)


@given(st.randoms(use_true_random=False), st.integers(1, 200), st.integers(1, 9), st.sampled_from(["user", "any"]))
@settings(deadline=None, max_examples=300)
def test_pages_of_plain_messages_give_the_same_as_single_messages(random, max_tokens, page, start):
    roles = random.choices(["user", "assistant"], k=random.randrange(12))
    items = [Item({"role": role, "content": random.choice(["", "é" * 9, "a" * 30, '\n"\\'])}, role) for role in roles]
    if random.random() < 0.3:
        reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
        items.insert(random.randrange(len(items) + 1), Item(reasoning, "assistant", joins_next=True))
    items = history(random, "openai-chat", turns=1) + items + history(random, "openai-chat", turns=1)
    made = Case(
        items, messages(items), [estimate_tokens(item.data) for item in items], max_tokens=max_tokens, start=start
    )
    first, least = expected(made)
    for count in (None, estimate_tokens):
        picker, end = Picker(max_tokens, count, start=start), len(items)
        while end > 0 and not picker.is_full:
            picker.add(made.messages[max(end - page, 0) : end])
            end -= page
        if first is None:
            with pytest.raises(InvalidArgument, match=f"Pass at least {least}$"):
                picker.finish()
        else:
            found = picker.finish()
            assert found.messages == made.messages[first:]
            assert found.data == [message.data for message in found.messages]
            assert found.tokens == sum(made.tokens[first:])


def test_the_newest_messages_that_fit_are_picked():
    data = [user(), assistant()] * 5
    assert picked(*data, max_tokens=5) == [7, 8, 9, 10]
    assert picked(*data, max_tokens=100) == picked(*data) == list(range(1, 11))


def test_a_call_is_not_separated_from_its_results():
    data = [user(), call("a"), user("another user"), result("a"), user("last")]
    assert picked(*data, max_tokens=4) == [5]
    assert picked(*data, max_tokens=5) == [1, 2, 3, 4, 5]


def test_a_result_belongs_to_the_nearest_call_with_its_id():
    data = [user(), call(), result(), user(), call(), result(), assistant()]
    assert picked(*data, max_tokens=6) == [4, 5, 6, 7]


def test_a_result_in_the_message_of_its_call_belongs_to_it():
    hosted = [{"type": "server_tool_use", "id": "c"}, {"type": "web_search_tool_result", "tool_use_id": "c"}]
    data = [user(), call(), result(), user(), {"role": "assistant", "content": hosted}]
    assert picked(*data, max_tokens=2) == [4, 5]


def test_a_result_without_a_call_separates_nothing():
    data = [user(), assistant(), user(), result("nowhere"), assistant(), user()]
    assert picked(*data, max_tokens=5, page=1) == [3, 4, 5, 6]


def test_without_a_message_of_the_user_it_begins_anywhere_but_at_a_result():
    assert picked(assistant(), call(), result(), assistant(), max_tokens=2) == [4]
    assert picked(assistant(), call(), result(), assistant(), max_tokens=3) == [2, 3, 4]
    assert picked(result(), result(), max_tokens=1) == [2]


def test_start_any_begins_at_any_message_but_a_result():
    data = [user(), assistant(), call(), result(), assistant("newest")]
    assert picked(*data, max_tokens=2, start="any") == [5]
    assert picked(*data, max_tokens=4, start="any") == [2, 3, 4, 5]


def test_a_reasoning_item_stays_with_the_next():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    data = [user(), reasoning, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    assert picked(*data, max_tokens=2, start="any") == [2, 3]
    with pytest.raises(InvalidArgument, match="needs 2"):
        picked(*data, max_tokens=1, start="any")


def test_a_reasoning_item_before_a_page_of_plain_messages_stays_with_the_first():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "x" * 99}]}
    data = [reasoning, assistant(), assistant(), user()]
    assert picked(*data, page=3, count=None, max_tokens=20, start="any") == [3, 4]


def test_it_stops_as_soon_as_no_older_message_matters():
    many = stored(*[user(), assistant()] * 5_000)
    for count, picked_count in (None, 8), (lambda _: 6, 8), (lambda _: 5, 10):
        picker = Picker(50, count)
        picker.add(many[-20:])
        assert picker.is_full
        assert len(picker.finish().messages) == picked_count
    counted = []
    picker = Picker(3, lambda data: counted.append(data) or 1)
    picker.add(many[-20:])
    assert picker.is_full
    assert len(counted) == 4


def test_it_reads_on_while_a_call_may_be_older():
    picker = Picker(3, lambda _: 1)
    picker.add(stored(*[user()] * 9, user(), result(), user())[-3:])
    assert not picker.is_full
    picker.add(stored(*[user()] * 8, call())[-2:])
    assert picker.is_full
    assert [message.seq for message in picker.finish().messages] == [12]


def test_it_reads_on_in_the_page_in_which_the_budget_ends():
    data = [user(), call("a"), assistant(), user(), result("a"), assistant()]
    for page in range(1, 7):
        assert picked(*data, max_tokens=3, page=page, start="any") == [6]


def test_the_first_message_of_the_session_makes_it_full():
    picker = Picker()
    picker.add(stored(user(), assistant()))
    assert picker.is_full


def test_a_context_begins_after_the_summary():
    summary = [{"role": "system", "content": "what happened before"}]
    for upto, count in (0, None), (2, None), (0, lambda _: 1), (2, lambda _: 1):
        picker = Picker(100, count, summary=summary, upto=upto)
        picker.add(stored(user(), assistant(), user(), assistant())[2:])
        assert picker.is_full == bool(upto)
        picker.add(stored(user(), assistant()), summarized=True)
        assert picker.is_full
        found = picker.finish()
        assert [message.seq for message in found.messages] == [3, 4]
        assert found.tokens == (3 if count else 20)


def test_a_context_reaches_into_the_summary_only_for_a_pair_or_a_start():
    everything = stored(user(), assistant(), user(), call(), result(), assistant())
    picker = Picker(100, lambda _: 1, summary=[{"role": "system", "content": "…"}], upto=4)
    picker.add(everything[4:])
    picker.add(everything[:4], summarized=True)
    assert [message.seq for message in picker.finish().messages] == [3, 4, 5, 6]


def test_after_a_summary_of_the_user_an_assistant_may_begin():
    picker = Picker(100, lambda _: 1, summary=[user("the summary")], upto=1)
    picker.add(stored(user(), assistant(), user())[1:])
    assert [message.seq for message in picker.finish().messages] == [2, 3]


def test_a_summary_of_everything_is_the_whole_context():
    picker = Picker(5, lambda _: 1, summary=[user("the summary")])
    picker.add(stored(user(), assistant()), summarized=True)
    assert picker.is_full
    assert picker.finish().messages == []


def test_system_messages_count_and_are_not_picked_again():
    everything = stored({"role": "system", "content": "be brief"}, user(), assistant())
    picker = Picker(10, lambda _: 1, system=everything[:1])
    picker.add(everything)
    assert picker.is_full
    found = picker.finish()
    assert ([message.seq for message in found.messages], found.tokens) == ([2, 3], 3)


def test_no_messages_are_an_empty_context():
    assert Picker(5).finish().messages == []
    with pytest.raises(InvalidArgument, match=r"needs 9.*Pass at least 9"):
        Picker(5, lambda _: 9, summary=["all"]).finish()


def test_the_error_says_what_needs_how_many_tokens():
    picker = Picker(50, lambda data: len(data["content"]), summary=[user("x" * 40)])
    picker.add(stored(user("y" * 91)))
    with pytest.raises(InvalidArgument) as caught:
        picker.finish()
    assert str(caught.value) == (
        "max_tokens is 50; the smallest context of this session needs 131: the summary and system messages need 40, "
        "the newest turn 91. Pass at least 131"
    )


@pytest.mark.parametrize("max_tokens", [0, -1, True, 1.5, "100", float("nan")])
def test_a_wrong_limit_is_refused(max_tokens):
    with pytest.raises(InvalidArgument, match="max_tokens is an int of at least 1"):
        Picker(max_tokens)


def test_a_wrong_start_is_refused():
    with pytest.raises(InvalidArgument, match='start is "user" or "any", not \'assistant\''):
        Picker(start="assistant")


@pytest.mark.parametrize("returned", [None, -1, float("nan"), float("inf"), "7", True])
def test_a_wrong_count_is_refused(returned):
    with pytest.raises(InvalidArgument, match=r"count returned .* for message 3"):
        Picker(5, lambda _: returned).add(stored(user(), user(), user()))


def test_an_error_of_the_count_names_the_message():
    def count(data):
        raise KeyError("content")

    with pytest.raises(InvalidArgument, match="count failed for message 1: KeyError: 'content'") as caught:
        Picker(5, count).add(stored({"text": "x"}))
    assert isinstance(caught.value.__cause__, KeyError)


def test_each_message_is_counted_once():
    counted = Counter()
    picker, data = Picker(7, lambda item: counted.update([item["content"]]) or 1), [user(str(n)) for n in range(20)]
    everything = stored(*data)
    while not picker.is_full:
        picker.add(everything[-3:])
        del everything[-3:]
    assert len(picker.finish().messages) == 7
    assert set(counted.values()) == {1}


def test_counts_may_be_fractions():
    data = [user(), assistant()]
    assert picked(*data, count=lambda _: 0.5, max_tokens=1) == [1, 2]
    with pytest.raises(InvalidArgument, match=r"needs 1\.5: .* Pass at least 2"):
        picked(user(), count=lambda _: 1.5, max_tokens=1)
