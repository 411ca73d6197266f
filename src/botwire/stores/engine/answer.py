"""Queries → answers, by the tables of a database."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

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
from .account import Account, day_of
from .changes import changes_after, progress
from .search import search
from .tables import ReadTables
from .vectors import list_texts, refuse_if_off

FEW = 50
"""Rows that are read in less time than a change of threads takes."""
_NEWEST = 2**63 - 1
_LAST_CONTROL = "\x1f"


def answer(tables: ReadTables, plans: Plans, namespace: str, query: Query[Any], now: int) -> Any:
    """Answer a query."""
    return _ANSWER[type(query)](tables, plans, namespace, query, now)


def is_short(query: Query[Any]) -> bool:
    """Whether a query reads few rows, whatever the namespace holds."""
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


def _get_entry(tables: ReadTables, _: Plans, namespace: str, query: GetEntry, now: int) -> Entry | None:
    return tables.get_entry(namespace, query.key, now)


def _get_entries(tables: ReadTables, _: Plans, namespace: str, query: GetEntries, now: int) -> list[Entry]:
    return tables.get_entries(namespace, query.keys, now)


def _list_keys(tables: ReadTables, _: Plans, namespace: str, query: ListKeys, now: int) -> list[str]:
    return tables.list_keys(namespace, query.prefix, query.after, query.limit, now)


def _list_entries(tables: ReadTables, _: Plans, namespace: str, query: ListEntries, now: int) -> list[Entry]:
    return tables.list_entries(namespace, query.prefix, query.after, query.limit, now)


def _count_entries(tables: ReadTables, _: Plans, namespace: str, query: CountEntries, now: int) -> int:
    return tables.count_entries(namespace, query.prefix, now)


def _list_messages(tables: ReadTables, _: Plans, namespace: str, query: ListMessages, __: int) -> list[Message]:
    found = tables.find_session(namespace, query.session)
    if found is None:
        return []
    session, last = found
    # Seqs have no holes, so the seq before the last n messages is known without reading any.
    after = query.after if query.last is None else max(query.after, last - query.last)
    return tables.list_messages(session, min(after, last), last, query.limit)


def _count_messages(tables: ReadTables, _: Plans, namespace: str, query: CountMessages, __: int) -> int:
    found = tables.find_session(namespace, query.session)
    return 0 if found is None else found[1]


def _list_sessions(tables: ReadTables, _: Plans, namespace: str, query: ListSessions, __: int) -> list[Session]:
    return tables.list_sessions(namespace, _NEWEST if query.before is None else query.before, query.limit)


def _list_namespaces(tables: ReadTables, _: Plans, __: str, query: ListNamespaces, ___: int) -> list[str]:
    # Names of system namespaces begin with a control character.
    return tables.list_namespaces(max(query.after, _LAST_CONTROL), query.limit)


def _get_usage(tables: ReadTables, plans: Plans, namespace: str, __: GetUsage, now: int) -> Usage:
    today = now // DAY
    account = tables.get_account(namespace) or Account(None, None, today, 0, 0, 0, None)
    name, plan = plans.of(account.plan)
    day = day_of(account.day, today)
    return Usage(
        plan=name,
        writes_today=account.writes if day >= today else 0,
        writes_per_day=plan.writes_per_day,
        bytes=account.held,
        max_bytes=plan.max_bytes,
        resets=(max(day, today) + 1) * DAY,
    )


def _search(tables: ReadTables, _: Plans, namespace: str, query: Search, now: int) -> list[Hit]:
    return search(tables, namespace, query, now)


def _list_changes(tables: ReadTables, _: Plans, namespace: str, query: ListChanges, now: int) -> Changes:
    return changes_after(tables, namespace, query, now)


def _get_progress(tables: ReadTables, _: Plans, namespace: str, __: GetProgress, now: int) -> Progress:
    return progress(tables, namespace, now)


def _list_texts(tables: ReadTables, _: Plans, namespace: str, query: ListTexts, now: int) -> list[Text]:
    account = tables.get_account(namespace)
    if account is None or account.id is None:
        return []
    refuse_if_off(namespace, account.index_cursor)
    return list_texts(tables, account.id, query, now)


_ANSWER: Mapping[type, Callable[[ReadTables, Plans, str, Any, int], Any]] = {
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
