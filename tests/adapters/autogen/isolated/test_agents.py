"""An agent and a team are killed, and go on in another process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers import Server

SCRIPT = Path(__file__).parent / "agent.py"


def run(what: str, *addresses: str) -> tuple[int, list]:
    done = subprocess.run([sys.executable, SCRIPT, what, *addresses], capture_output=True, text=True, timeout=100)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_an_agent_and_a_team_resume_after_a_kill(server: Server, tmp_path: Path) -> None:
    addresses = f"sqlite:///{tmp_path}/memory.db", server.url
    code, first = run("talk", *addresses)
    assert code == -signal.SIGKILL
    code, second = run("resume", *addresses)
    assert code == 0
    for before, after in zip(first, second, strict=True):
        assert not before["resumed"]
        assert after["resumed"]
        assert after["types"][: len(before["types"])] == before["types"]
        assert "FunctionExecutionResultMessage" in before["types"]
        told = "\n".join(after["asked"])
        for said in ("Ada likes teal.", "What is the weather?", "Zürich", "Sun in Zürich.", "And now?"):
            assert said in told
        assert after["answer"] == "It is still sunny."
        assert after["team"] == 2 * before["team"] > 0  # the state of the team has both drafts
