"""Two workers run turns with tools on one thread, and one is killed at each step of its turn.

Afterwards the thread goes on, a model that refuses what providers refuse accepts its messages, and every turn that was acknowledged is
in it, or in its history where LangGraph lets the later of two runs win.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph

from botwire import InvalidArgument, InvalidValue, Memory
from botwire.adapters.langgraph import BotWireSaver, amend_thread, mend_thread
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at

AT: Any = {"configurable": {"thread_id": "thread"}}


class Texts(TypedDict):
    messages: str


class Refused(Exception):
    """A provider refuses the conversation."""


def check(messages: list[Any]) -> None:
    """Raise `Refused` unless the results of all calls follow them at once, as providers require."""
    expected: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in expected:
                raise Refused("a result without a call")
            expected.remove(message.tool_call_id)
        elif expected:
            raise Refused("a call without a result")
        elif isinstance(message, AIMessage):
            expected = {call["id"] for call in message.tool_calls}
    if expected:
        raise Refused("a call without a result at the end")


class StrictModel(BaseChatModel):
    """A model that asks for two tools in each turn."""

    def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        check(messages)
        if isinstance(messages[-1], HumanMessage):
            calls = [{"name": "find", "args": {"what": what}, "id": uuid.uuid4().hex} for what in ("one", "two")]
            answer = AIMessage("", tool_calls=calls)
        else:
            answer = AIMessage("Done.")
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def bind_tools(self, *_: Any, **__: Any) -> StrictModel:
        return self

    @property
    def _llm_type(self) -> str:
        return "strict"


@tool
def find(what: str) -> str:
    """Find something."""
    return f"found {what}"


def agent_at(store: Any) -> Any:
    return create_agent(StrictModel(), [find], checkpointer=BotWireSaver(store=store))


def say(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


def turn(address: str, text: str, acknowledged: Path, strike: Strike | None = None) -> None:
    """One turn, which is noted when LangGraph has returned its answer; with LangGraph's way to go on after a crash."""
    agent = agent_at(store_at(address, strike))
    for _ in range(50):
        try:
            if agent.get_state(AT).next:
                agent.invoke(None, AT)
            agent.invoke(say(text), AT, durability="sync")
        except Refused:  # the other worker is in the middle of a turn
            mend_thread(agent, AT)
        else:
            note(acknowledged, text)
            return
    raise AssertionError("no turn succeeds")


def texts(messages: list[Any]) -> set[str]:
    return {message.content for message in messages if isinstance(message, HumanMessage)}


def verify(address: str, acknowledged: Path) -> None:
    agent = agent_at(store_at(address))
    if agent.get_state(AT).next:
        try:
            agent.invoke(None, AT)
        except Refused:
            assert mend_thread(agent, AT)
    mend_thread(agent, AT)
    final = agent.invoke(say("after"), AT)["messages"]
    check(final)
    assert [message.content for message in final[-5:]] == ["after", "", "found one", "found two", "Done."]
    states = [state.values.get("messages", []) for state in agent.get_state_history(AT)]
    noted = set(acknowledged.read_text().split()) if acknowledged.exists() else set()
    assert noted <= set().union(*map(texts, states))


def writes_of_a_turn(tmp_path: Path) -> tuple[int, int]:
    """Return the fewest writes of a turn and the most: the writes of a task are stored with the checkpoint that follows, or alone."""
    store = store_at(f"sqlite:///{tmp_path}/counted.db")
    agent = agent_at(store)
    agent.invoke(say("first"), AT, durability="sync")
    checkpoints = len(list(agent.get_state_history(AT)))
    with_tasks = len(Memory("langgraph-checkpoints", store=store).list_keys("checkpoint/"))
    assert 5 <= checkpoints < with_tasks
    return checkpoints, with_tasks


def second_turn(address: str, text: str, acknowledged: Path, strike: Strike | None = None) -> None:
    turn(address, "first", acknowledged)
    turn(address, text, acknowledged, strike)


def verify_alone(address: str, acknowledged: Path) -> None:
    """Every acknowledged turn is in the newest state too."""
    verify(address, acknowledged)
    newest = texts(agent_at(store_at(address)).get_state(AT).values["messages"])
    assert set(acknowledged.read_text().split()) <= newest


def test_a_worker_that_is_killed_at_any_step_loses_no_turn(tmp_path: Path) -> None:
    fewest, most = writes_of_a_turn(tmp_path)
    kill_workers(tmp_path, second_turn, verify_alone, fewest, 1, most=most)


def test_two_workers_of_which_one_is_killed_leave_a_valid_thread(tmp_path: Path) -> None:
    fewest, most = writes_of_a_turn(tmp_path)
    kill_workers(tmp_path, turn, verify, fewest, 2, most=most)


def graph_of_texts(saver: BotWireSaver) -> Any:
    builder = StateGraph(Texts)
    builder.add_node("text", lambda _: {"messages": "text"})
    builder.add_edge(START, "text")
    graph = builder.compile(checkpointer=saver)
    graph.update_state({"configurable": {"thread_id": "texts"}}, {"messages": "text"})
    return graph


@pytest.mark.parametrize("policy", ["cancel", "drop"])
def test_a_message_after_a_call_without_a_result_is_mended(policy: Any, address: str) -> None:
    call = AIMessage("", tool_calls=[{"name": "find", "args": {"what": "one"}, "id": "call-1"}], id="m-2")
    saver = BotWireSaver(f"test-{uuid.uuid4()}", address)
    agent = create_agent(StrictModel(), [find], checkpointer=saver)
    broken = [HumanMessage("one", id="m-1"), call, HumanMessage("two", id="m-3")]
    agent.update_state(AT, {"messages": broken}, as_node="model")
    with pytest.raises(Refused):
        agent.invoke(say("three"), AT)
    with pytest.raises(InvalidArgument, match="policy"):
        mend_thread(agent, AT, "forget")  # type: ignore[arg-type]
    (done,) = mend_thread(agent, AT, policy) if policy == "drop" else asyncio.run(amend_thread(agent, AT, policy))
    assert (done.kind, done.id) == ("call_without_result", "call-1")
    messages = agent.get_state(AT).values["messages"]
    assert [message for message in messages if message.id in {"m-1", "m-2", "m-3"}] == (
        broken if policy == "cancel" else [broken[0], broken[2]]
    )
    assert mend_thread(agent, AT, policy) == []
    with pytest.raises(InvalidValue, match="channel"):
        mend_thread(graph_of_texts(saver), {"configurable": {"thread_id": "texts"}})
    assert agent.invoke(say("four"), AT)["messages"][-1].content == "Done."


def test_the_strict_model_refuses_what_providers_refuse() -> None:
    call = AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": "1"}])
    result = ToolMessage("", tool_call_id="1")
    check([call, result, HumanMessage("")])
    for wrong in itertools.permutations([call, result, HumanMessage("")]):
        if list(wrong).index(result) != list(wrong).index(call) + 1:
            with pytest.raises(Refused):
                check(list(wrong))
