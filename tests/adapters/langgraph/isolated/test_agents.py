"""Agents and graphs that are killed go on in a new process, where they were."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path


def run(role: str, address: str, code: int) -> str:
    command = [sys.executable, str(Path(__file__).parent / "agent.py"), role, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_agents_remember_after_being_killed(address: str) -> None:
    """One that is invoked, and one that is awaited."""
    first = [json.loads(line) for line in run("talk", address, -signal.SIGKILL).splitlines()]
    second = [json.loads(line) for line in run("talk-resumed", address, 0).splitlines()]
    for before, after, kind, tool in zip(first, second, ("sync", "async"), ("remember", "aremember"), strict=True):
        fact = f"Ada likes teal, {kind}"
        assert (before["answer"], before["fact"]) == ("Hello, Ada.", fact)
        assert after["asked"] == ["I am Ada, I like teal.", tool, "I will.", "Hello, Ada.", "Who am I?"]
        assert (after["answer"], after["fact"]) == ("You are Ada.", fact)


def test_a_graph_killed_in_a_step_resumes_with_unfinished_tasks(address: str) -> None:
    assert run("work", address, -signal.SIGKILL).splitlines() == ["beside"]
    (said,) = run("work-resumed", address, 0).splitlines()
    assert json.loads(said) == {"steps": ["beside", "first", "input", "second", "third"]}
