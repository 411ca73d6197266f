"""A session as a whole: conditions, replacements, forks, edits, summaries, and what is known about it."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from botwire import About, AsyncHistory, Conflict, History, InvalidArgument, InvalidName, InvalidValue
from botwire.errors import BotWireError


def data(history):
    return [message.data for message in history.messages()]


def test_an_append_only_after_the_last_message_that_was_read(memory):
    history = memory.history("s")
    assert history.append(["a"], if_last=0) == [1]
    assert history.append(["b", "c"], if_last=1) == [2, 3]
    with pytest.raises(Conflict) as error:
        history.append(["d"], if_last=1)
    assert error.value.details["last"] == 3
    assert data(history) == ["a", "b", "c"]
    history.append(["x"], ids=["x"])
    assert history.append(["x"], ids=["x"], if_last=0) == [4]  # a repeat of an append that succeeded


def test_an_append_only_if_nothing_but_appends_happened(memory):
    history = memory.history("s")
    history.append(["a", "b"])
    version = history.info().version
    assert history.append(["c"], if_version=version) == [3]
    history.edit(1, "A")
    with pytest.raises(Conflict) as error:
        history.append(["d"], if_version=version)
    assert error.value.details["version"] == history.info().version > version
    assert data(history) == ["A", "b", "c"]


def test_a_replacement_is_one_step(memory):
    history = memory.history("s")
    history.append(["a", "b", "c"], ids=["1", "2", "3"])
    before = history.messages()
    assert history.replace(["B", "C"], ids=["2", "4"], after=1, if_last=3) == [2, 3]
    after = history.messages()
    assert [(item.seq, item.id, item.data) for item in after] == [(1, "1", "a"), (2, "2", "B"), (3, "4", "C")]
    assert after[1].created == before[1].created
    with pytest.raises(Conflict):
        history.replace([], if_last=2)
    assert data(history) == ["a", "B", "C"]
    assert history.replace([]) == []
    assert data(history) == []


def test_a_fork_is_a_session_of_its_own(memory):
    history = memory.history("s")
    history.append(["a", "b", "c"], ids=["1", "2", "3"])
    history.set_about(title="Plans", tags=["x"])
    copy = history.fork("t", upto=2)
    assert copy.session_id == "t"
    assert [(m.seq, m.id, m.data, m.created) for m in copy.messages()] == [
        (m.seq, m.id, m.data, m.created) for m in history.messages(limit=2)
    ]
    assert copy.info().origin == ("s", 2)
    assert (copy.about().title, copy.about().tags) == ("Plans", ("x",))
    copy.append(["other"])
    assert data(history) == ["a", "b", "c"]
    with pytest.raises(Conflict):
        history.fork("t")
    assert data(copy) == ["a", "b", "other"]
    assert data(history.fork("u")) == ["a", "b", "c"]


def test_an_edit_keeps_seq_id_and_time(memory):
    history = memory.history("s")
    history.append(["a", "b"], ids=["1", "2"])
    old = history.messages()[1]
    version = history.edit(2, {"b": 2}, if_version=old.version)
    new = history.messages()[1]
    assert (new.seq, new.id, new.created, new.data, new.version) == (2, "2", old.created, {"b": 2}, version)
    assert version > old.version
    assert new.edited is not None
    with pytest.raises(Conflict) as error:
        history.edit(2, "lost", if_version=old.version)
    assert error.value.details["version"] == version
    assert history.messages()[1].data == {"b": 2}


def test_redaction_removes_the_text(memory):
    history = memory.history("s")
    history.append([{"role": "user", "content": "my secret"}, {"role": "assistant", "content": "noted"}])
    version = history.redact(1, reason="asked by the user")
    first = history.messages()[0]
    assert first.data == {"role": "user", "content": "[redacted]"}
    assert (first.redacted, first.version) == ("asked by the user", version)
    history.redact(2)
    assert history.messages()[1].redacted == ""
    assert memory.search("secret") == []


def test_a_summary_replaces_messages_only_in_a_context(memory):
    history = memory.history("s")
    history.append([{"role": "user", "content": str(number)} for number in range(4)])
    summary = [{"role": "system", "content": "They counted."}]
    version = history.summarize(upto=2, summary=summary, if_last=4)
    assert history.info().version == version
    assert history.info().summarized == 2
    assert [item["content"] for item in history.context()] == ["They counted.", "2", "3"]
    assert len(data(history)) == 4
    with pytest.raises(Conflict):
        history.summarize(upto=1, summary=summary)
    with pytest.raises(Conflict):
        history.summarize(upto=3, summary=summary, if_last=3)
    history.summarize(upto=0, summary=[])
    assert [item["content"] for item in history.context()] == ["0", "1", "2", "3"]


def test_about_keeps_what_is_not_passed(memory):
    history = memory.history("s")
    assert history.about() == About()
    first = history.set_about(title="Trip", owner="ada", tags=["a", "b", "a"], data={"customer": {"plan": "pro"}})
    assert first == history.about()
    assert (first.title, first.owner, first.tags, first.data) == (
        "Trip",
        "ada",
        ("a", "b"),
        {"customer": {"plan": "pro"}},
    )
    second = history.set_about(title="Trip to Rome")
    assert (second.title, second.owner, second.tags, second.data) == ("Trip to Rome", "ada", ("a", "b"), first.data)
    third = history.set_about(owner=None, tags=None, data=None, if_version=second.version)
    assert (third.title, third.owner, third.tags, third.data) == ("Trip to Rome", None, (), {})
    with pytest.raises(Conflict) as error:
        history.set_about(title="lost", if_version=second.version)
    assert error.value.details["version"] == third.version
    assert history.about() == third
    assert (history.info().messages, len(history)) == (0, 0)


def test_a_session_expires(memory):
    history = memory.history("s")
    assert history.expire(60) is False
    history.append(["a"])
    assert history.expire(timedelta(seconds=60)) is True
    assert history.info().expires_at - history.info().updated_at <= timedelta(seconds=61)
    assert history.expire(None) is True
    assert history.info().expires is None
    history.append(["b"], ttl=60)
    assert history.info().expires is not None
    history.expire(None)
    history.replace(["c"])
    assert history.info().expires is None
    history.replace(["d"], ttl=timedelta(seconds=60))
    assert history.info().expires_at - history.info().updated_at <= timedelta(seconds=61)


def test_problems_and_their_repair(memory):
    history = memory.history("s")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history.append([{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}])
    (problem,) = history.problems()
    assert (problem.kind, problem.seq) == ("call_without_result", 2)
    assert [item.seq for item in history.mend()] == [2]
    assert history.problems() == history.mend() == []
    assert [item["role"] for item in data(history)] == ["user", "assistant", "tool"]


WRONG = {
    "append if_last": lambda s: s.append(["x"], if_last=-1),
    "append if_last is no number": lambda s: s.append(["x"], if_last="2"),
    "append ttl": lambda s: s.append(["x"], ttl=0),
    "append if_version": lambda s: s.append(["x"], if_version=True),
    "replace ttl": lambda s: s.replace(["x"], ttl=0),
    "replace after": lambda s: s.replace(["x"], after=9),
    "replace a value": lambda s: s.replace(["x", {1, 2}]),
    "replace ids": lambda s: s.replace(["x"], ids=["a", "b"]),
    "fork upto 0": lambda s: s.fork("t", upto=0),
    "fork upto the end": lambda s: s.fork("t", upto=9),
    "fork onto itself": lambda s: s.fork("s"),
    "fork name": lambda s: s.fork(""),
    "edit seq": lambda s: s.edit(9, "x"),
    "edit seq 0": lambda s: s.edit(0, "x"),
    "edit no seq": lambda s: s.edit(None, "x"),
    "edit a value": lambda s: s.edit(1, {1}),
    "edit bytes": lambda s: s.edit(1, b"x"),
    "redact seq": lambda s: s.redact(9),
    "redact reason": lambda s: s.redact(1, reason="x" * 513),
    "redact reason is no text": lambda s: s.redact(1, reason=7),
    "summarize upto": lambda s: s.summarize(upto=9, summary=["x"]),
    "summarize nothing": lambda s: s.summarize(upto=1, summary=[]),
    "summarize upto 0": lambda s: s.summarize(upto=0, summary=["x"]),
    "summarize text": lambda s: s.summarize(upto=1, summary="x"),
    "summarize a value": lambda s: s.summarize(upto=1, summary=[{1}]),
    "context max_tokens": lambda s: s.context(0),
    "context too small": lambda s: s.context(1),
    "context system": lambda s: s.context(system="no"),
    "context start": lambda s: s.context(start="no"),
    "context count": lambda s: s.context(count=3),
    "mend policy": lambda s: s.mend("no"),
    "nothing about": lambda s: s.set_about(),
    "title": lambda s: s.set_about(title=7),
    "owner": lambda s: s.set_about(owner="a\nb"),
    "tags is a text": lambda s: s.set_about(tags="abc"),
    "tags": lambda s: s.set_about(tags=[""]),
    "too many tags": lambda s: s.set_about(tags=map(str, range(33))),
    "data is a list": lambda s: s.set_about(data=[1]),
    "data": lambda s: s.set_about(data={"x": {1}}),
    "about is too large": lambda s: s.set_about(data={"x": "y" * 16_384}),
    "expire": lambda s: s.expire(-1),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_changes_nothing(memory, name):
    history = memory.history("s")
    history.append([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    before = history.messages(), history.info(), memory.sessions()
    errors = Conflict if name == "fork onto itself" else InvalidArgument | InvalidName | InvalidValue
    with pytest.raises(BotWireError) as error:
        WRONG[name](history)
    assert isinstance(error.value, errors), error.value
    assert (history.messages(), history.info(), memory.sessions()) == before


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: s.edit(7, "x"), "session 's' has no message 7: its last is 2"),
        (lambda s: s.redact(7), "session 's' has no message 7: its last is 2"),
        (lambda s: s.summarize(upto=7, summary=["x"]), "session 's' has no message 7: its last is 2"),
        (lambda s: s.fork("t", upto=7), "session 's' has no message 7: its last is 2"),
        (lambda s: s.replace([], after=7), "session 's' has no message 7: its last is 2"),
    ],
)
def test_a_missing_message_is_named(memory, call, text):
    history = memory.history("s")
    history.append(["a", "b"])
    with pytest.raises(InvalidArgument, match=text):
        call(history)


def test_both_forms_have_the_same_methods():
    def public(kind):
        return {name: member for name, member in inspect.getmembers(kind, callable) if not name.startswith("_")}

    blocking, awaited = public(History), public(AsyncHistory)
    assert blocking.keys() == awaited.keys() - {"length"}
    for name in blocking.keys() - {"watch", "fork"}:
        assert inspect.signature(blocking[name]) == inspect.signature(awaited[name]), name
