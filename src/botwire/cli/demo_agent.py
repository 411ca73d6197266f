"""The agent of ``botwire demo``: LangChain with a scripted model, which sees only the messages that it receives.

Prints a line of JSON after each write. Its role is the argument of the process: talk or recall.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import warnings
from importlib import import_module
from typing import Any

from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import BaseMessage, HumanMessage

from .. import BotWireChatHistory, Memory
from .demo import FACTS, QUESTION, TALK, TIMEOUT, memory_module


class ScriptedModel(SimpleChatModel):
    """A model that sees only the messages it receives."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        said = " ".join(str(message.content) for message in messages)
        name, day = (re.search(pattern, said) for pattern in (r"I am (\w+) and", r"release is on (\w+)\."))
        if messages[-1].content == QUESTION:
            return f"You are {name[1]}, and the release is on {day[1]}." if name and day else "I do not know."
        if day:
            return f"{day[1]}. I will keep that in mind."
        return f"Nice to meet you, {name[1]}." if name else "I see."


class PersistentAgent:
    """An agent whose messages and facts survive its process."""

    def __init__(self, session_id: str) -> None:
        buffer_memory = import_module(memory_module() or "langchain_classic.memory").ConversationBufferMemory
        warnings.simplefilter("ignore")  # after the imports, because LangChain enables its warnings on import
        self.history = BotWireChatHistory(session_id=session_id)
        self.buffer = buffer_memory(chat_memory=self.history, return_messages=True)
        self.facts = Memory(f"agent-{session_id}")
        self.model = ScriptedModel()

    def chat(self, text: str) -> str:
        """Answer the user."""
        earlier = self.buffer.load_memory_variables({})["history"]
        answer = str(self.model.invoke([*earlier, HumanMessage(text)]).content)
        self.buffer.save_context({"input": text}, {"output": answer})
        return answer


def talk(agent: PersistentAgent) -> None:
    """Store messages and facts, and wait to be killed."""
    for text in TALK:
        _report(you=text, agent=agent.chat(text))
    for key, value in FACTS.items():
        agent.facts.set(key, value)
        _report(fact=f"{key} = {value}")
    threading.Event().wait(TIMEOUT)


def recall(agent: PersistentAgent) -> None:
    """Report what is stored, and answer a question about it."""
    texts = [message.content for message in agent.history.messages]
    for you, answer in zip(texts[::2], texts[1::2], strict=True):
        _report(you=you, agent=answer)
    for key in FACTS:
        _report(fact=f"{key} = {agent.facts.get(key)}")
    _report(you=QUESTION, agent=agent.chat(QUESTION))


def _report(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    {"talk": talk, "recall": recall}[sys.argv[1]](PersistentAgent("demo"))
