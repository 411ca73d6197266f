"""Which sessions expire when rules change."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from botwire.operations import Append, Expire, NewMessage, Retain
from botwire.plans import Plan, Plans
from botwire.queries import CountMessages, GetUsage, ListSessions
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import now


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


RULES = {
    "one of some": [Retain("a/", idle=50.0)],
    "one of all": [Retain("", idle=500.0)],
    "age": [Retain("a/", age=500.0), Retain("a/keep/", age=10_000.0)],
    "many": [
        Retain("", idle=500.0),
        Retain("a/", idle=50.0),
        Retain("a/keep/", age=10_000.0),
        Retain("b", 200.0, 50.0),
    ],
    "exceptions": [
        Retain("", age=50.0),
        Retain("a/", idle=10_000.0),
        Retain("a/keep/", 50.0),
        Retain("c", None, 10_000.0),
    ],
}


@pytest.mark.parametrize("limit", [None, 300.0])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_rule_of_the_longest_prefix_removes_rows(kind, rules, limit, tmp_path, request):
    """Each database finds the sessions that have expired in its own way."""
    plans = Plans("p", {"p": Plan(session_idle_days=None if limit is None else limit / 86_400)})
    address = tmp_path / "a.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    begun = now()
    times = {
        f"{name}-{age}": age
        for name in ("a/1", "a/2", "a/keep/1", "a/keep/2", "b/1", "b/2", "c", "d")
        for age in (10, 100, 400, 1_000)
    }
    with closing((SqliteStore if kind == "sqlite" else PostgresStore)(address, plans=plans)) as store:
        messages = {name: NewMessage("m", "1", begun - age * 1_000_000) for name, age in times.items()}
        store.write("n", [Append(name, (message,)) for name, message in messages.items()])
        store.write("n", rules)
        for _ in range(20):
            if store.write("n", [Expire()]) == [False]:
                break
        left = [name for name, age in times.items() if not ends(name, age, rules, limit)]
        assert sorted(session.name for session in store.read("n", ListSessions())) == sorted(left)
        assert store.read("n", GetUsage()).bytes == 2 * len(left)  # each message has an id and a number


def ends(name, age, rules, limit):
    fitting = [rule for rule in rules if name.startswith(rule.prefix)]
    rule = max(fitting, key=lambda rule: len(rule.prefix), default=Retain())
    return any(most is not None and age > most for most in (rule.idle, rule.age, limit))
