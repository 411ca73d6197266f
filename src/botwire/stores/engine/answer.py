"""Queries → answers, by the tables of a database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from ... import queries
from ...errors import InvalidArgument
from ...plans import DAY, Plans
from ...queries import within
from ...records import Message, Rule, Text, Usage
from ...search.terms import text_of_entry, text_of_message
from . import retention, session_list
from .journal import changes_after, progress
from .search import search
from .stop import Stop
from .tables import FIRST_MESSAGE, LAST_SEQ, NamespaceId, NamespaceState, ReadTables, day_of

FEW = 50
"""Rows that are read in less time than a change of threads takes."""
_PAGE = 500
_ROOM = 1 << 22
"""Rows, and bytes of their values, that are read at once for texts without vectors."""
_OF_ONE_ROW = frozenset(
    {
        queries.GetEntry,
        queries.CountMessages,
        queries.GetSession,
        queries.GetUsage,
        queries.GetProgress,
        queries.GetRetention,
    }
)
_OF_SEVERAL = queries.ListMessages | queries.GetSession | queries.GetContext | queries.ListSessions | queries.Search
_INDEXED = frozenset({"owner"})
"""Paths of a filter of sessions that an index finds."""
_LAST_CONTROL = "\x1f"
"""Names of system namespaces begin with a control character."""


def answer(tables: ReadTables, plans: Plans, namespace: str, query: queries.Query[Any], now: int) -> Any:
    """Answer a query, or raise `InvalidArgument` if a number in it has more than 64 bits."""
    try:
        return _ANSWER[type(query)](tables, plans, namespace, query, now)
    except OverflowError as error:
        raise InvalidArgument(f"{type(query).__name__}: a number has more than 64 bits") from error


def is_short(query: queries.Query[Any]) -> bool:
    """Whether a query reads few rows, whatever the namespace holds."""
    match query:
        case queries.GetEntries(keys=keys):
            return len(keys) <= FEW
        case queries.ListMessages(limit=limit, last=last):
            return min(_rows(limit), _rows(last)) <= FEW
        case queries.GetContext(last=last, head=head):
            return last + head <= FEW
        case queries.ListSessions(limit=limit):  # with a filter it may read any number of rows to find few
            return _rows(limit) <= FEW and not (query.where or query.tag or query.prefix or query.since)
        case (
            queries.ListKeys(limit=limit)
            | queries.ListEntries(limit=limit)
            | queries.ListNamespaces(limit=limit)
            | queries.ListChanges(limit=limit)
        ):
            return _rows(limit) <= FEW
    return type(query) in _OF_ONE_ROW


def is_heavy(query: queries.Query[Any]) -> bool:
    """Whether a query takes much work for each row, or reads many rows to find few."""
    if isinstance(query, queries.ListSessions):
        return query.tag is not None or bool(query.where.keys() - _INDEXED)
    return isinstance(query, queries.Search | queries.ListTexts)


def reads_several(query: queries.Query[Any]) -> bool:
    """Whether a query takes several statements, which must see the same snapshot."""
    return isinstance(query, _OF_SEVERAL)


def _rows(limit: int | None) -> float:
    return math.inf if limit is None else limit


def _list_messages(
    tables: ReadTables, plans: Plans, namespace: str, query: queries.ListMessages, now: int
) -> list[Message]:
    found = session_list.find_live(tables, plans, namespace, query.session, now)
    if found is None:
        return []
    after, last = query.after, found.last
    if after >= last:
        return []
    if query.last is None:
        last = LAST_SEQ  # another number of messages may have replaced them by now
    else:  # seqs have no holes, so the seq before the last n messages is known without reading any
        after = max(after, last - query.last)
    return tables.list_messages(found.id, after, last, query.limit, query.room) if after < last else []


def _count_messages(tables: ReadTables, plans: Plans, namespace: str, query: queries.CountMessages, now: int) -> int:
    found = session_list.find_live(tables, plans, namespace, query.session, now)
    return 0 if found is None else found.last


def _get_retention(tables: ReadTables, _: Plans, namespace: str, __: queries.GetRetention, ___: int) -> list[Rule]:
    state = tables.get_state(namespace)
    return [] if state is None else retention.rules_in(state.retention)


def _get_usage(tables: ReadTables, plans: Plans, namespace: str, __: queries.GetUsage, now: int) -> Usage:
    today = now // DAY
    state = tables.get_state(namespace) or NamespaceState(None, None, today, 0, 0, 0, None)
    name, plan = plans.of(state.plan)
    day = day_of(state.day, today)
    return Usage(
        plan=name,
        writes_today=state.writes if day >= today else 0,
        writes_per_day=plan.writes_per_day,
        bytes=state.held,
        max_bytes=plan.max_bytes,
        resets=(max(day, today) + 1) * DAY,
    )


def _list_texts(tables: ReadTables, plans: Plans, namespace: str, query: queries.ListTexts, now: int) -> list[Text]:
    """Return texts that have no vector of a model."""
    state = tables.get_state(namespace)
    if state is None or state.id is None:
        return []
    state.refuse_if_off(namespace)
    limits = retention.limits_in(state, plans)
    texts = _texts(tables, state.id, query.model, query.after, now)
    if retention.may_end(state, limits):
        liveness = retention.Liveness(tables, namespace, limits, now)
        texts = (text for text in texts if text.session is None or liveness.is_live(text.session))
    return within(islice(texts, query.limit), query.room)


def _texts(tables: ReadTables, namespace: NamespaceId, model: str, after: str, now: int) -> Iterator[Text]:
    """Return entries by key, then messages by place. The cursor is ``e`` and a key, or ``m`` and a place."""
    key, place = ("", int(after[1:])) if after[:1] == "m" else (after[1:], FIRST_MESSAGE)
    while after[:1] != "m" and (entries := tables.entries_without_vector(namespace, model, key, _PAGE, now, _ROOM)):
        for key, version, value in entries:
            if text := text_of_entry(key, value):
                yield Text(text, f"e{key}", key=key, version=version)
    while messages := tables.messages_without_vector(namespace, model, place, _PAGE, _ROOM):
        for place, session, id_, version, data in messages:
            if text := text_of_message(data):
                yield Text(text, f"m{place}", version=version, session=session, id=id_)


_ANSWER: Mapping[type, Callable[[ReadTables, Plans, str, Any, int], Any]] = {
    queries.GetEntry: lambda tables, _, namespace, query, now: tables.get_entry(namespace, query.key, now),
    queries.GetEntries: lambda tables, _, namespace, query, now: tables.get_entries(
        namespace, query.keys, now, query.room
    ),
    queries.ListKeys: lambda tables, _, namespace, query, now: tables.list_keys(
        namespace, query.prefix, query.after, query.limit, now, query.room
    ),
    queries.ListEntries: lambda tables, _, namespace, query, now: tables.list_entries(
        namespace, query.prefix, query.after, query.limit, now, query.room
    ),
    queries.CountEntries: lambda tables, _, namespace, query, now: tables.count_entries(namespace, query.prefix, now),
    queries.ListMessages: _list_messages,
    queries.CountMessages: _count_messages,
    queries.GetSession: session_list.get_session,
    queries.ListSessions: session_list.list_sessions,
    queries.GetContext: session_list.get_context,
    queries.GetRetention: _get_retention,
    queries.ListNamespaces: lambda tables, _, __, query, ___: tables.list_namespaces(
        max(query.after, _LAST_CONTROL), query.limit
    ),
    queries.GetUsage: _get_usage,
    queries.ListChanges: lambda tables, _, namespace, query, now: changes_after(tables, namespace, query, now),
    queries.GetProgress: lambda tables, _, namespace, __, now: progress(tables, namespace, now),
    queries.Search: lambda tables, plans, namespace, query, now: search(
        tables, plans, namespace, query, now, Stop(math.inf)
    ),
    queries.ListTexts: _list_texts,
}
