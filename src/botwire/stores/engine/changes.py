"""Read changes back from the journal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import ChangesLost
from ...queries import ListChanges
from ...records import Change, Changes, Entry, Message, Progress
from ...values import size
from .account import SEQ_BITS
from .journal import _last, _Line, _lines
from .rows import Run

SOME_BLOCKS = 16
"""Blocks that are looked through at once."""
SOME_BYTES = 1 << 20
"""Values that are read at once, at the most and one more."""


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
