"""What a provider would refuse in a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from .marks import Mark, Role, Rule, Shape
from .shapes import shape_of

Kind: TypeAlias = Literal["call_without_result", "result_without_call", "duplicate_id", "empty_turn"]


class Turn(msgspec.Struct):
    """A message while a conversation is examined; seq and id of a new one are None."""

    seq: int | None
    id: str | None
    data: Any
    shape: Shape

    @classmethod
    def of(cls, data: Any, seq: int | None = None, id_: str | None = None) -> Turn:
        return cls(seq, id_, data, shape_of(data))


class Call(msgspec.Struct, eq=False):
    """A tool call, where it is, and the result that belongs to it."""

    at: int
    mark: Mark
    result: tuple[int, Mark] | None = None


class Finding(msgspec.Struct, eq=False):
    """One problem. `mark` is what it is about; None: the whole message. `call` is the call of a duplicate id, or of a missing result."""

    kind: Kind
    at: int
    detail: str
    id: str | None = None
    mark: Mark | None = None
    call: Call | None = None


def findings(turns: Sequence[Turn]) -> list[Finding]:
    """Return the problems of a conversation in order."""
    walk = _Walk(turns)
    return sorted(walk.found(), key=lambda finding: finding.at)


class _Walk:
    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._ids: dict[str, int] = {}  # items, and where they are
        self._calls: dict[str, Call] = {}  # the newest call with an id
        self._open: dict[Rule, dict[str, Call]] = {
            "next": {},
            "turn": {},
            "response": {},
            "later": {},
        }  # may get a result
        self._closed: list[Call] = []  # those without a result at the right place
        self._role: Role | None = None  # of the last message with one

    def found(self) -> Iterator[Finding]:
        alone = self._alone()
        for at, turn in enumerate(self._turns):
            shape = turn.shape
            if not shape.format:
                continue
            if shape.is_empty or at in alone:
                yield _empty(at, shape)
                continue
            if shape.item_id is not None:
                if shape.item_id in self._ids:
                    yield self._used(at, shape.item_id, self._ids[shape.item_id])
                    continue
                self._ids[shape.item_id] = at
            yield from self._message(at, shape)
        self._close(*self._open)
        for call in self._closed:
            yield self._unanswered(call)

    def _alone(self) -> set[int]:
        """Return the items that need an item of the assistant after them, and have none."""
        alone, is_joined = set(), False
        for at in range(len(self._turns) - 1, -1, -1):
            shape = self._turns[at].shape
            if shape.joins_next and not is_joined:
                alone.add(at)
            elif shape.format and not shape.joins_next and not shape.is_empty:
                is_joined = shape.role == "assistant"
        return alone

    def _message(self, at: int, shape: Shape) -> Iterator[Finding]:
        if shape.role == "assistant":
            self._close("next", *(() if self._role == "assistant" else ("turn", "response")))
        for mark in shape.marks:
            found = self._result(at, mark) if mark.kind == "result" else self._call(at, mark, shape.rule)
            if found is not None:
                yield found
        if shape.role in {"user", "system"}:
            self._close("next", "turn")
        self._role = shape.role or self._role

    def _close(self, *rules: Rule) -> None:
        """Close the calls with these rules: they get no results after this message."""
        for rule in rules:
            self._closed += self._open[rule].values()
            self._open[rule].clear()

    def _waiting(self, id_: str) -> Call | None:
        """Take the open call with an id, if there is one."""
        return next((calls.pop(id_) for calls in self._open.values() if id_ in calls), None)

    def _call(self, at: int, mark: Mark, rule: Rule) -> Finding | None:
        earlier, waiting = self._calls.get(mark.id), self._waiting(mark.id)
        if waiting is not None and waiting is earlier and mark.unique:  # the same call, stored twice
            self._open[self._turns[waiting.at].shape.rule][mark.id] = waiting
            return self._used(at, mark.id, waiting.at, mark)
        if waiting is not None:
            self._closed.append(waiting)
        call = self._calls[mark.id] = self._open[rule][mark.id] = Call(at, mark)
        if earlier is not None and mark.unique:
            return self._used(at, mark.id, earlier.at, mark, call)
        return None

    def _result(self, at: int, mark: Mark) -> Finding | None:
        call = self._waiting(mark.id)
        if call is not None:
            call.result = (at, mark)
            return None
        call = self._calls.get(mark.id)
        if call is None:
            return Finding(
                "result_without_call", at, f"the result of tool call {mark.id!r} has no call before it", mark.id, mark
            )
        if call.result is None:
            call.result = (at, mark)
            detail = (
                f"the result of tool call {mark.id!r} is not directly after the call, which is in {self._name(call.at)}"
            )
            return Finding("result_without_call", at, detail, mark.id, mark, call)
        detail = f"tool call {mark.id!r} has a result already, in {self._name(call.result[0])}"
        return Finding("duplicate_id", at, detail, mark.id, mark)

    def _used(self, at: int, id_: str, earlier: int, mark: Mark | None = None, call: Call | None = None) -> Finding:
        return Finding("duplicate_id", at, f"{self._name(earlier)} has the id {id_!r} already", id_, mark, call)

    def _unanswered(self, call: Call) -> Finding:
        tool = f" of {call.mark.name!r}" if call.mark.name and call.mark.unique else ""
        detail = f"tool call {call.mark.id!r}{tool} has no result"
        if call.result is not None:
            detail += f" directly after it, only in {self._name(call.result[0])}"
        return Finding("call_without_result", call.at, detail, call.mark.id, call.mark, call)

    def _name(self, at: int) -> str:
        seq = self._turns[at].seq
        return "a new message" if seq is None else f"message {seq}"


def _empty(at: int, shape: Shape) -> Finding:
    if shape.is_empty:
        return Finding("empty_turn", at, "the assistant's message has neither content nor tool calls")
    return Finding("empty_turn", at, "the reasoning item has no item of the assistant after it", shape.item_id)
