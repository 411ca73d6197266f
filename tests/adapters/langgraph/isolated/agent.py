"""Agents of LangGraph that talk, are killed, and go on: ``agent.py ROLE ADDRESS``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.config import get_store
from langgraph.graph import END, START, StateGraph

from botwire.adapters.langgraph import BotWireSaver, BotWireStore


def at(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


class ScriptedModel(BaseChatModel):
    """A model that gives the answers it was made with, and keeps what it was asked."""

    answers: list[Any]
    asked: list[Any] = []

    def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        self.asked.append([message.content or message.tool_calls[0]["name"] for message in messages])
        return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])

    def bind_tools(self, *_: Any, **__: Any) -> ScriptedModel:
        return self

    @property
    def _llm_type(self) -> str:
        return "scripted"


@tool
def remember(fact: str) -> str:
    """Remember a fact about the user."""
    get_store().put(("users", "sync"), "fact", {"text": fact})
    return "I will."


@tool
async def aremember(fact: str) -> str:
    """Remember a fact about the user."""
    await get_store().aput(("users", "async"), "fact", {"text": fact})
    return "I will."


def report(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def talk(address: str, kind: str, *, resumed: bool) -> None:
    name = "aremember" if kind == "async" else "remember"
    call = AIMessage("", tool_calls=[{"name": name, "args": {"fact": f"Ada likes teal, {kind}"}, "id": "1"}])
    model = ScriptedModel(answers=[AIMessage("You are Ada.")] if resumed else [call, AIMessage("Hello, Ada.")])
    saver, store = BotWireSaver(url=address), BotWireStore(url=address)
    agent = create_agent(model, [remember, aremember], checkpointer=saver, store=store)
    said = {"messages": [("user", "Who am I?" if resumed else "I am Ada, I like teal.")]}
    state = asyncio.run(agent.ainvoke(said, at(kind))) if kind == "async" else agent.invoke(said, at(kind))
    fact = store.get(("users", kind), "fact")
    report(answer=state["messages"][-1].content, asked=model.asked[-1], fact=fact and fact.value["text"])


class State(TypedDict):
    steps: Annotated[list[str], lambda old, new: old + new]


def work(address: str, *, resumed: bool) -> None:
    """Three steps, in the second of which the process is killed; another task of that step has finished by then."""

    def second(_: State) -> State:
        if not resumed:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        return {"steps": ["second"]}

    def beside(_: State) -> State:
        print("beside", flush=True)
        return {"steps": ["beside"]}

    builder = StateGraph(State)
    builder.add_node("first", lambda _: {"steps": ["first"]})
    builder.add_node("second", second)
    builder.add_node("beside", beside)
    builder.add_node("third", lambda _: {"steps": ["third"]})
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("first", "beside")
    builder.add_edge(["second", "beside"], "third")
    builder.add_edge("third", END)
    graph = builder.compile(checkpointer=BotWireSaver(url=address))
    state = graph.invoke(None if resumed else {"steps": ["input"]}, at("work"), durability="sync")
    report(steps=sorted(state["steps"]))


def main(role: str, address: str) -> None:
    if role.startswith("work"):
        work(address, resumed=role == "work-resumed")
        return
    for kind in ("sync", "async"):
        talk(address, kind, resumed=role == "talk-resumed")
    if role == "talk":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
