"""A finalizer that uses the store, at every line of the store's code: it is done or refused, and no thread waits for itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.stores.engine import finalizers

DATABASES = {
    "sqlite": ["threads", "loop", "served"],
    "memory": ["threads", "loop", "served"],
    "postgres": ["threads", "loop", "watch"],
}
"""The kinds of use for each. A server uses PostgreSQL as an event loop does."""


@pytest.fixture
def address(request, tmp_path, database):
    if database == "postgres":
        return request.getfixturevalue("postgres")
    return "sqlite:///:memory:" if database == "memory" else f"sqlite:///{tmp_path}/a.db"


@pytest.mark.parametrize("act", finalizers.ACTS)
@pytest.mark.parametrize(("database", "kind"), [(name, kind) for name, kinds in DATABASES.items() for kind in kinds])
def test_a_finalizer_never_waits_for_its_own_thread(address, kind, act):
    command = [sys.executable, "-m", finalizers.__name__, kind, address, act]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    lines, met = process.stdout.split(" ", 1)
    assert int(lines) > 20
    assert {"done"} <= set(eval(met)) <= {"done", "Unavailable"}, met
