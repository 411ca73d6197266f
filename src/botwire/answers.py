"""Whether the answer of a store fits what was asked.

A caller that reads a key must not get the value of another one, whatever the store answers: a damaged database, a proxy that mixes up
responses, or a store that someone has taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import operations, queries
from .operations import Operation, Result
from .queries import Query
from .records import Change, Changes, Context, Entry, Hit, Message, Rule, Session


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


def _session(query: queries.GetSession, answer: Session | None) -> str | None:
    if answer is None:
        return None
    if answer.name != query.session:
        return f"session {answer.name!r} instead of session {query.session!r}"
    return _preview(answer, asked=query.preview)


def _sessions(query: queries.ListSessions, answer: Sequence[Session]) -> str | None:
    if len({session.name for session in answer}) < len(answer):
        return "a session twice"
    for session in answer:
        if not _fits(query, session):
            return f"session {session.name!r}, which was not asked for"
        if (wrong := _preview(session, asked=query.preview)) is not None:
            return wrong
    places = [(session.updated, session.place) if query.order == "active" else session.place for session in answer]
    if query.after:
        updated, _, place = query.after.partition(".")
        places.insert(0, (int(updated), int(place)) if query.order == "active" else int(place))
    return _increasing("session", places[-1], reversed(places[:-1])) if places else None


def _fits(query: queries.ListSessions, session: Session) -> bool:
    """Whether a session has what can be checked without its title and data, which may be encrypted."""
    about = session.about
    return (
        session.name.startswith(query.prefix)
        and (query.tag is None or query.tag in about.tags)
        and (query.since is None or session.updated >= query.since)
        and ("owner" not in query.where or about.owner == query.where["owner"])
    )


def _preview(session: Session, *, asked: bool) -> str | None:
    found = session.preview
    if (found is not None) != (asked and session.messages > 0):
        return f"session {session.name!r} {'without' if found is None else 'with'} its last message"
    if found is not None and found.seq != session.messages:
        return f"message {found.seq} as the last one of the {session.messages} of session {session.name!r}"
    return None


def _context(query: queries.GetContext, answer: Context) -> str | None:
    if (answer.summary is None) != (answer.summarized == 0) or not 0 <= answer.summarized <= answer.last:
        return f"a summary up to message {answer.summarized} of {answer.last}"
    before = answer.last + 1 if query.before is None else query.before
    first = 1 if before <= answer.summarized + 1 else answer.summarized + 1
    head, seqs = ([message.seq for message in found] for found in (answer.head, answer.messages))
    if len({message.id for message in answer.messages}) < len(seqs):
        return "a message twice"
    if len(seqs) > query.last or len(head) > query.head:
        return f"{len(head)} and {len(seqs)} messages instead of {query.head} and {query.last} at most"
    end = min(before, answer.last + 1)
    if head != list(range(1, len(head) + 1)) or len(head) > answer.last or seqs != list(range(end - len(seqs), end)):
        return "messages out of order, or not the newest ones"
    return f"message {seqs[0]}, which the summary covers" if seqs and seqs[0] < first else None


def _rules(_: queries.GetRetention, answer: Sequence[Rule]) -> str | None:
    return _increasing("rule", None, (rule.prefix for rule in answer))


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
    "edit": {"session", "message"},
    "pop": {"session", "left"},
    "about": {"session"},
    "summary": {"session"},
}
"""The fields that a change of a kind has, beside its version. A change of the kind ``expire`` may have a session instead of a key."""
_ALL = sorted(set().union(*_FIELDS.values()))


def _is_whole(change: Change) -> bool:
    fields = {name for name in _ALL if getattr(change, name) is not None}
    if change.kind == "expire" and fields == {"session"}:
        return True
    return fields == _FIELDS[change.kind] and (change.entry is None or change.entry.key == change.key)


def _is_wanted(query: queries.ListChanges, change: Change) -> bool:
    if change.session is not None:
        return query.wants_session(change.session)
    if change.prefix is not None:
        return query.entries and (change.prefix.startswith(query.prefix) or query.prefix.startswith(change.prefix))
    return query.entries and change.key is not None and change.key.startswith(query.prefix)


def _increasing(what: str, last: Any, positions: Iterable[Any]) -> str | None:
    """Check that positions increase, the first one from `last` on (None: it may be any)."""
    for position in positions:
        if last is not None and position <= last:
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
    queries.GetSession: _session,
    queries.ListSessions: _within(_sessions),
    queries.GetContext: _context,
    queries.GetRetention: _rules,
    queries.ListNamespaces: _within(_namespaces),
    queries.Search: _within(_hits),
    queries.ListChanges: _changes,
}
"""Other queries are answered by a number or a state, which says nothing about what was asked."""


# Results


def _appended(op: operations.Append | operations.Replace, result: Any) -> bool:
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
    operations.Replace: _appended,
    operations.Fork: _is(int),
    operations.Edit: _is(int),
    operations.Summarize: _is(int),
    operations.SetAbout: _is(int),
    operations.SetExpiry: _is(bool),
    operations.Retain: _is(bool),
    operations.Clear: _is(int),
    operations.Forget: _is(int),
    operations.Pop: _popped,
    operations.Expire: _is(bool),
    operations.SetVectors: _is(int),
    operations.Destroy: _is(int),
}
