"""Lists of sessions, a session, and what a session has for a context.

The index of sessions by activity is updated when records of the journal move to a block, see `journal.py`. So the sessions that the
records in the state name are read on their own, and merged with those that the index finds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any

from ...errors import InvalidArgument
from ...plans import Plans
from ...queries import GetContext, GetSession, ListSessions, weight
from ...records import Context, Message, Session, position_in
from ...values import decode
from . import journal
from .filters import filters_of, holds
from .retention import Limits, has_ended, limits_in, limits_of
from .session_tables import FoundSession, SessionRow, is_detached
from .tables import NamespaceState, ReadTables, as_json, end_of, place_of

_PAGE = 500
_NEWEST = 2**63 - 1


def find_live(tables: ReadTables, plans: Plans, namespace: str, name: str, now: int) -> FoundSession | None:
    """Return a session that has not expired, or None."""
    found = tables.find_session(namespace, name)
    if found is None:
        return None
    limits = limits_of(found.retention, plans.of(found.plan)[1])
    return None if has_ended(limits, name, found.created, found.updated, found.expires, now) else found


def get_session(tables: ReadTables, plans: Plans, namespace: str, query: GetSession, now: int) -> Session | None:
    """Answer a query for a session."""
    state = tables.get_state(namespace)
    row = None if state is None or state.id is None else tables.get_session(state.id, query.session)
    if state is None or row is None or not _is_live(row, limits_in(state, plans), now):
        return None
    preview = tables.list_messages(row.id, row.last - 1, row.last, 1) if query.preview and row.last else []
    return row.session(preview[0] if preview else None)


def get_context(tables: ReadTables, plans: Plans, namespace: str, query: GetContext, now: int) -> Context:
    """Answer a query for a context."""
    session = find_live(tables, plans, namespace, query.session, now)
    if session is None:
        return Context()
    upto, summary = tables.get_summary(namespace, session.id) or (0, None)
    last = session.last if query.before is None else min(query.before - 1, session.last)
    covered = upto if query.before is None or last > upto else 0
    after = max(last - query.last, covered, 0)
    messages = tables.newest_messages(namespace, session.id, after, last, query.room) if after < last else []
    head = tables.list_messages(session.id, 0, min(query.head, session.last), None, query.room) if query.head else []
    return Context(session.version, session.last, upto, summary, head, messages)


def list_sessions(tables: ReadTables, plans: Plans, namespace: str, query: ListSessions, now: int) -> list[Session]:
    """Answer a query for sessions."""
    state = tables.get_state(namespace)
    if state is None or state.id is None or query.limit == 0:
        return []
    limits = limits_in(state, plans)
    rows = _by_age(tables, state, query) if query.order == "created" else _by_activity(tables, state, query)
    found: list[SessionRow] = []
    room = math.inf if query.room is None else query.room
    filters = filters_of(query.where)
    for row in rows:
        if query.order == "active" and query.since is not None and row.updated < query.since:
            break
        if not _is_live(row, limits, now) or not _fits(row, query, filters):
            continue
        found.append(row)
        room -= weight(row.session(None))
        if room <= 0 or len(found) == query.limit:
            break
    previews = _previews(tables, state, found, query)
    if query.preview:  # the first one without its preview did not fit
        found = found[: next((at for at, row in enumerate(found) if row.last and row.id not in previews), len(found))]
    return [row.session(previews.get(row.id)) for row in found]


def _is_live(row: SessionRow, limits: Limits | None, now: int) -> bool:
    return not is_detached(row.name) and not has_ended(limits, row.name, row.created, row.updated, row.expires, now)


def _fits(row: SessionRow, query: ListSessions, filters: list[tuple[list[str], Any]]) -> bool:
    if not row.name.startswith(query.prefix) or (query.since is not None and row.updated < query.since):
        return False
    if query.tag is None and not filters:
        return True
    about = row.about
    if query.tag is not None and query.tag not in about.tags:
        return False
    # Titles and data of an encrypted memory cannot be decoded. Only owner and tags are compared then.
    rest = decode(about.stored) if about.stored else None
    document = {**(rest if isinstance(rest, dict) else {}), "owner": about.owner, "tags": list(about.tags)}
    return holds(document, filters)


def _previews(
    tables: ReadTables, state: NamespaceState, rows: list[SessionRow], query: ListSessions
) -> dict[int, Message]:
    """Return the last messages of sessions by their ids, within the room of the query."""
    assert state.id is not None
    places = {place_of(row.id, row.last): row.id for row in rows if row.last}
    if not query.preview or not places:
        return {}
    room = _NEWEST if query.room is None else query.room
    return {places[place]: message for place, _, message in tables.messages_at(state.id, list(places), room)}


# The order of sessions


def cursor_of(text: str) -> tuple[int, int]:
    """Return the time and the place in a `Session.cursor`, or those after every session."""
    if not text:
        return _NEWEST, _NEWEST
    position = position_in(text)
    if position is None:
        raise InvalidArgument(f"after is the cursor of a session, such as '1764547200000000.7', not {text!r:.60}")
    time, place = position
    return min(time, _NEWEST), min(place, _NEWEST)


def _by_activity(tables: ReadTables, state: NamespaceState, query: ListSessions) -> Iterator[SessionRow]:
    assert state.id is not None
    before = cursor_of(query.after)
    ids, names = journal.sessions_in(state.recent)
    recent = tables.sessions_at(state.id, as_json(ids), as_json(names)) if ids or names else []
    newest = sorted((row for row in recent if (row.updated, row.id) < before), key=_activity, reverse=True)
    passed = {row.id for row in recent}
    others = (row for row in _indexed(tables, state, query, before) if row.id not in passed)
    return heapq.merge(newest, others, key=_activity, reverse=True)


def _activity(row: SessionRow) -> tuple[int, int]:
    return row.updated, row.id


def _indexed(
    tables: ReadTables, state: NamespaceState, query: ListSessions, before: tuple[int, int]
) -> Iterator[SessionRow]:
    """Return sessions in the order of the index, from the narrowest one."""
    assert state.id is not None
    owner, size = query.where.get("owner"), _page_size(query)
    while True:
        if isinstance(owner, str):
            rows = tables.sessions_of_owner(state.id, owner, before, size)
        elif query.prefix:
            rows = tables.sessions_named(state.id, query.prefix, end_of(query.prefix), before, size)
        else:
            rows = tables.sessions_by_activity(state.id, before, size)
        yield from rows
        if len(rows) < size:
            return
        before, size = (rows[-1].active, rows[-1].id), _PAGE


def _by_age(tables: ReadTables, state: NamespaceState, query: ListSessions) -> Iterator[SessionRow]:
    assert state.id is not None
    (_, before), size = cursor_of(query.after), _page_size(query)
    while True:
        if query.prefix:
            rows = tables.sessions_by_age_named(state.id, query.prefix, end_of(query.prefix), before, size)
        else:
            rows = tables.sessions_by_age(state.id, before, size)
        yield from rows
        if len(rows) < size:
            return
        before, size = rows[-1].id, _PAGE


def _page_size(query: ListSessions) -> int:
    return min(_PAGE, _PAGE if query.limit is None else query.limit + 1)
