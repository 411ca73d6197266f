"""Limits of what one transaction copies or replaces, and long sessions that expire."""

from __future__ import annotations

import time

import pytest

from botwire.errors import Conflict, InvalidArgument
from botwire.operations import Append, Expire, Forget, Fork, Replace, SetExpiry
from botwire.queries import CountMessages, GetUsage, ListSessions
from botwire.stores.engine import retention, sessions
from botwire.testing import messages_of


@pytest.mark.parametrize(("limit", "most"), [("MAX_COPIED", 3), ("MAX_COPIED_BYTES", 100)])
def test_too_many_messages_are_not_copied_or_replaced(opened, monkeypatch, limit, most):
    store, _ = opened
    store.write("n", [Append("s", messages_of(*["x" * 30] * 4))])
    usage = store.read("n", GetUsage())
    monkeypatch.setattr(sessions, limit, most)
    for wrong in (Fork("s", "t"), Replace("s", messages_of(1))):
        with pytest.raises(InvalidArgument, match="4 with"):
            store.write("n", [wrong])
    assert store.read("n", GetUsage()) == usage
    assert store.write("n", [Fork("s", "t", 1), Replace("s", messages_of("x"), after=3)]) == [1, [4]]


def test_a_long_session_that_expires_is_removed_by_several_writes(opened, monkeypatch):
    """Its name is free at once, and its bytes count until its rows are removed."""
    store, run = opened
    monkeypatch.setattr(retention, "ROWS", 3)
    store.write("n", [Append("s", messages_of(*range(10))), SetExpiry("s", 0.05)])
    held = store.read("n", GetUsage()).bytes
    time.sleep(0.06)
    assert store.write("n", [Append("s", messages_of("new"))]) == [[1]]
    assert [(session.name, session.messages) for session in store.read("n", ListSessions())] == [("s", 1)]
    assert store.read("n", GetUsage()).bytes > held // 2
    for _ in range(10):
        if store.write("n", [Expire()]) == [False]:
            break
    assert store.read("n", CountMessages("s")) == 1
    assert run("SELECT count(*) FROM botwire.messages") == [(1,)]
    assert store.read("n", GetUsage()).bytes < held // 2
    assert store.recount("n") == []
    assert store.write("n", [Forget("s")]) == [1]
    assert store.read("n", GetUsage()).bytes == 0


def test_a_refused_fork_leaves_nothing(opened):
    store, run = opened
    store.write("n", [Append("s", messages_of(1, 2)), Append("t", messages_of(3))])
    usage = store.read("n", GetUsage())
    for wrong, error in (
        (Fork("s", "t"), Conflict),
        (Fork("s", "u", 3), InvalidArgument),
        (Fork("x", "u"), InvalidArgument),
    ):
        with pytest.raises(error):
            store.write("n", [wrong])
    assert store.read("n", GetUsage()) == usage
    assert run("SELECT count(*) FROM botwire.sessions") == [(2,)]
