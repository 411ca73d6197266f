"""Problems of a conversation that make providers refuse it, and their repair.

The results of tool calls must be where the provider expects them:

- OpenAI chat, LangChain, LlamaIndex, AutoGen and Agent Framework: in tool messages directly after the message of the calls;
- Anthropic: in the messages directly after the turn of the calls. Messages of the assistant that follow each other
  are one turn, as Anthropic joins them;
- Pydantic AI: in requests between the response of the calls and the next response. Pydantic AI puts results first itself;
- OpenAI Responses and the OpenAI Agents SDK: anywhere after the call.

A tool that the provider runs, such as Anthropic's web search, has its result in the same turn. Data of other formats is never a
problem, and is not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from ..errors import InvalidArgument
from ..records import Message
from .edits import only, renamed, without
from .findings import Call, Finding, Kind, Turn, findings
from .marks import Mark, Place
from .shapes import answers

CANCELLED = "Cancelled: the run stopped before this tool returned."
"""The result that `repair` writes for a call without one."""

_LONGEST_ID = 64
"""The most characters of an id that OpenAI accepts."""


Action: TypeAlias = Literal["inserted", "moved", "renamed", "removed"]
"""What a repair did."""


class Problem(msgspec.Struct, frozen=True):
    """A problem of a message that makes providers refuse the conversation.

    Attributes:
        kind: ``call_without_result``, ``result_without_call``, ``duplicate_id`` or ``empty_turn``. A result at a wrong place is a
            call without a result and a result without a call.
        seq: the message.
        id: the id of the tool call or the item; None for an empty turn.
        detail: what is wrong, for a person.
        action: what a repair did: ``inserted`` a result, ``moved`` a result to its call, ``renamed`` an id, or ``removed`` the call,
            the result or the message. None: nothing.
    """

    kind: Kind
    seq: int
    id: str | None
    detail: str
    action: Action | None = None


class Repair(msgspec.Struct, frozen=True):
    """How a session becomes valid: `messages`, with their ids, replace everything after seq `after`.

    The id of a new message is None. `done` lists the problems, with the action for each.
    """

    after: int
    messages: list[tuple[str | None, Any]]
    done: list[Problem]


def problems(messages: Iterable[Message]) -> list[Problem]:
    """Return the problems of a session's messages, in order; the module says which rules there are."""
    turns = _turns(messages)
    return [_problem(turns, finding, None) for finding in findings(turns)]


def repair(messages: Iterable[Message], policy: Literal["cancel", "drop"] = "cancel") -> Repair | None:
    """Return how a session becomes valid, or None if it is.

    After the repair, `problems` finds nothing. Every other message keeps its id and data. A result at a wrong place moves to its call. A
    call with the id of an earlier one, that has a result, gets a new id together with its own result. Other repeated ids, results
    without a call and empty turns are removed.

    Args:
        messages: all messages of the session.
        policy: what happens to a call without a result. "cancel": a result that says so is inserted where the format needs it.
            "drop": the call is removed, and its message too if nothing else is in it. A call of a tool that the provider
            runs is always removed.

    Raises:
        InvalidArgument: another policy.
    """
    if policy not in {"cancel", "drop"}:
        raise InvalidArgument(f'policy is "cancel" or "drop", not {policy!r:.60}')
    turns = before = _turns(messages)
    done: list[Problem] = []
    while found := findings(turns):
        # Ids first: the other repairs need to know which result belongs to which call.
        found = [finding for finding in found if _needs_name(finding)] or found
        mender = _Mender(turns, policy)
        done += [_problem(turns, finding, mender.mend(finding)) for finding in found]
        turns = mender.result()
    if not done:
        return None
    same = 0
    while same < min(len(turns), len(before)) and turns[same] is before[same]:
        same += 1
    after = before[same - 1].seq if same else 0
    done.sort(key=lambda problem: problem.seq)
    return Repair(after or 0, [(turn.id, turn.data) for turn in turns[same:]], done)


def _turns(messages: Iterable[Message]) -> list[Turn]:
    return [Turn.of(message.data, message.seq, message.id) for message in messages]


def _needs_name(finding: Finding) -> bool:
    return finding.kind == "duplicate_id" and finding.call is not None


def _problem(turns: Sequence[Turn], finding: Finding, action: Any) -> Problem:
    return Problem(finding.kind, turns[finding.at].seq or 0, finding.id, finding.detail, action)


class _Mender:
    """Repairs the problems that were found in one walk through the messages."""

    def __init__(self, turns: list[Turn], policy: str) -> None:
        self._turns = turns
        self._policy = policy
        self._removed: dict[int, list[Mark] | None] = {}  # by message: parts, or None for all of it
        self._renamed: dict[int, list[tuple[Place, str]]] = {}
        self._numbers: dict[str, int] = {}  # the last one that was used for a new id
        self._ends: dict[int, int] = {}  # where the turn of a message ends
        self._inserted: dict[int, list[Turn]] = {}  # by the message before them
        self._ids = {id_ for turn in turns for id_ in (*turn.shape.ids, *turn.shape.results)}

    def mend(self, finding: Finding) -> str:
        """Note what to change, and return the action."""
        call = finding.call
        if call is not None and _needs_name(finding):
            return self._rename(call)
        if finding.kind == "call_without_result" and call is not None:
            if call.result is not None:
                return self._move(call, *call.result)
            if self._policy == "cancel" and not call.mark.hosted:
                return self._cancel(call)
        elif finding.kind == "result_without_call" and call is not None:
            return "moved"  # together with its call
        self._remove(finding.at, finding.mark)
        return "removed"

    def _rename(self, call: Call) -> str:
        base = call.mark.id[: _LONGEST_ID - 8]
        number = self._numbers.get(base, 1) + 1
        while (id_ := f"{base}_{number}") in self._ids:
            number += 1
        self._numbers[base] = number
        for at, mark in ((call.at, call.mark), *((call.result,) if call.result else ())):
            self._renamed.setdefault(at, []).extend((place, id_) for place in mark.places)
        return "renamed"

    def _move(self, call: Call, at: int, mark: Mark) -> str:
        turn = self._turns[at]
        is_all = mark.places[0].path == () or (len(turn.shape.marks) == 1 and turn.shape.role == "tool")
        moved = turn if is_all else Turn.of(only(turn.data, mark))
        self._insert(call, [moved])
        self._remove(at, None if is_all else mark)
        return "moved"

    def _cancel(self, call: Call) -> str:
        turn = self._turns[call.at]
        self._insert(call, [Turn.of(data) for data in answers(turn.data, turn.shape, [call.mark], CANCELLED)])
        return "inserted"

    def _insert(self, call: Call, turns: list[Turn]) -> None:
        if call.at not in self._ends:
            self._ends[call.at] = self._last_of_run(call.at)
        self._inserted.setdefault(self._ends[call.at], []).extend(turns)

    def _last_of_run(self, at: int) -> int:
        """Return the last message of the turn of a call, with the results that it has already."""
        rule, is_turn = self._turns[at].shape.rule, True
        for number in range(at + 1, len(self._turns)):
            shape = self._turns[number].shape
            if rule == "later":
                belongs = bool(shape.calls or shape.results)
            else:
                is_turn = is_turn and rule != "next" and shape.role == "assistant"
                belongs = is_turn or shape.role == "tool"
            if not belongs:
                return number - 1
        return len(self._turns) - 1

    def _remove(self, at: int, mark: Mark | None) -> None:
        known = self._removed.setdefault(at, [])
        if mark is None or known is None:
            self._removed[at] = None
        else:
            known.append(mark)

    def result(self) -> list[Turn]:
        """Return the changed messages."""
        return list(self._result())

    def _result(self) -> Iterator[Turn]:
        for at, turn in enumerate(self._turns):
            data = renamed(turn.data, self._renamed[at]) if at in self._renamed else turn.data
            marks = self._removed.get(at, [])
            left = None if marks is None else without(data, marks) if marks else data
            if left is turn.data:
                yield turn
            elif left is not None:
                changed = Turn.of(left, turn.seq, turn.id)
                if not changed.shape.is_bare:
                    yield changed
            yield from self._inserted.get(at, ())
