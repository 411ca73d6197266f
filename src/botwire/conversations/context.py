"""The newest messages of a session that fit into a budget of tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, repeat
from typing import Any, Literal, TypeAlias

import msgspec

from ..errors import InvalidArgument
from ..records import Message
from ..values import decode_all
from .marks import Shape
from .plain import plain_sizes
from .quick import Mark, quick_marks
from .shapes import shape_of
from .tokens import estimate_tokens

Count: TypeAlias = Callable[[Any], float]
_Row: TypeAlias = tuple[float, Mark]
"""The tokens of a message, and what it is. A message that is not recognized at once has no tokens by the default estimate."""


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
        self._messages: list[Message] = []  # those that fit, the newest first
        self._data: list[Any] = []
        self._read = self._recent = 0  # messages read, and those of them that the summary does not cover
        self._open: dict[
            str, int
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
        decoded = decode_all([message.stored for message in page])
        if not summarized and self._add_plain(page, decoded):
            return
        rows = self._rows(page, decoded, summarized=summarized)
        done, row = 0, next(rows, None)
        while row is not None:
            if row[1] is not None and (False, 1) in self._starts and self._total <= self._max:
                done, row = self._add_quick(row, rows, page, decoded, done)
            else:
                done += 1
                tokens = row[0] if self._given is not None else estimate_tokens(decoded[-done])
                self._add(page[-done], decoded[-done], tokens, summarized=summarized)
                row = None if self.is_full else next(rows, None)

    def _add_plain(self, page: Sequence[Message], decoded: list[Any]) -> bool:
        """Read a page at once, and return True, if all messages are plain and a start is among those that fit."""
        if not page or self._open or self._given is not None or page[0].seq <= self._upto:
            return False
        plain = plain_sizes(decoded)
        if plain is None:
            return False
        sizes, roles = plain
        totals = list(accumulate(reversed(sizes), initial=self._total))
        fits = bisect_right(totals, self._max) - 1
        first, any_role = len(page) - fits, "assistant" in self._first_roles
        if fits <= 0 or not (any_role or "user" in roles[first:]):
            return False
        self._settle_held()  # none of these messages joins the next
        before = self._read
        oldest = first if any_role else roles.index("user", first)
        for number in (oldest + 1, oldest) if any_role and fits > 1 else (oldest,):
            count = len(page) - number
            self._read, self._total = before + count, totals[count]
            self._add_start(roles[number], 1)
        if fits < len(page):
            self._settle_held()
        self._read = before
        done = fits + (fits < len(page))
        self._take(page, decoded, 0, done, totals[done])
        self._update(page[-done].seq)
        return True

    def _rows(self, page: Sequence[Message], decoded: list[Any], *, summarized: bool) -> Iterator[_Row]:
        """Return what each message is, the newest first."""
        low = 0 if not page or page[0].seq > self._upto else sum(message.seq <= self._upto for message in page)
        low = len(page) if summarized else low
        own = self._given is not None
        sizes, marks = quick_marks(reversed(decoded[low:]), math.inf if own else self._max - self._total)
        unknown = repeat(None, len(page) - len(marks))
        if not own:
            return chain(zip(sizes, marks, strict=True), zip(repeat(0), unknown, strict=False))
        names = (f"message {message.seq}" for message in reversed(page))
        return zip(map(self._counted, reversed(decoded), names), chain(marks, unknown), strict=True)

    def _add_quick(
        self, row: _Row, rows: Iterator[_Row], page: Sequence[Message], decoded: list[Any], done: int
    ) -> tuple[int, _Row | None]:
        """Read messages that are recognized at once. Returns how many of the page are done, and the next row.

        Only starts of level 1 matter, because the session has one.
        """
        self._settle_held()  # none of these messages joins the next
        begin, total, limit, any_role = done, self._total, self._max, "assistant" in self._first_roles
        offset, open_ = self._read - done, self._open
        best: tuple[int, float] | None = None
        previous = best
        left: tuple[float, Any] | None = None
        for size, mark in chain((row,), rows):
            if mark is None:
                left = size, mark
                break
            total += size
            done += 1
            if type(mark) is str:
                open_.setdefault(mark, offset + done)
            elif open_ and type(mark) is list:
                self._close(mark)
            if total > limit:
                break
            if mark is True or (any_role and type(mark) is not str):
                if open_:
                    self._pending.append(_Start(offset + done, total, 1, is_summarized=False))
                else:
                    previous, best = best, (offset + done, total)
        self._take(page, decoded, begin, done, total)
        if any_role and decoded[-done]["role"] != "user":
            best = self._hold_newest(best, previous)
        if best is not None:
            self._starts[False, 1][1:] = [_Start(*best, 1, is_summarized=False)]
        self._update(page[-done].seq)
        if total > limit and not self.is_full:  # the call of a result may be older
            left = next(rows, None)
        return done, left

    def _hold_newest(
        self, best: tuple[int, float] | None, previous: tuple[int, float] | None
    ) -> tuple[int, float] | None:
        """Hold a start that was read last, because the next message may join it. Returns the oldest other start."""
        if self._pending and self._pending[-1].count == self._read:
            self._held = self._pending.pop()
        elif best is not None and best[0] == self._read:
            self._held, best = _Start(*best, 1, is_summarized=False), previous
        return best

    def _take(self, page: Sequence[Message], decoded: list[Any], begin: int, done: int, total: float) -> None:
        """Pick messages of a page that were read, apart from a last one that does not fit."""
        self._total = total
        end = len(page) - begin
        first = len(page) - done + (total > self._max)
        self._messages += page[first:end][::-1]
        self._data += decoded[first:end][::-1]
        self._read += done - begin
        self._recent += done - begin

    def _add(self, message: Message, data: Any, tokens: float, *, summarized: bool) -> None:
        summarized = summarized or message.seq <= self._upto
        shape = shape_of(data)
        self._total += tokens
        if self._total <= self._max:
            self._messages.append(message)
            self._data.append(data)
        self._read += 1
        if not summarized:
            self._recent += 1
        if shape.joins_next:
            self._held = None
        self._settle_held()
        if shape.calls or shape.results:
            self._pair(shape)
        level = 3 if shape.results else 1 if shape.role in self._first_roles else 2
        self._add_start(shape.role, level, summarized=summarized)
        self._update(message.seq, summarized=summarized)

    def _add_start(self, role: str | None, level: int, *, summarized: bool = False) -> None:
        self._settle_held()
        start = _Start(self._read, self._total, level, summarized)
        # Only an item of the assistant, or one of an unknown type, can belong to a reasoning item before it.
        if role == "user":
            self._settle(start)
        else:
            self._held = start

    def _settle_held(self) -> None:
        if self._held is not None:
            self._settle(self._held)
            self._held = None

    def _close(self, calls: Iterable[str]) -> None:
        """Drop the starts between calls and their results."""
        if not self._pending:
            for id_ in calls:
                self._open.pop(id_, None)
            return
        newest = min((self._open.pop(id_) for id_ in calls if id_ in self._open), default=math.inf)
        while self._pending and self._pending[-1].count >= newest:
            self._pending.pop()

    def _pair(self, shape: Shape) -> None:
        """Note the results whose calls are older."""
        self._close(shape.calls)
        for id_ in shape.results:
            if id_ not in shape.calls:
                self._open.setdefault(id_, self._read)

    def _settle(self, start: _Start) -> None:
        if self._open:
            self._pending.append(start)
        else:
            self._keep(start)

    def _keep(self, start: _Start) -> None:
        known = self._starts.setdefault((start.is_summarized, start.level), [start])
        if not start.is_summarized and start.tokens <= self._max:
            known[1:] = [start]

    def _update(self, seq: int, *, summarized: bool = False) -> None:
        """Set `is_full`."""
        if seq == self._system_end + 1:
            self._is_complete = self.is_full = True
        elif self._has_summary and summarized and not self._recent:
            self.is_full = True  # the summary is all there is
        elif (False, 1) in self._starts:
            at_end = self._total > self._max or summarized or (0 < self._upto == seq - 1)
            self.is_full = at_end and not self._may_begin_earlier()
        elif (True, 1) in self._starts:
            self.is_full = True

    def _may_begin_earlier(self) -> bool:
        waiting = [*self._pending, *((self._held,) if self._held is not None else ())]
        return any(s.level == 1 and not s.is_summarized and s.tokens <= self._max for s in waiting)

    def finish(self) -> Picked:
        """Return the picked messages. Call it when `is_full` is true, or when there are no older messages.

        Raises:
            InvalidArgument: nothing fits. The message names the smallest `max_tokens` that does.
        """
        if self._read == 0 or (self._has_summary and not self._recent):
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
        return Picked(self._messages[: chosen.count][::-1], chosen.tokens, self._data[: chosen.count][::-1])

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
