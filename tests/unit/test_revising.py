"""Changes that depend on what a session holds lose nothing of what others write in the meantime."""

from __future__ import annotations

import time

import pytest

from botwire import Conflict, InvalidArgument, Memory
from botwire.operations import Edit, Replace, SetAbout
from botwire.testing.strategies import repeating
from botwire.timestamps import new_id
from botwire.values import encode_json
from tests.unit.test_reading import Watched

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


class Interfering(Watched):
    """A store in which others write before each of the first writes of a kind."""

    def __init__(self, memory, kind, interfere, times=1):
        super().__init__(memory)
        self.kind, self.interfere, self.times = kind, interfere, times

    def write(self, namespace, operations, *, idempotency_key=None):
        if self.times and isinstance(operations[0], self.kind):
            self.times -= 1
            self.interfere()
        return super().write(namespace, operations, idempotency_key=idempotency_key)


@pytest.fixture
def direct(tmp_path):
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        yield memory


@pytest.fixture
def beside(direct):
    """Return a history of a memory, and others that write at its worst moment."""

    def make(kind, interfere, times=1):
        return Memory("n", store=Interfering(direct, kind, lambda: interfere(direct.history("s")), times)).history("s")

    return make


def test_a_repair_keeps_what_others_append(direct, beside):
    direct.history("s").append([{"role": "user", "content": "hi"}, CALL], ids=["1", "2"])
    history = beside(Replace, lambda other: other.append([{"role": "user", "content": "still there?"}], ids=["3"]))
    assert [(item.kind, item.seq) for item in history.mend()] == [("call_without_result", 2)]
    found = history.messages()
    assert [item.data["role"] for item in found] == ["user", "assistant", "tool", "user"]
    assert [item.id for item in found][:2] == ["1", "2"]
    assert found[3].id == "3"
    assert history.problems() == []


def test_a_repair_sees_what_others_edit(direct, beside):
    direct.history("s").append([{"role": "user", "content": "hi"}, CALL, {"role": "user", "content": "old"}])
    history = beside(Replace, lambda other: other.edit(3, {"role": "user", "content": "new"}))
    history.mend()
    assert history.messages()[-1].data["content"] == "new"


def test_a_result_that_arrives_in_time_needs_no_repair(direct, beside):
    direct.history("s").append([{"role": "user", "content": "hi"}, CALL])
    history = beside(Replace, lambda other: other.append([{"role": "tool", "tool_call_id": "c", "content": "done"}]))
    assert history.mend() == []
    assert len(history) == 3


def test_a_repair_gives_up(direct, beside):
    direct.history("s").append([{"role": "user", "content": "hi"}, CALL])
    history = beside(Replace, lambda other: other.append([{"role": "user", "content": "again"}]), times=100)
    with pytest.raises(Conflict, match="session 's' was changed by other clients 100 times"):
        history.mend()
    assert len(history) == 102


def test_problems_of_a_session_that_others_edit(shared_server):
    """It is read in two answers, of which the first has a call, and the second its result."""

    def call(name):
        return {**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": name}], "padding": "x" * (5 << 20)}

    def rename():
        name = new_id()
        result = {"role": "tool", "tool_call_id": name, "content": "done"}
        edits = [Edit("s", 1, encode_json(call(name))), Edit("s", 2, encode_json(result))]
        direct.bridge.store.write(namespace, edits)
        time.sleep(0.2)

    namespace = new_id()
    with (
        Memory(namespace, f"sqlite:///{shared_server.db}") as direct,
        Memory(namespace, shared_server.url, timeout=60) as memory,
    ):
        direct.history("s").append([call("c"), "a result"])
        rename()
        with repeating(rename, 1):
            assert [memory.history("s").problems() for _ in range(30)] == [[]] * 30


def test_dropping_deletes_the_call(direct):
    history = direct.history("s")
    history.append([{"role": "user", "content": "hi"}, CALL, {"role": "user", "content": "again"}])
    history.mend("drop")
    assert [item.data["content"] for item in history] == ["hi", "again"]


def test_a_repair_of_too_many_messages_is_refused(direct):
    history = direct.history("s")
    history.append([CALL])
    for _ in range(2):
        history.append([{"role": "user", "content": "x"}] * 5_000)
    with pytest.raises(InvalidArgument, match="10,001 messages"):
        history.mend()
    assert len(history) == 10_001


def test_a_redaction_covers_what_others_edit(direct, beside):
    direct.history("s").append([{"role": "user", "content": "a secret"}])
    history = beside(Edit, lambda other: other.edit(1, {"role": "user", "content": "another secret", "name": "Ada"}))
    history.redact(1, reason="policy")
    (message,) = history.messages()
    assert message.data["content"] == "[redacted]"
    assert message.data.keys() == {"role", "content", "name"}  # the form of the newer text
    assert "secret" not in message.stored
    assert message.redacted == "policy"


def test_a_redaction_writes_the_text_of_no_other_message(direct, beside):
    """Another message gets the seq, and has the same version, because one append wrote both."""
    direct.history("s").append([{"role": "user", "content": text} for text in ("hello", "a secret")], ids=["a", "b"])
    history = beside(Edit, lambda other: other.replace([other.messages()[1].data], ids=["b"]))
    history.redact(1)
    (message,) = history.messages()
    assert (message.id, message.data["content"], message.redacted) == ("b", "[redacted]", "")


def test_a_title_keeps_the_tags_that_others_set(direct, beside):
    history = beside(SetAbout, lambda other: other.set_about(tags=["x"]))
    about = history.set_about(title="Trip")
    assert (about.title, about.tags) == ("Trip", ("x",))
    assert direct.history("s").about() == about


def test_a_version_of_about_is_checked_in_the_write(direct, beside):
    version = direct.history("s").set_about(title="one").version
    history = beside(SetAbout, lambda other: other.set_about(title="two"))
    with pytest.raises(Conflict) as error:
        history.set_about(title="three", if_version=version)
    assert error.value.details["version"] == direct.history("s").about().version
    assert direct.history("s").about().title == "two"
