"""LangChain's summarization on checkpoints: what it removes, and what others store in the meantime, beside LangGraph's own saver."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from botwire.adapters.langgraph import BotWireSaver

AT: Any = {"configurable": {"thread_id": "thread"}}


class Model(BaseChatModel):
    """A model whose answer is fixed. It waits for an event before it answers, and says when it waits."""

    answer: str
    waits: Any = None
    waiting: Any = None

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        if self.waits is not None:
            self.waiting.set()
            assert self.waits.wait(30)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.answer))])

    @property
    def _llm_type(self) -> str:
        return "fixed"


def agent_of(saver: Any, summarizer: Model | None = None) -> Any:
    middleware = (
        [SummarizationMiddleware(summarizer, trigger=("messages", 6), keep=("messages", 3))] if summarizer else []
    )
    return create_agent(Model(answer="fine"), [], middleware=middleware, checkpointer=saver)


def say(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


def contents(messages: list[Any]) -> list[str]:
    return [
        message.content.replace("Here is a summary of the conversation to date:", "").strip() for message in messages
    ]


def history(agent: Any) -> list[list[str]]:
    return [contents(state.values.get("messages", [])) for state in agent.get_state_history(AT)]


@pytest.fixture
def savers(address: str) -> dict[str, Any]:
    return {"botwire": BotWireSaver(f"test-{uuid.uuid4()}", address), "langgraph": InMemorySaver()}


def test_a_summary_replaces_messages_and_the_older_checkpoints_keep_them(savers: dict[str, Any]) -> None:
    final = {}
    for name, saver in savers.items():
        agent = agent_of(saver, Model(answer="summary"))
        for number in range(5):
            agent.invoke(say(f"{number}"), AT)
        final[name] = history(agent)
    assert final["botwire"] == final["langgraph"]
    assert "summary" in final["botwire"][0]
    assert {f"{number}" for number in range(5)} <= {text for state in final["botwire"] for text in state}


@pytest.mark.parametrize("later", ["compaction", "turn"])
def test_a_turn_during_a_compaction_is_kept_as_langgraph_keeps_it(savers: dict[str, Any], later: str) -> None:
    """Of two runs at once, the state of the one that ends later is the newest. Nothing of the other is lost from the history."""
    final = {}
    for name, saver in savers.items():
        agent = agent_of(saver)
        for number in range(3):
            agent.invoke(say(f"{number}"), AT)
        waits, waiting = threading.Event(), threading.Event()
        compacting = agent_of(saver, Model(answer="summary", waits=waits, waiting=waiting))
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(compacting.invoke, say("compacted"), AT, durability="sync")
            assert waiting.wait(30)
            if later == "compaction":
                agent.invoke(say("meanwhile"), AT)
                waits.set()
                run.result(30)
            else:
                waits.set()
                run.result(30)
                agent.invoke(say("meanwhile"), AT)
        final[name] = history(agent)
    assert final["botwire"] == final["langgraph"]
    every = {text for state in final["botwire"] for text in state}
    assert {"0", "1", "2", "compacted", "meanwhile", "summary", "fine"} <= every
    assert ("meanwhile" in final["botwire"][0]) == (later == "turn")
