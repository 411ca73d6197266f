"""The newest messages of a session that fit into a budget of tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import msgspec

from ..errors import InvalidArgument
from ..records import Message
from ..values import decode_all
from .measures import Id, Measure, measures_of
from .shapes import shape_of
from .tokens import estimate_tokens

Count: TypeAlias = Callable[[Any], float]
_BEST = (False, 1)
"""The key of the starts that are taken if there are any."""


class Picked(msgspec.Struct, frozen=True):
    """The picked messages in order, their data, and the tokens of these, the summary and the system messages together."""

    messages: list[Message]
    tokens: float
    data: list[Any]


class _Start(msgspec.Struct, frozen=True):
    """A message that a context may begin with.

    `count` messages are picked then, with `tokens` in all. The lowest `level` that a session has is used: 1, a message that providers
    accept as the first; 2, another that is no result; 3, any. `is_summarized`: the summary covers it.
    """

    count: int
    tokens: float
    level: int
    is_summarized: bool


class Picker:
    """Picks the newest messages of a session that fit. The caller adds pages of messages, from the newest to the oldest.

    ::

        picker = Picker(max_tokens=8_000)
        while not picker.is_full and (page := the messages before those that were added, in order):
            picker.add(page)
        picked = picker.finish()

    The picked messages have no gap, and none is newer. They never separate a tool call from its results, or a reasoning item from
    the item after it. They begin with a user's message, or with data without a role. If the session has none that they can begin
    with, they begin with any message that is not a tool result.

    Args:
        max_tokens: the limit, 1 or more, for the picked messages, the summary and the system messages together. None: no limit.
        count: returns the tokens of a message's data, a finite number of at least 0. It is called once for each message. None:
            `estimate_tokens`.
        system: messages from the start of the session that the caller sends in any case. They are not picked again.
        summary: the data of messages that replace the messages up to `upto`. After a user's message, the picked messages may also
            begin with an assistant's.
        start: "user", as above; "any": with any message that is not a tool result.
        upto: the last seq that the summary covers. With it, a picker needs no page with older messages to know that it is full.

    Raises:
        InvalidArgument: an argument is wrong, or `count` raised or returned something else. `add` raises it too.
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        count: Count | None = None,
        system: Sequence[Message] = (),
        summary: Sequence[Any] = (),
        start: Literal["user", "any"] = "user",
        upto: int = 0,
    ) -> None:
        self._max = _limit(max_tokens)
        self._given = count
        self._first_roles = _first_roles(start, summary)
        self._system_end = max((message.seq for message in system), default=0)
        self._upto = upto
        self._has_summary = bool(summary)
        self._base: float = sum(self._counted(message.data, f"message {message.seq}") for message in system)
        self._base += sum(self._counted(data, "the summary") for data in summary)
        self._total = self._base
        self._messages: list[Message] = []  # the newest first
        self._read = 0
        self._has_recent = False  # whether the summary does not cover one of the messages that were read
        self._open: dict[
            Id, int
        ] = {}  # ids of results whose call has not come yet, and where the newest such result is
        self._held: _Start | None = None  # a start, unless the message before it joins it
        self._pending: list[_Start] = []  # starts that are valid if no open result has a call
        self._starts: dict[
            tuple[bool, int], list[_Start]
        ] = {}  # by is_summarized and level: the newest, and the oldest that fits
        self._is_complete = False
        self.is_full = False
        """Whether no older message can change the result."""

    @property
    def tokens(self) -> float:
        """The tokens of the messages that were read, the summary and the system messages."""
        return self._total

    def add(self, page: Sequence[Message], *, summarized: bool = False) -> None:
        """Read a page of messages, in order. All are older than those of the pages before.

        Args:
            page: the messages.
            summarized: whether the summary covers them.
        """
        if page and page[0].seq <= self._system_end:
            page = [message for message in page if message.seq > self._system_end]
            self._is_complete = self.is_full = self.is_full or not page
        if self.is_full:
            return
        split = (
            0 if summarized or not page or page[0].seq > self._upto else sum(item.seq <= self._upto for item in page)
        )
        for part, is_summarized in ((page[split:], summarized), (page[:split], True)):
            if part and not self.is_full:
                measures = measures_of([message.stored for message in part])[::-1]
                self._messages += part[::-1]
                self._has_recent = self._has_recent or not is_summarized
                self._settle_held(joined=measures[0].joins_next)
                if is_summarized or not self._add_plain(part, measures):
                    self._add_part(part, measures, summarized=is_summarized)

    def _add_plain(self, page: Sequence[Message], measures: list[Measure]) -> bool:
        """Read messages at once, and return True, if all are plain and a start is among those that fit."""
        roles = [measure.plain for measure in measures]
        if None in roles or self._open or self._pending or self._given is not None:
            return False
        totals = list(accumulate([measure.tokens for measure in measures], initial=self._total))
        fits = max(bisect_right(totals, self._max) - 1, 0)
        fitting = roles[:fits]
        if fits and "assistant" in self._first_roles:
            newest, oldest = 1, fits
        elif "user" in fitting:
            newest, oldest = fitting.index("user") + 1, fits - fitting[::-1].index("user")
        else:
            return False
        if oldest == len(page) and roles[-1] != "user":  # the message before it may join it
            self._held = _Start(self._read + oldest, totals[oldest], 1, is_summarized=False)
            oldest -= 1
        for number in (newest, oldest) if newest <= oldest else ():
            self._keep(_Start(self._read + number, totals[number], 1, is_summarized=False))
        read = min(fits + 1, len(page))
        self._total = totals[read]
        self._read += read
        self._is_full_at(page[-read].seq, self._total, summarized=False)
        return True

    def _add_part(self, page: Sequence[Message], measures: list[Measure], *, summarized: bool) -> None:
        """Read messages, the newest first, until no older one matters."""
        limit, roles, open_ = self._max, self._first_roles, self._open
        total, read, begin = self._total, self._read, self._read
        is_known, best = _BEST in self._starts, None
        # Whether the message before each one joins it. That of the first is not known yet.
        joined: list[bool | None] = [measure[-1] for measure in measures[1:]]
        joined.append(None)
        for (tokens, role, _, calls, results, _), is_joined in zip(self._counting(page, measures), joined, strict=True):
            total += tokens
            read += 1
            if calls or results:
                self._pair(calls, results, read)
            if is_known and (role not in roles or results or summarized or total > limit):
                pass  # a better start is known
            # Only an item of the assistant, or one of an unknown type, can belong to a reasoning item before it.
            elif is_joined is not False and role != "user":
                if is_joined is None:
                    self._held = self._start(role, results, read, total, summarized=summarized)
            elif open_ or not is_known:
                self._settle(self._start(role, results, read, total, summarized=summarized))
                is_known = _BEST in self._starts
            else:
                best = read, total
            if (total > limit or summarized) and self._is_full_at(page[begin - read].seq, total, summarized=summarized):
                break
        if best is not None and not summarized:
            self._starts[_BEST][1:] = [_Start(*best, 1, is_summarized=False)]
        self._total, self._read = total, read
        self._is_full_at(page[begin - read].seq, total, summarized=summarized)

    def _counting(self, page: Sequence[Message], measures: list[Measure]) -> Iterable[Measure]:
        """Return the measures of messages, the newest first. A given function counts when they are asked for."""
        if self._given is None:
            return measures
        return (
            measure._replace(tokens=self._counted(message.data, f"message {message.seq}"))
            for message, measure in zip(reversed(page), measures, strict=True)
        )

    def _start(self, role: str | None, results: tuple[Id, ...], read: int, total: float, *, summarized: bool) -> _Start:
        return _Start(read, total, 3 if results else 1 if role in self._first_roles else 2, summarized)

    def _settle_held(self, *, joined: bool = False) -> None:
        held, self._held = self._held, None
        if held is not None and not joined:
            self._settle(held)

    def _close(self, calls: Iterable[Id]) -> None:
        """Drop the starts between calls and their results."""
        newest = min((self._open.pop(id_) for id_ in calls if id_ in self._open), default=math.inf)
        while self._pending and self._pending[-1].count >= newest:
            self._pending.pop()

    def _pair(self, calls: tuple[Id, ...], results: tuple[Id, ...], read: int) -> None:
        """Note the results whose calls are older."""
        open_ = self._open
        if calls and open_:
            if self._pending:
                self._close(calls)
            else:
                for id_ in calls:
                    open_.pop(id_, None)
        for id_ in results:
            if id_ not in calls:
                open_.setdefault(id_, read)

    def _settle(self, start: _Start) -> None:
        if self._open:
            self._pending.append(start)
        else:
            self._keep(start)

    def _keep(self, start: _Start) -> None:
        known = self._starts.setdefault((start.is_summarized, start.level), [start])
        if not start.is_summarized and start.tokens <= self._max:
            known[1:] = [start]

    def _is_full_at(self, seq: int, total: float, *, summarized: bool) -> bool:
        """Set `is_full` after a message was read, and return it."""
        if seq == self._system_end + 1:
            self._is_complete = self.is_full = True
        elif self._has_summary and summarized and not self._has_recent:
            self.is_full = True  # the summary is all there is
        elif _BEST in self._starts:
            at_end = total > self._max or summarized or (0 < self._upto == seq - 1)
            self.is_full = at_end and not self._may_begin_earlier()
        elif (True, 1) in self._starts:
            self.is_full = True
        return self.is_full

    def _may_begin_earlier(self) -> bool:
        waiting = [*self._pending, *((self._held,) if self._held is not None else ())]
        return any(s.level == 1 and not s.is_summarized and s.tokens <= self._max for s in waiting)

    def finish(self) -> Picked:
        """Return the picked messages. Call it when `is_full` is true, or when there are no older messages.

        Raises:
            InvalidArgument: nothing fits. The message names the smallest `max_tokens` that does.
        """
        if self._read == 0 or (self._has_summary and not self._has_recent):
            if self._base > self._max:
                raise self._too_small(self._base)
            return Picked([], self._base, [])
        if not self.is_full or self._is_complete:
            self._settle_held()
            for start in self._pending:  # no older message has their calls
                self._keep(start)
            self._pending, self._open = [], {}
        starts = next(self._starts[key] for key in _ORDER if key in self._starts)
        chosen = starts[-1]
        if chosen.tokens > self._max:
            raise self._too_small(starts[0].tokens)
        messages = self._messages[: chosen.count][::-1]
        return Picked(messages, chosen.tokens, decode_all([message.stored for message in messages]))

    def _too_small(self, least: float) -> InvalidArgument:
        needs = f"max_tokens is {self._max}; the smallest context of this session needs {_shown(least)}"
        parts = (
            f"the summary and system messages need {_shown(self._base)}, the newest turn {_shown(least - self._base)}"
        )
        return InvalidArgument(f"{needs}: {parts}. Pass at least {math.ceil(least)}", minimum=math.ceil(least))

    def _counted(self, data: Any, name: str) -> float:
        if self._given is None:
            return estimate_tokens(data)
        try:
            tokens = self._given(data)
        except Exception as error:
            raise InvalidArgument(f"count failed for {name}: {type(error).__name__}: {error}") from error
        if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens < math.inf:
            raise InvalidArgument(
                f"count returned {tokens!r:.60} for {name}: it must return a finite number of at least 0"
            )
        return tokens


_ORDER = [(is_summarized, level) for level in (1, 2, 3) for is_summarized in (False, True)]


def _limit(max_tokens: Any) -> float:
    if max_tokens is None:
        return math.inf
    if type(max_tokens) is not int or max_tokens < 1:
        raise InvalidArgument(f"max_tokens is an int of at least 1, or None, not {max_tokens!r:.60}")
    return max_tokens


def _first_roles(start: str, summary: Sequence[Any]) -> Iterable[str | None]:
    if start not in {"user", "any"}:
        raise InvalidArgument(f'start is "user" or "any", not {start!r:.60}')
    if start == "any":
        return frozenset({"system", "user", "assistant", "tool", None})
    if summary and shape_of(summary[-1]).role == "user":
        return frozenset({"user", "assistant", None})
    return frozenset({"user", None})


def _shown(tokens: float) -> str:
    return f"{tokens:,}" if isinstance(tokens, int) else f"{tokens:,.1f}"
