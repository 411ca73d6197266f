"""Agents and graphs that are killed go on in a new process, where they were."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def run(role: str, address: str, code: int) -> str:
    command = [sys.executable, str(Path(__file__).parent / "agent.py"), role, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_agent_remembers_after_being_killed(kind: str, address: str) -> None:
    first = json.loads(run(kind, address, -signal.SIGKILL))
    assert (first["answer"], first["fact"]) == ("Hello, Ada.", "Ada likes teal")
    second = json.loads(run(f"{kind}-resumed", address, 0))
    tool = "remember" if kind == "sync" else "aremember"
    assert second["asked"][:5] == ["I am Ada, I like teal.", tool, "I will.", "Hello, Ada.", "Who am I?"][:5]
    assert (second["answer"], second["fact"]) == ("You are Ada.", "Ada likes teal")


def test_a_graph_that_is_killed_in_a_step_goes_on_with_what_was_not_done(address: str) -> None:
    assert run("work", address, -signal.SIGKILL).splitlines() == ["beside"]
    (said,) = run("work-resumed", address, 0).splitlines()
    assert json.loads(said) == {"steps": ["beside", "first", "input", "second", "third"]}
