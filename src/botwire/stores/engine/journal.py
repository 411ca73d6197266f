"""The journal: the last changes of each namespace, for those who watch it.

A change is a line: its version, and what was changed; the values are where they are stored. Like the list of what is not
indexed yet, the newest lines are in the namespace's account, which is written with every write anyway; when they are many,
they go into a block of their own, and the oldest block goes. So a write costs next to nothing more, and a namespace keeps a
bounded number of changes, some 40,000 with short keys.

Every change of the version is on a line, and the last line is that of the last change: where one is missing, somebody wrote who
knew no journal, and nobody is told of what is behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .rows import Run

if TYPE_CHECKING:
    from .account import Account

BLOCK_CHARS = 900
"""So long are the lines in an account, and those of a block: a row of a quarter of a page is not spread over several."""
BLOCKS = 1_000
"""Blocks that are kept of a namespace."""


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


def _lines(text: str) -> list[_Line]:
    return [_Line.of(line) for line in text.split("\n")[:-1]]
