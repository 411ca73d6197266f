"""Whether the answer of a store fits what was asked.

A caller that reads a key must not get the value of another one, whatever the store answers: a damaged database, a proxy that mixes up
responses, or a store that someone has taken over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import operations, queries
from .operations import Operation, Result
from .queries import Query
from .records import Change, Changes, Entry, Hit, Message, Session


def mismatch(query: Query[Any], answer: Any) -> str | None:
    """Return what is wrong with the answer to a query; None: nothing."""
    check = _ANSWERS.get(type(query))
    return None if check is None else check(query, answer)


def mismatch_of_results(written: Sequence[Operation], results: Sequence[Result], *, is_new: bool = True) -> str | None:
    """Return what is wrong with the results of operations; None: nothing.

    Args:
        written: the operations.
        results: what the store returned.
        is_new: no earlier write had the same idempotency key. That one may have popped the messages that were the last ones then.
    """
    if len(written) != len(results):
        return f"{len(results):,} results for {len(written):,} operations"
    for op, result in zip(written, results, strict=True):
        check = _RESULTS.get(type(op))
        if isinstance(op, operations.Pop) and not is_new:
            op = operations.Pop(op.session, op.count)  # noqa: PLW2901 - without its ids
        if check is not None and not check(op, result):
            return f"something that is no result of a {type(op).__name__.lower()}"
    return None


# Answers


def _entry(query: queries.GetEntry, answer: Entry | None) -> str | None:
    if answer is None or answer.key == query.key:
        return None
    return f"key {answer.key!r} instead of key {query.key!r}"


def _entries(query: queries.GetEntries, answer: Sequence[Entry]) -> str | None:
    asked = set(query.keys)
    found = {entry.key for entry in answer}
    if not found <= asked:
        return f"key {min(found - asked)!r}, which was not asked for"
    return "a key twice" if len(found) < len(answer) and len(asked) == len(query.keys) else None


def _keys(query: queries.ListKeys | queries.ListEntries, keys: Iterable[str]) -> str | None:
    last = query.after
    for key in keys:
        if key <= last or not key.startswith(query.prefix):
            return f"key {key!r}, which has another prefix or comes before the key {last!r}"
        last = key
    return None


def _messages(query: queries.ListMessages, answer: Sequence[Message]) -> str | None:
    ids = {message.id for message in answer}
    if len(ids) < len(answer):
        return "a message twice"
    return _increasing("message", query.after, (message.seq for message in answer))


def _sessions(query: queries.ListSessions, answer: Sequence[Session]) -> str | None:
    before = math.inf if query.before is None else query.before
    return _increasing("session", -before, (-session.place for session in answer))


def _namespaces(query: queries.ListNamespaces, answer: Sequence[str]) -> str | None:
    return _increasing("namespace", query.after, answer)


def _hits(query: queries.Search, answer: Sequence[Hit]) -> str | None:
    for hit in answer:
        if hit.entry is not None:
            fits = query.entries and hit.message is None and hit.entry.key.startswith(query.prefix)
        else:
            fits = query.messages and hit.message is not None and query.session in {None, hit.session}
        if not fits:
            return f"a hit that was not asked for: {hit.entry.key if hit.entry else hit.session!r}"
    return None


def _changes(query: queries.ListChanges, answer: Changes) -> str | None:
    after = query.after or 0
    for change in answer.changes:
        if not after < change.version <= answer.version:
            return f"change {change.version} after change {after}"
        if not _is_whole(change) or not _is_wanted(query, change):
            return f"a change that was not asked for: {change.kind} {change.key or change.session or change.prefix!r}"
        after = change.version
    return f"version {answer.version} after version {after}" if answer.version < after else None


_FIELDS = {
    "set": {"key", "entry"},
    "delete": {"key"},
    "expire": {"key"},
    "clear": {"prefix"},
    "append": {"session", "message"},
    "pop": {"session", "left"},
}
"""The fields that a change of a kind has, beside its version."""
_ALL = sorted(set().union(*_FIELDS.values()))


def _is_whole(change: Change) -> bool:
    fields = {name for name in _ALL if getattr(change, name) is not None}
    return fields == _FIELDS[change.kind] and (change.entry is None or change.entry.key == change.key)


def _is_wanted(query: queries.ListChanges, change: Change) -> bool:
    if change.session is not None:
        return query.wants_session(change.session)
    if change.prefix is not None:
        return query.entries and (change.prefix.startswith(query.prefix) or query.prefix.startswith(change.prefix))
    return query.entries and change.key is not None and change.key.startswith(query.prefix)


def _increasing(what: str, last: Any, positions: Iterable[Any]) -> str | None:
    for position in positions:
        if position <= last:
            return f"a {what} out of order"
        last = position
    return None


def _within(check: Callable[[Any, Any], str | None]) -> Callable[[Any, Any], str | None]:
    """Check the number of rows too."""

    def run(query: Any, answer: Sequence[Any]) -> str | None:
        most = getattr(query, "last", None)
        most = query.limit if most is None else most
        if most is not None and len(answer) > most:
            return f"{len(answer):,} rows instead of {most:,} at most"
        return check(query, answer)

    return run


_ANSWERS: Mapping[type, Callable[[Any, Any], str | None]] = {
    queries.GetEntry: _entry,
    queries.GetEntries: _entries,
    queries.ListKeys: _within(_keys),
    queries.ListEntries: _within(lambda query, answer: _keys(query, (entry.key for entry in answer))),
    queries.ListMessages: _within(_messages),
    queries.ListSessions: _within(_sessions),
    queries.ListNamespaces: _within(_namespaces),
    queries.Search: _within(_hits),
    queries.ListChanges: _changes,
}
"""Other queries are answered by a number or a state, which says nothing about what was asked."""


# Results


def _appended(op: operations.Append, result: Any) -> bool:
    return isinstance(result, list) and len(result) == len(op.messages) and all(type(seq) is int for seq in result)


def _popped(op: operations.Pop, result: Any) -> bool:
    if not isinstance(result, list) or not all(isinstance(item, Message) for item in result):
        return False
    ids = tuple(message.id for message in result)
    return op.if_ids == ids if op.if_ids is not None else len(set(ids)) == len(ids) <= op.count


def _is(*kinds: type) -> Callable[[Any, Any], bool]:
    return lambda _, result: type(result) in kinds


_RESULTS: Mapping[type, Callable[[Any, Any], bool]] = {
    operations.Put: _is(int),
    operations.Delete: _is(bool),
    operations.Require: _is(int),
    operations.Increment: _is(int, float),
    operations.Append: _appended,
    operations.Clear: _is(int),
    operations.Forget: _is(int),
    operations.Pop: _popped,
    operations.Expire: _is(bool),
    operations.SetVectors: _is(int),
}
