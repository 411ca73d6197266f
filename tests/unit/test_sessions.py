"""Lists of sessions, rules that say how long they are kept, and the end of a namespace."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from botwire import InvalidArgument, InvalidName, Rule
from botwire.errors import BotWireError
from botwire.limits import MAX_RULES


def names(sessions):
    return [session.name for session in sessions]


@pytest.fixture
def talks(memory):
    for name in ("a", "b", "c"):
        memory.history(name).append([f"first of {name}"])
    memory.history("a").append(["again"])
    memory.history("b").set_about(title="Trip", owner="ada", tags=["work", "rome"], data={"plan": {"name": "pro"}})
    memory.history("c").set_about(owner="ada", tags=["home"])
    memory.history("a").append(["once more"])
    return memory


def test_the_last_active_session_is_first(talks):
    assert names(talks.sessions())[0] == "a"
    assert names(talks.sessions(order="created")) == ["c", "b", "a"]


@pytest.mark.parametrize("order", ["active", "created"])
def test_pages_follow_each_other(memory, order):
    for number in range(25):
        memory.history(f"s{number % 10:02}").append([number])
    whole = memory.sessions(order=order)
    assert len(whole) == 10
    paged, after = [], None
    while page := memory.sessions(order=order, limit=3, after=after):
        paged += page
        after = page[-1] if len(paged) < 6 else page[-1].cursor
    assert paged == whole
    assert memory.sessions(limit=0) == []


def test_filters(talks):
    assert names(talks.sessions(where={"owner": "ada"}, order="created")) == ["c", "b"]
    assert names(talks.sessions(where={"owner": "ada", "data.plan.name": "pro"})) == ["b"]
    assert names(talks.sessions(where={"title": "Trip"})) == ["b"]
    assert names(talks.sessions(where={"tags.0": "home"})) == ["c"]
    assert names(talks.sessions(tag="rome")) == ["b"]
    assert names(talks.sessions(prefix="c")) == ["c"]
    assert talks.sessions(where={"owner": "bob"}) == []
    assert talks.sessions(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(talks.sessions(since=datetime.now(UTC) - timedelta(hours=1))) == 3


def test_what_a_session_says(talks):
    session = talks.sessions(prefix="a", preview=True)[0]
    assert (session.messages, session.preview.data, session.preview.seq) == (3, "once more", 3)
    assert session.bytes > 0
    assert session.created_at <= session.updated_at
    assert talks.sessions(prefix="a")[0].preview is None
    assert talks.history("a").info(preview=True) == session


WRONG = {
    "order": lambda m: m.sessions(order="name"),
    "prefix": lambda m: m.sessions(prefix="a\n"),
    "where is a list": lambda m: m.sessions(where=["owner"]),
    "where has another path": lambda m: m.sessions(where={"messages": 1}),
    "where has a set": lambda m: m.sessions(where={"data.x": {1}}),
    "where is too large": lambda m: m.sessions(where={"data.x": "y" * 8_192}),
    "where has too many paths": lambda m: m.sessions(where={f"data.{number}": 1 for number in range(33)}),
    "where has a long path": lambda m: m.sessions(where={"data" + ".x" * 100: 1}),
    "tag": lambda m: m.sessions(tag=7),
    "since has no zone": lambda m: m.sessions(since=datetime(2030, 1, 1)),
    "limit": lambda m: m.sessions(limit=-1),
    "after": lambda m: m.sessions(after="yesterday"),
    "after is a number": lambda m: m.sessions(after=7),
    "preview": lambda m: m.sessions(preview="yes"),
    "idle": lambda m: m.retain(sessions_idle=0),
    "age": lambda m: m.retain(sessions_age="30d"),
    "prefix of a rule": lambda m: m.retain(sessions_idle=60, prefix="x" * 513),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_refused(memory, name):
    with pytest.raises(BotWireError) as error:
        WRONG[name](memory)
    assert isinstance(error.value, InvalidArgument | InvalidName | ValueError)
    assert memory.retention() == []


def test_rules(memory):
    assert memory.retain(sessions_idle=timedelta(days=30)) is True
    assert memory.retain(sessions_idle=30 * 86_400) is False
    assert memory.retain(sessions_age=60, prefix="trial-") is True
    assert memory.retention() == [Rule("", 30 * 86_400.0, None), Rule("trial-", None, 60.0)]
    assert memory.retain(prefix="trial-") is True
    assert memory.retain(prefix="trial-") is False
    for number in range(MAX_RULES - 1):
        memory.retain(sessions_idle=60, prefix=f"p{number}")
    with pytest.raises(InvalidArgument, match=str(MAX_RULES)):
        memory.retain(sessions_idle=60, prefix="one more")
    assert len(memory.retention()) == MAX_RULES


def test_an_expired_session_is_as_if_it_did_not_exist(memory):
    memory.history("keep").append(["a"])
    memory.history("brief-1").append(["secret words"], ids=["1"])
    memory.retain(sessions_idle=0.2, prefix="brief-")
    time.sleep(0.3)
    assert names(memory.sessions()) == ["keep"]
    history = memory.history("brief-1")
    assert (len(history), history.messages(), history.info(), history.context()) == (0, [], None, [])
    assert memory.search("secret") == []
    assert history.append(["new"], if_last=0) == [1]


def test_a_namespace_is_destroyed(memory):
    memory.set("k", 1)
    memory.history("s").append(["a", "b"])
    memory.history("s").set_about(title="t")
    memory.retain(sessions_idle=60)
    assert memory.destroy() == 3
    assert (memory.keys(), memory.sessions(), memory.retention(), len(memory.history("s"))) == ([], [], [], 0)
    assert memory.usage().bytes == 0
    assert memory.destroy() == 0
    assert memory.history("s").append(["new"]) == [1]
