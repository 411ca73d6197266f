"""Which sessions expire when rules change."""

from __future__ import annotations

import time

from botwire.operations import Append, NewMessage, Retain
from botwire.queries import CountMessages


def test_rules_of_one_write_apply_together(opened):
    """A session that only the first of them would end stays, however long it was idle."""
    store, _ = opened
    for name in ("a/1", "a/keep/1"):
        store.write("n", [Append(name, (NewMessage("m", "1"),))])
    time.sleep(0.02)
    store.write("n", [Retain("a/", 0.01), Retain("a/keep/", 600.0)])
    assert [store.read("n", CountMessages(name)) for name in ("a/1", "a/keep/1")] == [0, 1]


def test_what_has_expired_by_a_rule_stays_expired_without_it(opened):
    store, _ = opened
    store.write("n", [Retain("a/", 0.01)])
    store.write("n", [Append("a/1", (NewMessage("m", "1"),))])
    time.sleep(0.02)
    store.write("n", [Retain("a/")])
    assert store.read("n", CountMessages("a/1")) == 0
