"""A process that uses shared sessions in every way until it is killed, and notes what it tries and what was acknowledged.

Each note is a line of JSON, written with one write(2): `try` before a call, and `ok`, `conflict`, `refused` or `error` after it. A try
without any of these may have been applied. Each message has a unique name: its id, or the ``key`` in its data if its id was left to
botwire.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botwire import BotWireError, Conflict, InvalidArgument, Memory, Message
from botwire.operations import Fork, Pop

NAMESPACE = "conversations"
UNNAMED = "room 2"
"""Where ids may be left to botwire. Nothing is redacted there, because that removes the ``key``."""
ROOMS = ("room 0", "room 1", UNNAMED)
"""Shared sessions that nothing ends. A writer knows what it deletes in them before it does."""
POPPED = "popped room"
"""The same, but writers pop there without a condition, so that no one knows what a call in progress deletes."""
BRIEF = ("brief 0", "brief 1")
"""Sessions that expire and are forgotten."""
TTL = 0.4
COUNT_OF_POP = 2


def name_of(message: Message) -> str:
    """Return the unique name of a message; that of one which a repair inserted is its id."""
    if message.id.startswith("m-") or not isinstance(message.data, dict):
        return message.id
    return message.data.get("key", message.id)


def digest(messages: list[Message]) -> str:
    """Return a checksum of all that a fork copies of messages."""
    rows = [(item.seq, item.id, item.stored, item.created, item.edited, item.redacted) for item in messages]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


class Writer:
    """One process. `slot` is its place among the writers, `life` counts those before it in this place."""

    def __init__(self, address: str, log: Path, slot: int, life: int) -> None:
        self.memory = Memory(NAMESPACE, address, timeout=60)
        self.rng = random.Random(f"{log.name} {life}")
        self.slot, self.life, self.number, self.words = slot, life, 0, 0
        self.unfinished = _unfinished(log)
        self._file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def run(self, operations: int) -> None:
        if self.unfinished is not None:  # as a program does that remembers what it was about to append
            self._append(self.unfinished["s"], self.unfinished["names"], self.unfinished["data"])
        for _ in range(operations):
            (step,) = self.rng.choices(list(STEPS), list(STEPS.values()))
            step(self)
        os.close(self._file)
        self.memory.close()

    # Notes

    def note(self, **fields: Any) -> None:
        os.write(
            self._file, json.dumps({"life": self.life, "i": self.number, "t": time.time(), **fields}).encode() + b"\n"
        )

    def attempt(
        self, op: str, session: str, call: Callable[[], Any], shown: Callable[[Any], dict], **fields: Any
    ) -> Any:
        """Note what is tried, do it, and note how it ended; returns the result, or None if it raised an error."""
        self.number += 1
        self.note(kind="try", op=op, s=session, **fields)
        try:
            result = call()
        except Conflict:
            self.note(kind="conflict")
        except InvalidArgument as error:
            # A pop whose answer was lost is refused when it is repeated after a redaction has erased what was popped.
            was_applied = "was applied, and the messages" in error.message
            self.note(kind="error" if was_applied else "refused", error=error.message)
        except BotWireError as error:
            self.note(kind="error", error=repr(error))
        else:
            self.note(kind="ok", **shown(result))
            return result
        return None

    # Things with unique names

    def word(self) -> str:
        self.words += 1
        return f"w{self.slot:02d}{self.life:04d}{self.words:06d}x"

    def room(self) -> str:
        return self.rng.choice((*ROOMS, POPPED))

    def new(self, prefix: str = "m") -> tuple[str, dict]:
        """Return the name and the data of a message; sometimes of a call without a result."""
        word = self.word()
        name = f"{prefix}-{word}"
        data = {"role": self.rng.choice(("user", "assistant")), "content": word, "key": name}
        if self.rng.random() < 0.06:
            function = {"name": "find", "arguments": "{}"}
            calls = [{"id": f"call-{word}", "type": "function", "function": function}]
            data = {"role": "assistant", "content": None, "tool_calls": calls, "key": name}
        return name, data

    # Steps

    def append(self) -> None:
        session = self.room()
        prefix = self.rng.choice("mp") if session == UNNAMED else "m"
        names, data = zip(*(self.new(prefix) for _ in range(self.rng.randint(1, 3))), strict=True)
        self._append(session, names, data)

    def _append(self, session: str, names: Any, data: Any, if_last: int | None = None) -> None:
        ids = list(names) if names[0].startswith("m-") else None
        self.attempt(
            "append",
            session,
            lambda: self.memory.history(session).append(list(data), ids=ids, if_last=if_last),
            lambda seqs: {"seqs": seqs},
            names=names,
            data=data,
            if_last=if_last,
        )

    def append_if_last(self) -> None:
        session = self.room()
        name, data = self.new()
        last = self.memory.history(session).messages(last=1)
        self._append(session, [name], [data], if_last=last[0].seq if last else 0)

    def append_twice(self) -> None:
        session = self.room()
        name, data = self.new()
        for _ in range(2):
            self._append(session, [name], [data])

    def edit(self) -> None:
        session, message = self._any_message()
        if message is None or message.data.get("role") == "tool":  # a repair has inserted it
            return
        name = name_of(message)
        data = {"role": "user", "content": self.word(), "key": name}
        self.attempt(
            "edit",
            session,
            lambda: self.memory.history(session).edit(message.seq, data, if_version=message.version, if_id=message.id),
            lambda version: {"to": version},
            name=name,
            data=data,
            before=message.data,
            version=message.version,
        )

    def redact(self) -> None:
        session, message = self._any_message()
        if message is None or session == UNNAMED:
            return
        history, reason = self.memory.history(session), self.word()

        def shown(version: int) -> dict:
            # Another message may have this seq by now. Only its reason says which one was redacted.
            found = history.messages(after=message.seq - 1, limit=1)
            known = found and found[0].redacted == reason
            return {"to": version, "name": name_of(found[0]) if known else None}

        self.attempt(
            "redact", session, lambda: history.redact(message.seq, reason=reason), shown, reason=reason, seq=message.seq
        )

    def _any_message(self) -> tuple[str, Message | None]:
        session = self.room()
        messages = self.memory.history(session).messages(last=20)
        return session, self.rng.choice(messages) if messages else None

    def pop(self) -> None:
        session = self.rng.choice(ROOMS)
        last = self.memory.history(session).messages(last=COUNT_OF_POP)
        if last:
            pop = Pop(session, COUNT_OF_POP, tuple(message.id for message in last))
            gone = [name_of(message) for message in last]
            self.attempt("pop", session, lambda: self._write(pop), lambda _: {}, gone=gone)

    def pop_any(self) -> None:
        history = self.memory.history(POPPED)
        self.attempt(
            "pop_any",
            POPPED,
            lambda: history.pop(COUNT_OF_POP),
            lambda popped: {"gone": [name_of(message) for message in popped]},
        )

    def compact(self) -> None:
        session = self.room()
        history = self.memory.history(session)
        known, messages = history.info(), history.messages()
        if known is None or len(messages) < 6:
            return
        after = self.rng.randint(0, len(messages) // 3)
        kept = messages[-3:]
        name, data = self.new()
        self.attempt(
            "compact",
            session,
            lambda: history.replace(
                [data, *(message.data for message in kept)],
                ids=[name, *(message.id for message in kept)],
                after=after,
                if_last=messages[-1].seq,
                if_version=known.version,
            ),
            lambda seqs: {"seqs": seqs},
            names=[name],
            data=[data],
            gone=[name_of(message) for message in messages[after:-3]],
        )

    def summarize(self) -> None:
        session = self.room()
        history = self.memory.history(session)
        known, messages = history.info(), history.messages()
        if known is None or not messages:
            return
        upto, word = self.rng.randint(1, len(messages)), self.word()
        self.attempt(
            "summarize",
            session,
            lambda: history.summarize(
                upto=upto, summary=[{"role": "system", "content": word}], if_version=known.version
            ),
            lambda version: {"to": version},
            upto=upto,
            word=word,
        )

    def mend(self) -> None:
        session = self.room()
        self.attempt("mend", session, lambda: self.memory.history(session).mend(), lambda done: {"problems": len(done)})

    def set_about(self) -> None:
        """Set an own number in the data that all share, or a title, which keeps that data."""
        session = self.room()
        history, mine = self.memory.history(session), f"{self.slot}"
        if self.rng.random() < 0.5:
            self.attempt("title", session, lambda: history.set_about(title=self.word()), lambda _: {})
            return
        about, count = history.about(), self.life * 1_000_000 + self.number
        data = {**about.data, mine: count}
        self.attempt(
            "about",
            session,
            lambda: history.set_about(data=data, if_version=about.version),
            lambda _: {},
            slot=mine,
            count=count,
        )

    def fork(self) -> None:
        session = self.room()
        history = self.memory.history(session)
        known, messages = history.info(), history.messages()
        if known is None or not messages:
            return
        upto = self.rng.randint(1, len(messages))
        target, version = f"fork {self.word()}", known.version
        fields = {"target": target, "upto": upto, "digest": digest(messages[:upto])}
        if self.rng.random() < 0.5:
            fork = Fork(session, target, upto, if_version=version)
            self.attempt("fork", session, lambda: self._write(fork), lambda _: {"exact": True}, exact=True, **fields)
            return

        def shown(_: Any) -> dict:
            now = history.info()
            return {"exact": now is not None and now.version == version}

        self.attempt("fork", session, lambda: history.fork(target, upto), shown, exact=False, **fields)

    def append_briefly(self) -> None:
        self._append(self.rng.choice(BRIEF), *([item] for item in self.new()))

    def expire(self) -> None:
        session = self.rng.choice(BRIEF)
        history = self.memory.history(session)
        self.attempt("expire", session, lambda: history.expire(TTL), lambda exists: {"exists": exists})

    def forget(self) -> None:
        session = self.rng.choice(BRIEF)
        self.attempt("forget", session, lambda: self.memory.history(session).clear(), lambda _: {})

    def search(self) -> None:
        word = f"w{self.slot:02d}{self.life:04d}{self.rng.randint(0, self.words):06d}x"
        self.attempt("search", "", lambda: self.memory.search(word), lambda hits: {"hits": len(hits)})

    def _write(self, operation: Any) -> Any:
        return self.memory.bridge.store.write(NAMESPACE, [operation])


STEPS = {
    Writer.append: 40,
    Writer.append_if_last: 10,
    Writer.append_twice: 4,
    Writer.edit: 10,
    Writer.redact: 3,
    Writer.pop: 4,
    Writer.pop_any: 1,
    Writer.compact: 8,
    Writer.summarize: 4,
    Writer.mend: 3,
    Writer.set_about: 5,
    Writer.fork: 1,
    Writer.append_briefly: 5,
    Writer.expire: 1,
    Writer.forget: 0.5,
    Writer.search: 1,
}
"""What a writer does, and how often."""


def _unfinished(log: Path) -> dict | None:
    """Return the append with ids that the writer before this one noted last, if nothing says how it ended."""
    lines = log.read_bytes().splitlines() if log.exists() else []
    last = json.loads(lines[-1]) if lines else {}
    is_append = last.get("kind") == "try" and last["op"] == "append" and last["if_last"] is None
    return last if is_append and last["s"] not in BRIEF and last["names"][0].startswith("m-") else None


def write(address: str, log: str, slot: int, life: int, operations: int = 1_000_000_000) -> None:
    """Run a writer, in its own process."""
    Writer(address, Path(log), slot, life).run(operations)
