"""Threads that expire after idle time."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

from botwire import InvalidArgument, Memory
from botwire.adapters.langgraph import BotWireSaver

MakeSaver = Callable[..., BotWireSaver]

TTL = 3.0
LONG = "a word that makes the value too long for its checkpoint " * 40


class State(TypedDict):
    messages: Annotated[list, add_messages]


def at(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def graph(saver: BotWireSaver) -> Any:
    builder = StateGraph(State)
    builder.add_node("model", lambda state: {"messages": [AIMessage(f"{len(state['messages'])} {LONG}")]})
    builder.add_edge(START, "model")
    return builder.compile(checkpointer=saver)


def say(saver: BotWireSaver, thread: str, text: str) -> list[str]:
    state = graph(saver).invoke({"messages": [("user", text + LONG)]}, at(thread))
    return [message.content.replace(LONG, "").strip() for message in state["messages"]]


@pytest.fixture
def saver(address: str) -> MakeSaver:
    namespace = f"test-{uuid.uuid4()}"

    def make(**arguments: Any) -> BotWireSaver:
        return BotWireSaver(namespace, address, **arguments)

    return make


def keys(saver: BotWireSaver) -> list[str]:
    return list(Memory(saver._memory.namespace, saver._memory.address).keys())


def is_gone(saver: BotWireSaver, thread: str) -> bool:
    """Whether every read finds nothing, blocking and awaited."""
    newest = saver.get_tuple(at(thread))
    listed = list(saver.list(at(thread)))
    assert (asyncio.run(saver.aget_tuple(at(thread))) is None) == (newest is None) == (not listed)
    assert any(item.config["configurable"]["thread_id"] == thread for item in saver.list(None)) == bool(listed)
    return newest is None


def test_an_idle_thread_expires_as_a_whole(saver: MakeSaver) -> None:
    """Old values live as long as the thread, and nothing of it comes back."""
    first = saver(ttl=timedelta(seconds=TTL))
    for number in range(3):
        assert len(say(first, "a", f"{number}")) == 2 * number + 2
        time.sleep(0.6 * TTL)
    assert not is_gone(saver(ttl=TTL), "a")
    config = first.get_tuple(at("a")).config
    time.sleep(TTL)
    for one in (first, saver(ttl=TTL), saver()):  # one without a ttl too
        assert is_gone(one, "a")
        assert one.get_tuple(config) is None
        one.copy_thread("a", "copy")
        assert is_gone(one, "copy")
    assert say(first, "a", "again") == ["again", "1"]
    assert len(list(saver().list(at("a")))) == 3  # of the new turn alone
    assert all(
        item.config["configurable"]["checkpoint_id"] > config["configurable"]["checkpoint_id"]
        for item in first.list(at("a"))
    )


def test_a_saver_without_a_ttl_begins_an_expired_thread_anew(saver: MakeSaver) -> None:
    say(saver(ttl=0.5), "a", "first")
    time.sleep(0.6)
    other = saver()
    assert say(other, "a", "second") == ["second", "1"]
    time.sleep(0.6)
    assert is_gone(other, "a")  # the thread keeps its time to live


def test_a_running_graph_that_outlives_its_thread_is_complete(saver: MakeSaver) -> None:
    """It stores all values again."""
    checkpointer = saver(ttl=0.5)

    def slow(state: State) -> State:
        time.sleep(0.8)
        return {"messages": [AIMessage(str(len(state["messages"])))]}

    def after(state: State) -> State:
        checkpointer._expiry._ttl = 600  # so that the test need not be fast
        return slow(state)

    builder = StateGraph(State)
    builder.add_node("slow", slow)
    builder.add_node("after", after)
    builder.add_edge(START, "slow")
    builder.add_edge("slow", "after")
    builder.compile(checkpointer=checkpointer).invoke({"messages": [("user", LONG)]}, at("a"))
    found = saver().get_tuple(at("a"))
    assert [message.content for message in found.checkpoint["channel_values"]["messages"]] == [LONG, "1", "2"]


def test_other_threads_remove_what_has_expired(saver: MakeSaver) -> None:
    for number in range(6):
        say(saver(ttl=0.3), f"idle-{number}", "hello")
    kept = saver()
    say(kept, "kept", "hello")
    time.sleep(0.4)
    busy = saver(ttl=60)
    for number in range(24):
        say(busy, "busy", f"{number}")
    left = {key.split("/")[1] for key in keys(busy)}
    assert left == {"busy", "kept"}
    assert not is_gone(kept, "kept")


def test_a_ttl_counts_from_the_next_checkpoint_of_an_old_thread(saver: MakeSaver) -> None:
    say(saver(), "a", "first")
    time.sleep(0.6)
    assert len(say(saver(ttl=0.5), "a", "second")) == 4
    time.sleep(0.6)
    assert is_gone(saver(), "a")


def test_a_copy_expires_too_and_a_deleted_thread_has_no_ttl(saver: MakeSaver) -> None:
    one, plain = saver(ttl=TTL), saver()
    say(one, "a", "hello")
    plain.copy_thread("a", "b")
    one.delete_thread("a")
    assert {key.split("/")[1] for key in keys(one)} == {"b"}
    say(plain, "a", "for ever")
    assert not is_gone(plain, "b")
    time.sleep(TTL)
    assert is_gone(plain, "b")
    assert not is_gone(one, "a")


def test_a_ttl_config_has_minutes_and_may_refresh_on_read(saver: MakeSaver) -> None:
    minutes = TTL / 60
    reading, plain = (saver(ttl={"default_ttl": minutes, "refresh_on_read": refresh}) for refresh in (True, False))
    say(reading, "read", "hello")
    say(plain, "idle", "hello")
    for _ in range(4):
        time.sleep(TTL / 3)
        reading.get_tuple(at("read"))
        plain.get_tuple(at("idle"))
    assert not is_gone(plain, "read")
    assert is_gone(plain, "idle")


@pytest.mark.parametrize("wrong", [0, -1, True, "60", {"default_ttl": 0}, {"strategy": "delete"}])
def test_a_wrong_ttl_is_refused(wrong: Any, saver: MakeSaver) -> None:
    with pytest.raises(InvalidArgument, match="ttl"):
        saver(ttl=wrong)


def test_writers_of_one_thread_at_once_expire_it_once(saver: MakeSaver) -> None:
    """Two savers that take turns meet each other's renewals."""
    one, other = saver(ttl=TTL), saver(ttl=2 * TTL)
    for number in range(6):
        assert len(say(one if number % 2 else other, "a", "hello")) == 2 * number + 2
