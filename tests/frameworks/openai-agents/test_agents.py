"""An agent that is killed goes on in a new process, where it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(role: str, address: str, code: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).parent / "agent.py"), role, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_an_agent_remembers_after_being_killed(address: str) -> None:
    first = run("talk", address, -signal.SIGKILL)
    assert first["answer"] == "Sunny, Ada."
    assert first["items"] == 4
    second = run("resume", address, 0)
    assert second["asked"][:3] == ["I am Ada in Zürich. Weather?", "weather", "Sun in Zürich."]
    assert second["asked"][3][0]["text"] == "Sunny, Ada."
    assert second["asked"][4] == "Who am I?"
    assert (second["answer"], second["items"]) == ("You are Ada.", 6)
