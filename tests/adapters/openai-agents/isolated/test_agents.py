"""An agent that is killed goes on in a new process, where it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers import Server


def run(role: str, addresses: list[str], code: int) -> list[dict[str, Any]]:
    command = [sys.executable, str(Path(__file__).parent / "agent.py"), role, *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_an_agent_remembers_after_being_killed(tmp_path: Path, server: Server) -> None:
    addresses = [f"sqlite:///{tmp_path}/memory.db", server.url]
    for first, second in zip(run("talk", addresses, -signal.SIGKILL), run("resume", addresses, 0), strict=True):
        assert (first["answer"], first["items"]) == ("Sunny, Ada.", 4)
        assert second["asked"][:3] == ["I am Ada in Zürich. Weather?", "weather", "Sun in Zürich."]
        assert second["asked"][3][0]["text"] == "Sunny, Ada."
        assert second["asked"][4] == "Who am I?"
        assert (second["answer"], second["items"]) == ("You are Ada.", 6)
