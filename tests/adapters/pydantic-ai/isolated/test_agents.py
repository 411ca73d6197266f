"""An agent that is killed goes on in a new process, where it was."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers import Server

CONVERSATIONS = importlib.util.find_spec("pydantic_ai.conversation_store") is not None
"""Pydantic AI has them since 2.66."""


def run(role: str, addresses: list[str], code: int) -> list[dict[str, Any]]:
    command = [sys.executable, str(Path(__file__).parent / "agent.py"), role, *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_an_agent_remembers_after_being_killed(tmp_path: Path, server: Server) -> None:
    addresses = [f"sqlite:///{tmp_path}/memory.db", server.url]
    for first, second in zip(run("talk", addresses, -signal.SIGKILL), run("resume", addresses, 0), strict=True):
        said = "I am Ada. | {'city': 'Zürich'} | Sun in Zürich."
        again = f"{said} | {said} | Who am I?"
        conversed = [{"answer": said, "requests": 2}, {"answer": again, "requests": 3}] if CONVERSATIONS else [{}, {}]
        assert first == {"by hand": said, "messages": 4} | conversed[0]
        assert second == {"by hand": again, "messages": 6} | conversed[1]
