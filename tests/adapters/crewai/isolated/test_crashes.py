"""Workers are killed at each step of a turn with tools. Nothing that was acknowledged is lost, and each flow goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.crewai.isolated import crashing


@pytest.mark.timeout(400)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_loses_nothing_that_was_acknowledged(tmp_path: Path, workers: int) -> None:
    """In a process without CrewAI's threads, which a fork would not have."""
    done = subprocess.run(
        [sys.executable, "-m", crashing.__name__, tmp_path, str(workers)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"CREWAI_STORAGE_DIR": str(tmp_path / "crewai")},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
