"""An agent and a workflow are killed, and go on in another process."""

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


def test_an_agent_and_a_workflow_resume_after_a_kill(server: Server, tmp_path: Path) -> None:
    addresses = f"sqlite:///{tmp_path}/memory.db", server.url
    code, first = run("work", *addresses)
    assert (code, first) == (-signal.SIGKILL, [["I am Ada."], ["I am Ada."]])
    code, second = run("resume", *addresses)
    assert code == 0
    for number, after in enumerate(second):
        assert after["asked"] == ["I am Ada.", "Hello Ada.", "Who am I?"]
        assert after["outputs"] == [f"order {number} LARGE ['taken'] {{'texts': ('order {number}',)}}"]
