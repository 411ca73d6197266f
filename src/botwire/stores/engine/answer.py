"""Queries → rows → records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ...plans import DAY, Plans
from ...queries import (
    CountEntries,
    CountMessages,
    GetEntries,
    GetEntry,
    GetProgress,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    ListTexts,
    Query,
    Search,
)
from ...records import Changes, Entry, Hit, Message, Progress, Session, Text, Usage
from . import changes
from .account import SEQ_BITS, Account, day_of
from .ranges import end_of
from .rows import Row, Run
from .search import search
from .vectors import list_texts, refuse_if_off

FEW = 50
"""Rows that are read in less time than it takes to change threads."""
EVERYTHING = -1
"""SQLite's LIMIT for no limit."""
_NEWEST = 2**63 - 1
_LAST_CONTROL = "\x1f"


def answer(run: Run, plans: Plans, namespace: str, query: Query[Any], now: int) -> Any:
    """Answer a query by running the statements it takes."""
    return _ANSWER[type(query)](run, plans, namespace, query, now)


def is_short(query: Query[Any]) -> bool:
    """Whether a query touches few rows, whatever the namespace holds."""
    match query:
        case GetEntry() | CountMessages() | GetUsage() | GetProgress():
            return True
        case GetEntries(keys=keys):
            return len(keys) <= FEW
        case ListMessages(limit=limit, last=last):
            return min(_rows(limit), _rows(last)) <= FEW
        case ListKeys(limit=limit) | ListEntries(limit=limit) | ListSessions(limit=limit) | ListNamespaces(limit=limit):
            return _rows(limit) <= FEW
        case ListChanges(limit=limit):
            return limit <= FEW
    return False


def _rows(limit: int | None) -> float:
    return math.inf if limit is None else limit


def _get_entry(run: Run, _: Plans, namespace: str, query: GetEntry, now: int) -> Entry | None:
    for row in run("get_entry", (namespace, query.key, now)):
        return Entry(*row)
    return None


def _get_entries(run: Run, _: Plans, namespace: str, query: GetEntries, now: int) -> list[Entry]:
    keys = msgspec.json.encode(query.keys).decode()
    return [Entry(*row) for row in run("get_entries", (namespace, keys, now))]


def _list_keys(run: Run, _: Plans, namespace: str, query: ListKeys, now: int) -> list[str]:
    return [key for (key,) in run("list_keys", _range(namespace, query, now))]


def _list_entries(run: Run, _: Plans, namespace: str, query: ListEntries, now: int) -> list[Entry]:
    return [Entry(*row) for row in run("list_entries", _range(namespace, query, now))]


def _range(namespace: str, query: ListKeys | ListEntries, now: int) -> Row:
    return namespace, query.prefix, end_of(query.prefix), query.after, now, _limit(query.limit)


def _count_entries(run: Run, _: Plans, namespace: str, query: CountEntries, now: int) -> int:
    ((count,),) = run("count_entries", (namespace, query.prefix, end_of(query.prefix), now))
    return int(count)


def _list_messages(run: Run, _: Plans, namespace: str, query: ListMessages, __: int) -> list[Message]:
    for session, last in run("find_session", (namespace, query.session)):
        # Seqs have no holes, so the last ones are those after a seq that can be told beforehand.
        after = query.after if query.last is None else max(query.after, last - query.last)
        start = session << SEQ_BITS
        rows = run("messages_between", (start + min(after, last), start + last, _limit(query.limit)))
        return [Message(*row) for row in rows]
    return []


def _count_messages(run: Run, _: Plans, namespace: str, query: CountMessages, __: int) -> int:
    for _session, last in run("find_session", (namespace, query.session)):
        return int(last)
    return 0


def _list_sessions(run: Run, _: Plans, namespace: str, query: ListSessions, __: int) -> list[Session]:
    before = _NEWEST if query.before is None else query.before
    return [Session(*row) for row in run("list_sessions", (namespace, before, _limit(query.limit)))]


def _list_namespaces(run: Run, _: Plans, __: str, query: ListNamespaces, ___: int) -> list[str]:
    after = max(query.after, _LAST_CONTROL)  # ours begin with a control character
    return [name for (name,) in run("list_namespaces", (after, _limit(query.limit)))]


def _get_usage(run: Run, plans: Plans, namespace: str, __: GetUsage, now: int) -> Usage:
    row = next(iter(run("get_account", (namespace,))), (None, None, 0, 0, 0, 0, None))
    account = Account(*row)
    name, plan = plans.of(account.plan)
    today = now // DAY
    day = day_of(account.day, today)
    return Usage(
        plan=name,
        writes_today=account.writes if day >= today else 0,
        writes_per_day=plan.writes_per_day,
        bytes=account.held,
        max_bytes=plan.max_bytes,
        resets=(max(day, today) + 1) * DAY,
    )


def _limit(limit: int | None) -> int:
    return EVERYTHING if limit is None else limit


def _search(run: Run, _: Plans, namespace: str, query: Search, now: int) -> list[Hit]:
    return search(run, namespace, query, now)


def _list_changes(run: Run, _: Plans, namespace: str, query: ListChanges, now: int) -> Changes:
    return changes.changes_after(run, namespace, query, now)


def _get_progress(run: Run, _: Plans, namespace: str, __: GetProgress, now: int) -> Progress:
    return changes.progress(run, namespace, now)


def _list_texts(run: Run, _: Plans, namespace: str, query: ListTexts, now: int) -> list[Text]:
    for row in run("get_account", (namespace,)):
        account = Account(*row)
        assert account.id is not None
        refuse_if_off(namespace, account.behind)
        return list_texts(run, account.id, query, now)
    return []


_ANSWER: Mapping[type, Callable[[Run, Plans, str, Any, int], Any]] = {
    GetEntry: _get_entry,
    GetEntries: _get_entries,
    ListKeys: _list_keys,
    ListEntries: _list_entries,
    CountEntries: _count_entries,
    ListMessages: _list_messages,
    CountMessages: _count_messages,
    ListSessions: _list_sessions,
    ListNamespaces: _list_namespaces,
    GetUsage: _get_usage,
    ListChanges: _list_changes,
    GetProgress: _get_progress,
    Search: _search,
    ListTexts: _list_texts,
}
