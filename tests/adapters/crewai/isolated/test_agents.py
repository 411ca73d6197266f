"""A crew and a flow are killed, and go on in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Server

SCRIPT = Path(__file__).parent / "agent.py"


def run(folder: Path, *arguments: str) -> tuple[int, list]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=folder,
        env=os.environ | {"CREWAI_STORAGE_DIR": str(folder / "crewai")},
    )
    assert done.stdout.endswith("]\n"), (done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(400)
def test_a_crew_and_a_flow_resume_after_a_kill(server: Server, tmp_path: Path) -> None:
    addresses = f"sqlite:///{tmp_path}/memory.db", server.url
    code, first = run(tmp_path, "work", *addresses)
    assert code == -signal.SIGKILL
    flows = [before["flow"] for before in first]
    code, second = run(tmp_path, "resume", *(item for pair in zip(addresses, flows, strict=True) for item in pair))
    assert code == 0
    for before, after in zip(first, second, strict=True):
        assert (before["answer"], before["paused"]) == ("teal", "HumanFeedbackPending")
        assert "Ada likes the colour teal." in after["asked"]  # what the crew's memory told the agent
        assert "Observation: teal" in after["asked"]  # what the tool recalled
        assert after["answer"] == "still teal"
        assert after["matches"][0] == "Ada likes the colour teal."
        assert after["flow"] == "Once upon a time … (yes)"
        assert not after["pending"]
