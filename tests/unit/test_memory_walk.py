"""A set passes through few files, so that a reader can follow it."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import botwire
from botwire import Memory

SOURCE = str(Path(botwire.__file__).parent)


def files_entered(call):
    """Return the file of each function of botwire that a call runs, in order."""
    entered = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            entered.append(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


def test_a_set_enters_few_files(tmp_path, monkeypatch):
    monkeypatch.delitem(
        sys.modules, "opentelemetry.trace", raising=False
    )  # other tests import it, and calls become spans
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        memory.set("k", {"a": 1})
        # The shortest of several: a finalizer of an earlier test may run within one.
        entered = min((files_entered(lambda: memory.set("k", {"a": 2})) for _ in range(5)), key=len)
    moves = sum(one != other for one, other in itertools.pairwise(entered))
    assert 5 < len(set(entered)) <= 9, sorted(set(entered))
    assert moves <= 24
