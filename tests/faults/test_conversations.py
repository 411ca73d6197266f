"""Processes that share sessions and are killed lose nothing, damage nothing, and delete nothing that they did not know."""

from __future__ import annotations

import time

import pytest

from botwire import Memory
from botwire.operations import Pop
from botwire.stores.sqlite.backup import backup
from tests.faults.conversation_check import Check, read_notes
from tests.faults.conversation_writer import NAMESPACE, ROOMS, TTL, Writer
from tests.faults.conversations import KINDS, Drill
from tests.faults.scale import rounds

SECONDS = rounds(5.0, 60.0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_killed_writers_had_acknowledged_is_kept(tmp_path, kind, figures):
    with Drill(tmp_path, kind, seed=1) as drill:
        drill.run(SECONDS)
        faults = drill.faults()
    figures(**{f"{what} over {kind}": many for what, many in drill.counts.items() if " " not in what})
    assert faults == []
    assert drill.counts["acknowledged"] > 50
    assert drill.counts["kills"] > 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_pop_whose_repeat_comes_after_a_redaction_counts_as_applied(tmp_path, request, kind):
    """Its first answer is lost, and the second one has no messages, because the redaction has erased them."""
    address = f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    writer, room = Writer(address, tmp_path / "0.log", 0, 1), ROOMS[0]
    names, data = zip(*(writer.new() for _ in range(4)), strict=True)
    writer._append(room, names, data)
    pop = Pop(room, 2, names[2:])

    def pop_twice():
        store = writer.memory.bridge.store
        store.write(NAMESPACE, [pop], idempotency_key="one")
        writer.memory.history(room).redact(1, reason="law")
        store.write(NAMESPACE, [pop], idempotency_key="one")

    writer.attempt("pop", room, pop_twice, lambda _: {}, gone=names[2:])
    writer.attempt("redact", room, lambda: None, lambda _: {"to": 0, "name": None}, reason="law", seq=1)
    writer.run(0)
    notes = read_notes(tmp_path)
    assert [item.outcome for item in notes] == ["ok", "error", "ok"]
    assert "was applied" in notes[1]["error"]
    assert Check(address, notes).faults == []
    notes[1].outcome = "refused"
    assert Check(address, notes).counts["lost"] == 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file that one writer has written, and its notes."""
    folder = tmp_path_factory.mktemp("written")
    Writer(f"sqlite:///{folder}/memory.db", folder / "0.log", 0, 1).run(400)
    time.sleep(TTL)
    return folder


def lose_a_message(memory):
    history = _room(memory)
    messages = history.messages()
    history.replace([item.data for item in messages[1:]], ids=[item.id for item in messages[1:]])


def lose_an_edit(memory):
    for room in ROOMS:
        history = memory.history(room)
        for message in history.messages():
            if message.edited is not None and message.redacted is None:
                history.edit(message.seq, {**message.data, "content": "w000000000000x"})
                return
    raise AssertionError("nothing was edited")


def write_a_message_twice(memory):
    history = _room(memory)
    history.append([history.messages()[0].data], ids=["m-again"])


def change_a_fork(memory):
    fork = next(session for session in memory.sessions() if session.name.startswith("fork "))
    history = memory.history(fork.name)
    history.edit(1, {**history.messages()[0].data, "content": "other"})


def lose_a_number(memory):
    history = next(history for room in ROOMS if (history := memory.history(room)).about().data)
    history.set_about(data=None)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lose_a_message, "lost"),
        (lose_an_edit, "damaged"),
        (write_a_message_twice, "damaged"),
        (change_a_fork, "damaged"),
        (lose_a_number, "lost"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, written, plant, kind):
    backup(written / "memory.db", tmp_path / "memory.db")
    address = f"sqlite:///{tmp_path}/memory.db"
    assert Check(address, read_notes(written)).faults == []
    with Memory(NAMESPACE, address) as memory:
        plant(memory)
    assert Check(address, read_notes(written)).counts[kind] > 0


def _room(memory):
    return next(history for room in ROOMS if len(history := memory.history(room)) > 1)
