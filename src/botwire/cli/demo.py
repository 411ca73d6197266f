"""``botwire demo``: `demo_agent` runs in a process that is killed as it reports its last write.

A second process opens the same file, and the demo compares what it finds with the reports of the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

from .base import say

TALK = ("Hi, I am Ada and I work on compilers.", "Our release is on Friday.")
FACTS = {"name": "Ada", "release_day": "Friday"}
QUESTION = "Who am I, and when is the release?"
ANSWER = "You are Ada, and the release is on Friday."
TIMEOUT = 60.0
"""Time limit of each process, in seconds."""

Say: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Prints an event, as text or as JSON."""


def main(*, as_json: bool = False) -> None:
    """Run the demo in a temporary folder. Exits with 1 if a reported write did not survive."""
    if memory_module() is None:
        sys.exit("botwire demo needs LangChain: pip install 'botwire[langchain]' langchain-classic")
    report = partial(say, as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="botwire-demo-") as folder:
        failure = _failure(folder, report)
    if failure:
        report(f"FAILED: {failure}", {"survived": False, "failure": failure})
        sys.exit(1)
    messages, facts = 2 * len(TALK), len(FACTS)
    text = f"\nNothing was lost: {messages} messages and {facts} facts survived the process"
    report(text, {"survived": True, "messages": messages, "facts": facts})
    sys.exit(0)


def memory_module() -> str | None:
    """Return the module of ConversationBufferMemory, in langchain-classic or langchain 0.3, or None."""
    for package in ("langchain_classic", "langchain"):
        if find_spec(package) and find_spec(f"{package}.memory"):
            return f"{package}.memory"
    return None


def _failure(folder: str, report: Say) -> str | None:
    about = "An agent that remembers: LangChain, a scripted model, no API key, no network"
    report(f"{about}\nIts memory is in {folder}, which is deleted at the end", {"folder": folder})
    first = _start("talk", folder)
    report(f"\nProcess 1, pid {first.pid}", {"process": 1, "pid": first.pid})
    written = _follow(first, report, kill_after=len(TALK) + len(FACTS))
    if first.returncode == 0 or len(written) < len(TALK) + len(FACTS):
        return f"the first process ended by itself, with exit code {first.returncode}"
    report("  killed with SIGKILL right after that write", {"process": 1, "killed": True})
    second = _start("recall", folder)
    report(f"\nProcess 2, pid {second.pid}: the same file, a new interpreter", {"process": 2, "pid": second.pid})
    if _follow(second, report) != [*written, {"you": QUESTION, "agent": ANSWER}]:
        return "the second process does not remember what the first one stored"
    return None


def _start(role: str, folder: str) -> subprocess.Popen[str]:
    """Start an agent that stores its memory in the folder, not in the user's own memory."""
    memory = {"BOTWIRE_URL": f"sqlite:///{folder}/botwire.db"}
    silent = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "PYTHONUTF8": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "botwire.cli.demo_agent", role],
        env=os.environ | memory | silent,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def _follow(process: subprocess.Popen[str], report: Say, kill_after: int | None = None) -> list[dict[str, str]]:
    """Print what an agent reports until it ends, and kill it after a number of reports. Returns the reports."""
    found: list[dict[str, str]] = []
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    with process:
        for line in process.stdout or ():
            facts: dict[str, str] = json.loads(line)
            found.append(facts)
            if len(found) == kill_after:
                process.kill()
            report("\n".join(f"  {word:>8}  {text}" for word, text in facts.items()), facts)
    watchdog.cancel()
    return found
