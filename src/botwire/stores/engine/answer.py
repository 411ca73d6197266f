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
from ...records import Message, Text, Usage
from .account import Account, day_of
from .changes import changes_after, progress
from .search import search
from .tables import ReadTables
from .vectors import list_texts, refuse_if_off

FEW = 50
"""Rows that are read in less time than a change of threads takes."""
_NEWEST = 2**63 - 1
_LAST_CONTROL = "\x1f"
"""Names of system namespaces begin with a control character."""


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


def _list_messages(tables: ReadTables, _: Plans, namespace: str, query: ListMessages, __: int) -> list[Message]:
    session, last = tables.find_session(namespace, query.session) or (0, 0)
    # Seqs have no holes, so the seq before the last n messages is known without reading any.
    after = query.after if query.last is None else max(query.after, last - query.last)
    return tables.list_messages(session, after, last, query.limit) if after < last else []


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


def _list_texts(tables: ReadTables, _: Plans, namespace: str, query: ListTexts, now: int) -> list[Text]:
    account = tables.get_account(namespace)
    if account is None or account.id is None:
        return []
    refuse_if_off(namespace, account.index_cursor)
    return list_texts(tables, account.id, query, now)


_ANSWER: Mapping[type, Callable[[ReadTables, Plans, str, Any, int], Any]] = {
    GetEntry: lambda tables, _, namespace, query, now: tables.get_entry(namespace, query.key, now),
    GetEntries: lambda tables, _, namespace, query, now: tables.get_entries(namespace, query.keys, now),
    ListKeys: lambda tables, _, namespace, query, now: tables.list_keys(
        namespace, query.prefix, query.after, query.limit, now
    ),
    ListEntries: lambda tables, _, namespace, query, now: tables.list_entries(
        namespace, query.prefix, query.after, query.limit, now
    ),
    CountEntries: lambda tables, _, namespace, query, now: tables.count_entries(namespace, query.prefix, now),
    ListMessages: _list_messages,
    CountMessages: lambda tables, _, namespace, query, __: (tables.find_session(namespace, query.session) or (0, 0))[1],
    ListSessions: lambda tables, _, namespace, query, __: tables.list_sessions(
        namespace, _NEWEST if query.before is None else query.before, query.limit
    ),
    ListNamespaces: lambda tables, _, __, query, ___: tables.list_namespaces(
        max(query.after, _LAST_CONTROL), query.limit
    ),
    GetUsage: _get_usage,
    ListChanges: lambda tables, _, namespace, query, now: changes_after(tables, namespace, query, now),
    GetProgress: lambda tables, _, namespace, __, now: progress(tables, namespace, now),
    Search: lambda tables, _, namespace, query, now: search(tables, namespace, query, now),
    ListTexts: _list_texts,
}
