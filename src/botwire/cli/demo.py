"""``botwire demo``: an agent talks, is killed, and remembers.

The agent uses LangChain with a scripted model, which sees only the messages it receives. It runs twice, each time in its own
process. The first process is killed as soon as it reports its last write. The second opens the same file, and the demo compares
what it finds with the reports of the first.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

TALK = ("Hi, I am Ada and I work on compilers.", "Our release is on Friday.")
FACTS = {"name": "Ada", "release_day": "Friday"}
QUESTION = "Who am I, and when is the release?"
ANSWER = "You are Ada, and the release is on Friday."
TIMEOUT = 60.0
"""Time limit of each process, in seconds."""


# Output


def main(*, as_json: bool = False) -> None:
    """Run the demo in a temporary folder. Exits with 1 if a reported write did not survive.

    Args:
        as_json: print events as JSON, one document per line.
    """
    if _memory_module() is None:
        sys.exit("botwire demo needs LangChain: pip install 'botwire[langchain]' langchain-classic")
    with tempfile.TemporaryDirectory(prefix="botwire-demo-") as folder:
        survived = _show(folder, _say_json if as_json else _say_text)
    sys.exit(0 if survived else 1)


Say: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Prints an event, as text or as JSON."""


def _say_text(text: str, _: dict[str, Any]) -> None:
    print(text)


def _say_json(_: str, facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def _show(folder: str, say: Say) -> bool:
    about = "An agent that remembers: LangChain, a scripted model, no API key, no network"
    say(f"{about}\nIts memory is in {folder}, which is deleted at the end", {"folder": folder})

    first = _start("talk", folder)
    say(f"\nProcess 1, pid {first.pid}", {"process": 1, "pid": first.pid})
    written = _follow(first, say, kill_after=len(TALK) + len(FACTS))
    if first.returncode == 0 or len(written) < len(TALK) + len(FACTS):
        failure = f"the first process ended by itself, with exit code {first.returncode}"
        say(f"FAILED: {failure}", {"survived": False, "failure": failure})
        return False
    say("  killed with SIGKILL right after that write", {"process": 1, "killed": True})

    second = _start("recall", folder)
    say(f"\nProcess 2, pid {second.pid}: the same file, a new interpreter", {"process": 2, "pid": second.pid})
    found = _follow(second, say)

    if found != [*written, {"you": QUESTION, "agent": ANSWER}]:
        failure = "the second process does not remember what the first one stored"
        say(f"\nFAILED: {failure}", {"survived": False, "failure": failure})
        return False
    messages, facts = 2 * len(TALK), len(FACTS)
    text = f"\nNothing was lost: {messages} messages and {facts} facts survived the process"
    say(text, {"survived": True, "messages": messages, "facts": facts})
    return True


def _follow(process: subprocess.Popen[str], say: Say, kill_after: int | None = None) -> list[dict[str, str]]:
    """Show what an agent reports, line by line, until it ends or has reported so much that it is to be killed."""
    reports: list[dict[str, str]] = []
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    with process:
        for line in process.stdout or ():
            report: dict[str, str] = json.loads(line)
            reports.append(report)
            if len(reports) == kill_after:
                process.kill()
            say("\n".join(f"  {word:>8}  {text}" for word, text in report.items()), report)
    watchdog.cancel()
    return reports


def _start(role: str, folder: str) -> subprocess.Popen[str]:
    """Start an agent whose default address is in the folder, so the demo does not touch the user's own memory."""
    default = {"XDG_DATA_HOME": folder, "BOTWIRE_URL": ""}
    if sys.platform != "linux":  # other systems ignore XDG_DATA_HOME
        default = {"BOTWIRE_URL": f"sqlite:///{Path(folder) / 'botwire.db'}"}
    silent = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "PYTHONUTF8": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "botwire.cli.demo", role],
        env=os.environ | default | silent,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


# The agent, in its own process


def _agent(session_id: str) -> Any:
    from langchain_core.language_models.chat_models import SimpleChatModel
    from langchain_core.messages import BaseMessage, HumanMessage

    from .. import BotWireChatHistory, Memory

    buffer_memory = import_module(_memory_module() or "langchain_classic.memory").ConversationBufferMemory
    warnings.simplefilter("ignore")  # after the imports, because LangChain enables its warnings on import

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
        def __init__(self, session_id: str) -> None:
            self.chat_history = BotWireChatHistory(session_id=session_id)
            self.memory = buffer_memory(chat_memory=self.chat_history, return_messages=True)
            self.kv_memory = Memory(f"agent-{session_id}")
            self.model = ScriptedModel()

        def chat(self, text: str) -> str:
            history = self.memory.load_memory_variables({})["history"]
            answer = str(self.model.invoke([*history, HumanMessage(text)]).content)
            self.memory.save_context({"input": text}, {"output": answer})
            return answer

        def remember_fact(self, key: str, value: Any) -> None:
            self.kv_memory.set(key, value)

        def recall_fact(self, key: str) -> Any:
            return self.kv_memory.get(key)

    return PersistentAgent(session_id)


def _talk() -> None:
    agent = _agent("demo")
    for text in TALK:
        _report(you=text, agent=agent.chat(text))
    for key, value in FACTS.items():
        agent.remember_fact(key, value)
        _report(fact=f"{key} = {value}")
    threading.Event().wait(TIMEOUT)  # idle until it is killed


def _recall() -> None:
    agent = _agent("demo")
    texts = [message.content for message in agent.chat_history.messages]
    for you, answer in zip(texts[::2], texts[1::2], strict=True):
        _report(you=you, agent=answer)
    for key in FACTS:
        _report(fact=f"{key} = {agent.recall_fact(key)}")
    _report(you=QUESTION, agent=agent.chat(QUESTION))


def _report(**words: str) -> None:
    print(json.dumps(words), flush=True)


def _memory_module() -> str | None:
    """Return the module of ConversationBufferMemory, in langchain-classic or langchain 0.3, or None."""
    for name in ("langchain_classic.memory", "langchain.memory"):
        try:
            if find_spec(name):
                return name
        except ModuleNotFoundError:
            continue
    return None


if __name__ == "__main__":
    {"talk": _talk, "recall": _recall}[sys.argv[1]]()
