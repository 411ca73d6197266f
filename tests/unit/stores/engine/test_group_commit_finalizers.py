"""A finalizer that uses the store, at every line of the store's code: it is done or refused, and no thread waits for itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.stores.engine import finalizers

DATABASES = ["sqlite", "memory"]


@pytest.mark.parametrize("act", finalizers.ACTS)
@pytest.mark.parametrize("kind", ["threads", "loop", "served"])
@pytest.mark.parametrize("database", DATABASES)
def test_a_finalizer_never_waits_for_its_own_thread(tmp_path, database, kind, act):
    address = "sqlite:///:memory:" if database == "memory" else f"sqlite:///{tmp_path}/a.db"
    command = [sys.executable, "-m", finalizers.__name__, kind, address, act]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    lines, met = process.stdout.split(" ", 1)
    assert int(lines) > 20
    assert set(eval(met)) <= {"done", "Unavailable"}, met
