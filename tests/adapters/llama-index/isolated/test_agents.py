"""A chat engine that is killed goes on in a new process, where it was."""

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


def test_a_chat_engine_remembers_after_being_killed(tmp_path: Path, server: Server) -> None:
    addresses = [f"sqlite:///{tmp_path}/memory.db", server.url]
    for first, second in zip(run("talk", addresses, -signal.SIGKILL), run("resume", addresses, 0), strict=True):
        assert first.keys() == second.keys() >= {"buffer"}
        for name in first:
            assert first[name][1] == 2
            answer, count = second[name]
            assert count == 4
            assert answer.index("user: I am Ada.") < answer.index("user: Who am I?")
