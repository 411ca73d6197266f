"""What a context reads: few pages, nothing twice, and never half of a change."""

from __future__ import annotations

import asyncio
import threading

import pytest

from botwire import AsyncMemory, Conflict, InvalidArgument, Memory
from botwire.queries import GetContext, ListMessages
from botwire.store import Store


class Watched(Store):
    """A store that notes each read, and lets others write after it."""

    def __init__(self, memory):
        self._store = memory.bridge.store
        self.reads = []
        self.rows = 0
        self.after_read = lambda query: None

    address = "watched:"

    def read(self, namespace, query):
        answer = self._store.read(namespace, query)
        self.reads.append(query)
        if isinstance(query, GetContext):
            self.rows += len(answer.messages)
        self.after_read(query)
        return answer

    def write(self, namespace, operations, *, idempotency_key=None):
        return self._store.write(namespace, operations, idempotency_key=idempotency_key)

    def changes(self, namespace, query):
        return self._store.changes(namespace, query)

    def close(self):
        pass


@pytest.fixture
def direct(tmp_path):
    """Another client of the same file, whose reads are not noted."""
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        yield memory


@pytest.fixture
def store(direct):
    return Watched(direct)


@pytest.fixture
def history(store):
    with Memory("n", store=store) as memory:
        yield memory.history("s")


def turn(number, words=1):
    return [
        {"role": "user", "content": f"question {number}" + " word" * words},
        {"role": "assistant", "content": f"answer {number}" + " word" * words},
    ]


def talk(history, turns, words=1):
    history.append([message for number in range(turns) for message in turn(number, words)])


def one(_):
    return 1


def test_a_short_session_is_one_read(history, store):
    talk(history, 20)
    assert history.context(10_000) == [message.data for message in history.messages()]
    assert [type(query) for query in store.reads] == [GetContext, ListMessages]


def test_a_missing_session_has_an_empty_context(history):
    assert history.context() == history.context(1) == []
    picked = history.context_messages()
    assert (picked.system, picked.summary, picked.messages, picked.data) == ([], [], [], [])
    assert (picked.tokens, picked.summarized, picked.version, picked.last) == (0, 0, 0, 0)


def test_a_session_of_any_length_is_returned_without_a_limit(history, store):
    talk(history, 5_000)
    assert history.context() == [message.data for message in history.messages()]
    assert len(store.reads) <= 12
    assert store.rows == 10_000


@pytest.mark.parametrize("most", [2, 63, 64, 65, 700, 5_001])
def test_pages_follow_the_budget(history, store, most):
    talk(history, 5_000)
    picked = history.context_messages(most, count=one)
    assert [message.seq for message in picked.messages] == list(range(10_001 - most + most % 2, 10_001))
    assert picked.data == [message.data for message in picked.messages]
    assert picked.tokens == most - most % 2
    assert store.rows <= 1.2 * most + 128
    befores = [query.before for query in store.reads]
    assert len(befores) == len(set(befores)) <= 5


def test_a_context_of_the_same_size_is_one_read(history, store):
    talk(history, 1_000)
    first = history.context_messages(2_000)
    assert len(first.messages) > 150
    store.reads.clear()
    store.rows = 0
    history.append(turn(1_000))
    again = history.context_messages(2_000)
    assert [item.seq for item in again.messages] == list(range(again.messages[0].seq, 2_003))
    assert len(store.reads) == 1
    assert store.rows < 1.1 * len(again.messages)
    history.context(100)
    assert store.rows < 1.1 * len(again.messages) + 40


def test_messages_that_become_longer_need_more_pages(history, store):
    talk(history, 400, words=1)
    talk(history, 100, words=50)
    talk(history, 30, words=1)
    picked = history.context_messages(3_000)
    assert picked.messages[-1].seq == 1_060
    assert 2_800 < picked.tokens <= 3_000
    assert [message.seq for message in picked.messages] == list(range(picked.messages[0].seq, 1_061))
    assert store.rows < 400


def test_system_messages_at_the_start_stay(history, store):
    rules = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "No lists."}]
    history.append(rules)
    talk(history, 100)
    found = history.context(10, count=one)
    assert found == [*rules, *(item.data for item in history.messages(last=8))]
    assert sum(type(query) is GetContext for query in store.reads) <= 2
    assert history.context(10, count=one, system="drop") == [item.data for item in history.messages(last=10)]
    assert history.context(system="drop")[0] == turn(0)[0]


def test_many_system_messages_are_all_found(history):
    rules = [{"role": "system", "content": f"Rule {number}"} for number in range(200)]
    history.append(rules)
    assert history.context() == rules
    talk(history, 1)
    assert history.context() == [*rules, *turn(0)]
    assert history.context(202, count=one) == [*rules, *turn(0)]
    with pytest.raises(InvalidArgument) as error:
        history.context(201, count=one)
    assert error.value.details["minimum"] == 202


def test_later_system_messages_are_messages_or_dropped(history):
    talk(history, 1)
    history.append([{"role": "system", "content": "The user is in Rome."}])
    history.append(turn(1))
    assert [item["role"] for item in history.context()] == ["user", "assistant", "system", "user", "assistant"]
    assert [item["role"] for item in history.context(system="drop")] == ["user", "assistant"] * 2


def test_a_session_that_begins_with_a_dropped_message_is_one_read(history, store):
    history.append([{"role": "system", "content": "Be brief."}])
    talk(history, 3)
    assert len(history.context(system="drop")) == 6
    assert len(store.reads) == 1


def test_a_summary_is_read_instead_of_what_it_covers(history, store):
    history.append([{"role": "system", "content": "Be brief."}])
    talk(history, 1_000)
    summary = [{"role": "user", "content": "Summary: we counted."}]
    version = history.summarize(upto=1_991, summary=summary)
    store.reads.clear()
    picked = history.context_messages(1_000, count=one)
    assert [item.seq for item in picked.system] == [1]
    assert picked.summary == summary
    assert [item.seq for item in picked.messages] == list(range(1_992, 2_002))
    assert (picked.tokens, picked.summarized, picked.version, picked.last) == (12, 1_991, version, 2_001)
    assert len(store.reads) == 1


def test_a_summary_of_everything_is_all_there_is(history, store):
    talk(history, 10)
    history.summarize(upto=20, summary=["all"])
    store.reads.clear()
    assert history.context() == ["all"]
    assert len(store.reads) == 1


def test_a_turn_that_began_before_the_summary_ended_is_whole(history):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history.append([*turn(0), {"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": [call]}])
    history.append([{"role": "tool", "tool_call_id": "c", "content": "done"}, {"role": "assistant", "content": "ok"}])
    history.summarize(upto=4, summary=[{"role": "system", "content": "sum"}])
    picked = history.context_messages()
    assert [item.seq for item in picked.messages] == [3, 4, 5, 6]


def test_count_is_called_once_for_each_message(history):
    talk(history, 300)
    seen = []

    def count(data):
        seen.append(data["content"])
        return 1

    assert len(history.context(400, count=count)) == 400
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("inf"), "7", None, True])
def test_a_counter_must_return_a_number(history, tokens):
    talk(history, 1)
    with pytest.raises(InvalidArgument, match="count returned"):
        history.context(10, count=lambda _: tokens)


def test_a_counter_that_raises_is_named(history):
    talk(history, 1)
    with pytest.raises(InvalidArgument, match=r"message 2.*KeyError.*model") as error:
        history.context(10, count=lambda data: data["model"])
    assert isinstance(error.value.__cause__, KeyError)


def test_an_edit_between_two_pages_starts_again(history, store, direct):
    talk(history, 500)
    other = direct.history("s")

    def edit(_):
        store.after_read = lambda _: None
        other.edit(500, {"role": "assistant", "content": "newer"})

    store.after_read = edit
    picked = history.context_messages(700, count=one)
    assert {"role": "assistant", "content": "newer"} in picked.data
    assert picked.version == other.info().version


def test_system_messages_of_two_versions_are_never_mixed(history, store, direct):
    def replace(text):
        direct.history("s").replace([{"role": "system", "content": text}] * 100)

    def replace_once(_):
        store.after_read = lambda _: None
        replace("new")

    replace("old")
    store.after_read = replace_once
    assert history.context() == [{"role": "system", "content": "new"}] * 100


def test_a_session_that_always_changes_is_given_up(history, store, direct):
    talk(history, 500)
    store.after_read = lambda _: direct.history("s").edit(1, "x")
    with pytest.raises(Conflict, match="100 times"):
        history.context(700, count=one)


def test_an_append_between_two_pages_does_not_matter(history, store, direct):
    talk(history, 500)
    store.after_read = lambda _: direct.history("s").append(["later"])
    picked = history.context_messages(700, count=one)
    assert picked.messages[-1].seq == picked.last == 1_000
    assert len(picked.messages) == 700


def test_a_slow_counter_does_not_block_the_loop(store):
    threads = set()

    def count(_):
        threads.add(threading.current_thread())
        return 1

    async def read():
        async with AsyncMemory("n", store=store) as memory:
            history = memory.history("s")
            await history.append(["a", "b"])
            return await history.context(10, count=count)

    assert asyncio.run(read()) == ["a", "b"]
    assert threading.current_thread() not in threads
