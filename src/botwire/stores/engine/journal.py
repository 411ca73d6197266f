"""The journal: the last changes of each namespace, for those who watch it.

A change is a line: its version, and what was changed; the values are where they are stored. Like the list of what is not
indexed yet, the newest lines are in the namespace's account, which is written with every write anyway; when they are many,
they go into a block of their own, and the oldest block goes. So a write costs next to nothing more, and a namespace keeps a
bounded number of changes, some 40,000 with short keys.

Every change of the version is on a line, and the last line is that of the last change: where one is missing, somebody wrote who
knew no journal, and nobody is told of what is behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ChangesLost
from ...records import Change, Changes, Entry, ListChanges, Message, Progress
from ...values import size
from .permits import Run
from .word_index import SEQ_BITS

if TYPE_CHECKING:
    from .transaction import Account

BLOCK_CHARS = 900
"""So long are the lines in an account, and those of a block: a row of a quarter of a page is not spread over several."""
BLOCKS = 1_000
"""Blocks that are kept of a namespace."""
SOME_BLOCKS = 16
"""Blocks that are looked through at once."""
SOME_BYTES = 1 << 20
"""Values that are read at once, at the most and one more."""


# Writing


def set_mark(key: str) -> str:
    """Return what stands on a line when a key was set; neither keys nor session names have line breaks in them."""
    return "s" + key


def delete_mark(key: str, *, expired: bool) -> str:
    """Return what stands on a line when a key was removed."""
    return ("x" if expired else "d") + key


def clear_mark(prefix: str) -> str:
    """Return what stands on a line when the keys with a prefix were removed."""
    return "c" + prefix


def append_mark(session: int, first: int, last: int) -> str:
    """Return what stands on a line when messages were appended, each of which is a change of its own."""
    return f"a{session} {first} {last}"


def pop_mark(name: str, left: int) -> str:
    """Return what stands on a line when a session was shortened."""
    return f"p{left} {name}"


def put_down(run: Run, account: Account, lines: list[str]) -> None:
    """Add lines to an account, and move what is too much there into blocks."""
    recent = _joined(account.recent, lines)
    if len(recent) > BLOCK_CHARS:
        recent, blocks = _cut(recent)
        for block in blocks:
            _add_block(run, account, block)
    account.recent = recent


def _joined(recent: str, lines: list[str]) -> str:
    """Return lines behind others; messages appended one after the other take one line."""
    if not any(" a" in line for line in lines):  # as for nearly all
        return recent + "".join(lines)
    before = recent.rfind("\n", 0, -1) + 1
    kept = [recent[:before], recent[before:]]
    for line in lines:
        joined = _append_joined(kept[-1], line)
        if joined is None:
            kept.append(line)
        else:
            kept[-1] = joined
    return "".join(kept)


def _append_joined(line: str, other: str) -> str | None:
    """Return two lines as one, if they are about messages that follow each other."""
    _, _, mark = line.partition(" ")
    version, _, next_mark = other.partition(" ")
    if mark[:1] != "a" or next_mark[:1] != "a":
        return None
    session, first, last = mark.split(" ")
    next_session, next_first, next_last = next_mark.split(" ")
    if session != next_session or int(next_first) != int(last) + 1:
        return None
    return f"{version} {session} {first} {next_last}"


def _cut(recent: str) -> tuple[str, list[str]]:
    """Return what stays of the lines in an account, the very last one in any case, and the blocks before it."""
    blocks, start = [], 0
    while len(recent) - start > BLOCK_CHARS:
        end = recent.rindex("\n", start, start + BLOCK_CHARS) + 1  # a line is shorter than that
        blocks.append(recent[start:end])
        start = end
    return recent[start:], blocks


def _add_block(run: Run, account: Account, block: str) -> None:
    since = _Line.of(block[: block.index("\n") + 1]).since
    for (number,) in run(
        "add_changes", (account.id, _last(block), since, block)
    ):  # none for what is in a block already
        for version, oldest in run("oldest_changes", (account.id,)):
            if number - oldest >= BLOCKS:
                run("drop_changes", (account.id, version))


# Reading


class _Line(NamedTuple):
    """A line, taken apart. Of messages: the session's id, and the first and the last seq."""

    version: int
    kind: str
    name: str
    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, text: str) -> _Line:
        number, _, mark = text.removesuffix("\n").partition(" ")
        version, kind, rest = int(number), mark[:1], mark[1:]
        if kind == "a":
            session, first, last = rest.split(" ")
            return cls(version, kind, session, int(first), int(last))
        if kind == "p":
            left, _, name = rest.partition(" ")
            return cls(version, kind, name, int(left))
        return cls(version, kind, rest)

    @property
    def since(self) -> int:
        """The version before it."""
        return self.version - 1 - (self.last - self.first if self.kind == "a" else 0)


def _last(lines: str) -> int:
    """Return the version of the last line."""
    return int(lines[lines.rfind("\n", 0, -1) + 1 :].partition(" ")[0])


def progress(run: Run, namespace: str, now: int) -> Progress:
    """Return how far the changes of a namespace are."""
    for version, expires in run("get_progress", (namespace,)):
        return Progress(version, math.inf if expires is None else (expires - now) / 1_000_000)
    return Progress(0, math.inf)


def changes_after(run: Run, namespace: str, query: ListChanges, now: int) -> Changes:
    """Answer a query for changes; `run` need not run its statements on one snapshot.

    The account is read first. What happens afterwards is not on the lines that it has, or on more than those; and an entry
    that has another version by then, or a message that is gone, will be told of by a later line.
    """
    place, version, recent = next(iter(run("get_journal", (namespace,))), (0, 0, ""))
    after = query.after
    if after is None or after == version:
        return Changes([], version)
    if after > version or not recent or _last(recent) != version:
        raise _lost(namespace, after, version)
    lines = _lines(recent)
    if lines[0].since > after:
        lines = [*_earlier(run, namespace, place, after, version), *lines]
    told = _Telling(run, namespace, query, now).tell(list(_in_order(lines, after)), after)
    if told.version == after:
        raise _lost(namespace, after, version)
    return told


def _earlier(run: Run, namespace: str, place: Any, after: int, version: int) -> list[_Line]:
    blocks = list(run("changes_after", (place, after, SOME_BLOCKS)))
    if not blocks or blocks[0][0] > after:  # dropped since the account was read
        raise _lost(namespace, after, version)
    return [line for _, block in blocks for line in _lines(block)]


def _lines(text: str) -> list[_Line]:
    return [_Line.of(line) for line in text.split("\n")[:-1]]


def _in_order(lines: Iterable[_Line], after: int) -> Iterator[_Line]:
    """Leave out what is known, and stop where something is missing: it was not looked through, or is not there."""
    for line in lines:
        if line.version > after:
            if line.since > after:
                return
            after = line.version
            yield line


def _lost(namespace: str, after: int, version: int) -> ChangesLost:
    return ChangesLost(
        f"the changes of namespace {namespace!r} after version {after} are not all there: it is at version {version}, and "
        "keeps the last ones only. Read everything again, and watch from there",
        version=version,
    )


class _Telling:
    """Lines → changes, with what is stored now."""

    def __init__(self, run: Run, namespace: str, query: ListChanges, now: int) -> None:
        self._run = run
        self._namespace = namespace
        self._query = query
        self._now = now
        self._found: list[Change] = []
        self._room = SOME_BYTES
        self._left: dict[str, list[tuple[int, int]]] = {}

    def tell(self, lines: list[_Line], after: int) -> Changes:
        for line in lines:
            if line.kind == "p":
                self._left.setdefault(line.name, []).append((line.version, line.first))
        for line in lines:
            if self._is_full():
                break
            after = self._tell(line, max(after, line.since))
        return Changes(self._found, after)

    def _is_full(self) -> bool:
        return len(self._found) >= self._query.limit or self._room < 0

    def _add(self, change: Change, stored: Any = "") -> None:
        self._found.append(change)
        self._room -= size(stored)

    def _tell(self, line: _Line, after: int) -> int:
        """Tell of a line; return the version up to which everything is told now."""
        query, name = self._query, line.name
        match line.kind:
            case "a":
                return self._tell_messages(line, after)
            case "p" if query.wants_session(name):
                self._add(Change(version=line.version, kind="pop", session=name, left=line.first))
            case "c" if query.entries and (name.startswith(query.prefix) or query.prefix.startswith(name)):
                self._add(Change(version=line.version, kind="clear", prefix=name))
            case "d" | "x" if query.entries and name.startswith(query.prefix):
                self._add(Change(version=line.version, kind="delete" if line.kind == "d" else "expire", key=name))
            case "s" if query.entries and name.startswith(query.prefix):
                for row in self._run("get_entry", (self._namespace, name, self._now)):
                    entry = Entry(*row)
                    if entry.version == line.version:
                        self._add(Change(version=line.version, kind="set", key=name, entry=entry), entry.stored)
        return line.version

    def _tell_messages(self, line: _Line, after: int) -> int:
        session = int(line.name)
        for (name,) in self._run("session_name", (session,)):
            if not self._query.wants_session(name):
                break
            offset = line.version - line.last
            last = min([line.last, *(left for version, left in self._left.get(name, ()) if version > line.version)])
            start, most = session << SEQ_BITS, self._query.limit - len(self._found)
            for row in self._run("messages_between", (start + after - offset, start + last, most)):
                message = Message(*row)
                version = offset + message.seq
                self._add(Change(version=version, kind="append", session=name, message=message), message.stored)
                if self._is_full():
                    return version
        return line.version
