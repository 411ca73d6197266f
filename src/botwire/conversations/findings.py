"""What a provider would refuse in a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from .marks import Mark, Role, Shape
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
    is_closed: bool = False
    result: tuple[int, Mark] | None = None
    is_late: bool = False


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
        self._open: dict[str, Call] = {}  # those that may still get a result
        self._closed: list[Call] = []  # those without a result at the right place
        self._role: Role | None = None  # of the last message with one

    def found(self) -> Iterator[Finding]:
        for at, turn in enumerate(self._turns):
            shape = turn.shape
            if not shape.format:
                continue
            if shape.is_empty or (shape.joins_next and not self._is_joined(at)):
                yield _empty(at, shape)
                continue
            if shape.item_id is not None:
                if shape.item_id in self._ids:
                    yield self._used(at, shape.item_id, self._ids[shape.item_id])
                    continue
                self._ids[shape.item_id] = at
            yield from self._message(at, shape)
        self._close(list(self._open.values()))
        for call in self._closed:
            yield self._unanswered(call)

    def _is_joined(self, at: int) -> bool:
        """Return whether an item that must not be the last of a turn has another after it."""
        after = next((turn.shape for turn in self._turns[at + 1 :] if turn.shape.format), None)
        return after is not None and after.role == "assistant"

    def _message(self, at: int, shape: Shape) -> Iterator[Finding]:
        if shape.role == "assistant":
            self._close_before(shape.role)
        for mark in shape.marks:
            found = self._result(at, mark) if mark.kind == "result" else self._call(at, mark, shape)
            if found is not None:
                yield found
        if shape.role in {"user", "system"}:
            self._close_before(shape.role)
        self._role = shape.role or self._role

    def _close_before(self, role: Role) -> None:
        """Close the calls that get no results after a message with this role."""
        if self._open:
            self._close([call for call in self._open.values() if self._ends(call, role)])

    def _ends(self, call: Call, role: Role) -> bool:
        rule = self._turns[call.at].shape.rule
        if rule == "later":
            return False
        if role == "assistant":
            return rule == "next" or self._role != "assistant"
        return rule != "response"

    def _close(self, calls: list[Call]) -> None:
        for call in calls:
            call.is_closed = True
            del self._open[call.mark.id]
        self._closed += calls

    def _call(self, at: int, mark: Mark, shape: Shape) -> Finding | None:
        del shape
        earlier, call = self._calls.get(mark.id), Call(at, mark)
        if earlier is not None and mark.unique and self._open.get(mark.id) is earlier:
            return self._used(at, mark.id, earlier.at, mark)  # the same call, stored twice
        if mark.id in self._open:
            self._close([self._open[mark.id]])
        self._calls[mark.id] = self._open[mark.id] = call
        if earlier is not None and mark.unique:
            return self._used(at, mark.id, earlier.at, mark, call)
        return None

    def _result(self, at: int, mark: Mark) -> Finding | None:
        call = self._open.pop(mark.id, None)
        if call is not None:
            call.result = (at, mark)
            return None
        call = self._calls.get(mark.id)
        if call is None:
            return Finding(
                "result_without_call", at, f"the result of tool call {mark.id!r} has no call before it", mark.id, mark
            )
        if call.result is None:
            call.result, call.is_late = (at, mark), True
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
