"""Retention: which sessions have expired, and their removal in the background of writes.

A session expires at a time of its own, or by a rule of its namespace, or by its plan. Every read and write compares the times, so
an expired session is invisible at once, also right after a rule was set. Its rows are removed later: each write removes some.
A long session is renamed first, to a name that no caller can use, so that its name is free and its change is delivered at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from ...plans import DAY, Plan, Plans
from ...records import Rule
from . import removal
from .journal import SESSION_EXPIRED
from .session_tables import is_detached
from .tables import NamespaceState, ReadTables, SessionHead, Tables

AT_ONCE = 16
"""Expired sessions that one write removes."""
ROWS = 1_000
"""Messages that one write removes with them."""
BYTES = 1 << 20
"""The same in bytes. A longer session is renamed, and removed by several writes."""
TIMES = 64
"""How often a write that changes a rule does so."""
_MICROSECONDS = 1_000_000
_NEVER = 1 << 62
"""More microseconds than any session is old."""


class Limits(NamedTuple):
    """How long sessions are kept. ``rules`` are (prefix, idle, age) in microseconds, the longest prefixes first."""

    rules: tuple[tuple[str, int | None, int | None], ...]
    idle: int | None
    """The limit of the plan."""

    def end_of(self, name: str, created: int, updated: int) -> int | None:
        """Return when a session ends by a rule or by the plan; None: never."""
        ends = [] if self.idle is None else [updated + self.idle]
        for prefix, idle, age in self.rules:
            if name.startswith(prefix):
                ends += [] if idle is None else [updated + idle]
                ends += [] if age is None else [created + age]
                break
        return min(ends) if ends else None

    @property
    def shortest(self) -> int:
        """The shortest limit."""
        times = [time for _, *both in self.rules for time in both if time is not None]
        return min(times if self.idle is None else [*times, self.idle])

    def as_json(self) -> str:
        """Return the rules as the statements take them: the plan's limit is part of each."""
        rules = [(prefix, _least(idle, self.idle), age) for prefix, idle, age in self.rules]
        return msgspec.json.encode([*rules, *([] if self.idle is None else [("", self.idle, None)])]).decode()


def _least(first: int | None, second: int | None) -> int | None:
    return min((time for time in (first, second) if time is not None), default=None)


def limits_of(retention: str | None, plan: Plan) -> Limits | None:
    """Return the limits of a namespace by the rules in its state and by its plan; None: sessions are kept for ever."""
    if retention is None and plan.session_idle_days is None:
        return None
    return _limits(retention, plan.session_idle_days)


def limits_in(state: NamespaceState, plans: Plans) -> Limits | None:
    """Return the limits of a namespace, as `limits_of`, for a read."""
    return limits_of(state.retention, plans.of(state.plan)[1])


@lru_cache(maxsize=1_000)
def _limits(retention: str | None, idle_days: float | None) -> Limits:
    rules = (
        () if retention is None else msgspec.json.decode(retention, type=tuple[tuple[str, int | None, int | None], ...])
    )
    return Limits(rules, None if idle_days is None else int(idle_days * DAY))


def idle_of_plans(plans: Plans) -> str | None:
    """Return how long each plan keeps idle sessions, in microseconds as JSON by name; "" is the default plan. None: none has a limit."""
    current = plans.current
    named = {**current.named, "": current.named[current.default]}
    days = {name: plan.session_idle_days for name, plan in named.items()}
    if not any(days.values()):
        return None
    return msgspec.json.encode(
        {name: _NEVER if idle is None else int(idle * DAY) for name, idle in days.items()}
    ).decode()


def rules_in(retention: str | None) -> list[Rule]:
    """Return the rules in a namespace state, by prefix."""
    limits = _limits(retention, None)
    return sorted(
        (Rule(prefix, _seconds(idle), _seconds(age)) for prefix, idle, age in limits.rules),
        key=lambda rule: rule.prefix,
    )


def with_rule(retention: str | None, rule: Rule) -> str | None:
    """Return the rules with one more, which replaces that of the same prefix. One without limits: without it."""
    rules = {prefix: (idle, age) for prefix, idle, age in _limits(retention, None).rules}
    rules.pop(rule.prefix, None)
    if rule.idle is not None or rule.age is not None:
        rules[rule.prefix] = _microseconds(rule.idle), _microseconds(rule.age)
    if not rules:
        return None
    longest_first = sorted(rules, key=lambda prefix: (-len(prefix), prefix))
    return msgspec.json.encode([(prefix, *rules[prefix]) for prefix in longest_first]).decode()


def _seconds(time: int | None) -> float | None:
    return None if time is None else time / _MICROSECONDS


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * _MICROSECONDS)


def has_ended(limits: Limits | None, name: str, created: int, updated: int, expires: int | None, now: int) -> bool:
    """Whether a session has expired."""
    if expires is not None and expires <= now:
        return True
    end = None if limits is None else limits.end_of(name, created, updated)
    return end is not None and end <= now


def may_end(state: NamespaceState, limits: Limits | None) -> bool:
    """Whether a session of a namespace may have expired. Nearly always none has, and reads need not check."""
    return state.sessions_due is not None or limits is not None


class Liveness:
    """Whether the sessions of a namespace are live, by their names; each is read once."""

    def __init__(self, tables: ReadTables, namespace: str, limits: Limits | None, now: int) -> None:
        self._tables = tables
        self._namespace = namespace
        self._limits = limits
        self._now = now
        self._known: dict[str, bool] = {}

    def is_live(self, name: str) -> bool:
        """Whether a session exists and has not expired."""
        known = self._known.get(name)
        if known is None:
            found = None if is_detached(name) else self._tables.find_session(self._namespace, name)
            known = found is not None and not has_ended(
                self._limits, name, found.created, found.updated, found.expires, self._now
            )
            self._known[name] = known
        return known


# Writes


def end(tables: Tables, state: NamespaceState, name: str, head: SessionHead, now: int) -> int:
    """Remove an expired session, or rename a long one and let later writes remove it. Returns how many messages it removed."""
    if not is_detached(name) and (head.last > ROWS or head.bytes > BYTES):
        assert state.id is not None
        tables.erase_popped(state.id, name)
        tables.rename_session(state.id, head.id, f"\x01{head.id}")
        tables.set_session_expiry(head.id, 0)
        state.sessions_due = 0
        state.record(f"{SESSION_EXPIRED}{name}")
        return 0
    return removal.remove_expired(tables, state, name, head, now, ROWS, BYTES)


def purge(tables: Tables, state: NamespaceState, limits: Limits | None, now: int) -> bool:
    """Remove some expired sessions, if there may be any. Returns whether there may be more."""
    if state.id is None or not may_end(state, limits) or (state.sessions_due or 0) > now:
        return False
    left, done = ROWS, 0
    for name, head in _ended(tables, state, limits, now):
        left -= max(end(tables, state, name, head, now), 1)
        done += 1
        if left <= 0:
            break
    if left <= 0 or done >= AT_ONCE:
        state.sessions_due = 0
        return True
    state.sessions_due = _next(tables, state, limits, now)
    return state.sessions_due is not None and state.sessions_due <= now


def purge_all(tables: Tables, state: NamespaceState, limits: Limits | None, now: int) -> None:
    """Remove the expired sessions, at most some thousand, before other rules apply to them."""
    state.sessions_due = 0
    for _ in range(TIMES):
        if not purge(tables, state, limits, now):
            break


def _ended(tables: Tables, state: NamespaceState, limits: Limits | None, now: int) -> list[tuple[str, SessionHead]]:
    """Return sessions that have expired, `AT_ONCE` if there are more. A session may be found in several ways."""
    assert state.id is not None
    found = dict(tables.expired_sessions(state.id, now, AT_ONCE))
    if limits is not None:
        rules = limits.as_json()
        if len(found) < AT_ONCE:
            found |= tables.idle_sessions(state.id, rules, now - limits.shortest, now, AT_ONCE)
        if len(found) < AT_ONCE and any(age is not None for *_, age in limits.rules):
            found |= tables.old_sessions(state.id, rules, now, AT_ONCE)
    return list(found.items())[:AT_ONCE]


def _next(tables: Tables, state: NamespaceState, limits: Limits | None, now: int) -> int | None:
    """Return when some sessions may have expired next. With rules that is not known, so it is a hundredth of the shortest limit."""
    assert state.id is not None
    own = tables.first_session_expiry(state.id)
    if limits is None:
        return own
    again = now + min(limits.shortest // 100 + 1, DAY)
    return again if own is None else min(own, again)
