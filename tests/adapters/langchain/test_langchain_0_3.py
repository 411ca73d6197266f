"""BotWireChatHistory with LangChain 0.3, where the memory and agent classes are still in ``langchain`` itself.

That release does not fit into the environment of the other tests, so a script runs in one of its own, twice: it is killed
the first time, and has to remember the second time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import botwire
from tests.environments import environment
from tests.openai_stub import openai_stub

SCRIPT = '''
import asyncio, json, os, signal, sys, warnings
from langchain.memory import ConversationBufferMemory
from langchain.agents import create_react_agent, AgentExecutor
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage, HumanMessage, ToolMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from botwire import BotWireChatHistory, Memory

class PersistentAgent:
    def __init__(self, session_id: str):
        self.chat_history = BotWireChatHistory(session_id=session_id)
        self.memory = ConversationBufferMemory(chat_memory=self.chat_history, return_messages=True)
        self.kv_memory = Memory(f"agent-{session_id}")
    def remember_fact(self, key, value): self.kv_memory.set(key, value)
    def recall_fact(self, key): return self.kv_memory.get(key)

agent = PersistentAgent(session_id="user-42")

@tool
def remember(fact: str) -> str:
    """Remember a fact."""
    agent.remember_fact("fact", fact)
    return "remembered"

react = PromptTemplate.from_template("{tools} {tool_names}\\n{history}\\nQuestion: {input}\\n{agent_scratchpad}")
model = ChatOpenAI(base_url=sys.argv[2], api_key="none", model="stub", max_retries=0)
executor = AgentExecutor(agent=create_react_agent(model, [remember], react), tools=[remember], memory=agent.memory)

messages = [
    AIMessage("", tool_calls=[{"name": "f", "args": {"x": [1, None]}, "id": "1"}]),
    AIMessage("", additional_kwargs={"tool_calls": [{"id": "3", "function": {"name": "f", "arguments": "{"}}]}),
    AIMessageChunk("he", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    ToolMessage("y", tool_call_id="1", artifact={"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}),
    ChatMessage("objection", role="critic"),
    HumanMessage(["a", {"type": "text", "text": "b"}], mood="good", id="m-1"),
]
chain = RunnableWithMessageHistory(RunnableLambda(lambda said: AIMessage(str(len(said)))), BotWireChatHistory)
configuration = {"configurable": {"session_id": "chain"}}

def report(**facts):
    print(json.dumps(facts), flush=True)

if sys.argv[1] == "talk":
    answer = executor.invoke({"input": "I like teal."})["output"]
    BotWireChatHistory("kinds").add_messages(messages)
    asyncio.run(BotWireChatHistory("kinds").aadd_messages(messages))
    chain.invoke([HumanMessage("one")], configuration)
    report(answer=answer, fact=agent.recall_fact("fact"))
    os.kill(os.getpid(), signal.SIGKILL)
else:
    kinds = BotWireChatHistory("kinds").messages
    found = asyncio.run(BotWireChatHistory("kinds").aget_messages())
    report(
        remembered=[message.content for message in agent.chat_history.messages],
        same=kinds == found == 2 * messages and list(map(type, kinds)) == 2 * list(map(type, messages)),
        fact=agent.recall_fact("fact"),
        chain=chain.invoke([HumanMessage("two")], configuration).content,
        answer=executor.invoke({"input": "Which colour do I like?"})["output"],
    )
'''


@pytest.fixture(params=["sqlite", "http"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address, in a file and on a server."""
    if request.param == "http":
        return str(request.getfixturevalue("server").url)
    return f"sqlite:///{tmp_path}/memory.db"


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of an environment with LangChain 0.3."""
    return str(environment("langchain-0.3", "langchain<0.4", "langchain-openai<0.4"))


def _run(python: str, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", SCRIPT, *arguments],
        env=os.environ | {"BOTWIRE_URL": address, "PYTHONPATH": str(Path(botwire.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_environment_has_langchain_0_3(python: str) -> None:
    code = "from importlib.metadata import version; print(version('langchain'), version('langchain-core'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert [number.split(".")[:2] for number in done.stdout.split()] == [["0", "3"], ["0", "3"]]


def test_an_agent_of_langchain_0_3_remembers_after_being_killed(python: str, address: str) -> None:
    script = (
        "Thought: I should keep this.\nAction: remember\nAction Input: likes teal",
        "Thought: I now know the final answer\nFinal Answer: I will remember.",
        "Thought: I now know the final answer\nFinal Answer: Teal.",
    )
    with openai_stub(*script) as stub:
        first = _run(python, address, "talk", stub.url)
        assert first.returncode == -signal.SIGKILL, first.stderr
        assert _report(first) == {"answer": "I will remember.", "fact": "likes teal"}
        second = _run(python, address, "resume", stub.url)
    assert second.returncode == 0, second.stderr
    assert _report(second) == {
        "remembered": ["I like teal.", "I will remember."],
        "same": True,
        "fact": "likes teal",
        "chain": "3",
        "answer": "Teal.",
    }
    assert "I will remember." in stub.prompts[2]


def test_it_raises_no_warning_there_either(python: str) -> None:
    code = "from botwire import BotWireChatHistory as H; h = H('s', url='sqlite:///:memory:'); h.add_user_message('x'); h.messages"
    source = str(Path(botwire.__file__).parents[1])
    done = subprocess.run(
        [python, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
