"""Workers are killed in the middle of turns with tools. The session stays valid, and keeps every turn that has returned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_session_stays_valid_when_two_workers_are_killed_at_every_step(address: str, tmp_path: Path) -> None:
    """The workers check what the model gets, as a provider does, and fail if it is not valid."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "crashes.py"), address, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []  # the SDK adds a call and its result at once, and the session stores both or none
    assert found["writes"] >= 2
    assert found["acknowledged"] > 2
