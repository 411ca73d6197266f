"""Copy between any two stores while the source is in use.

Data that the target already has is compared and left unchanged. So an interrupted copy resumes when it is run again, and a
second copy transfers only what has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import Conflict, StoreError
from ..limits import ACCESS, check_namespace
from ..operations import Delete, Forget, Retain
from ..queries import GetRetention, GetUsage
from ..records import Entry
from ..store import OperatedStore, Store
from ..values import size
from .checksums import Sums, sums_of
from .sessions import SessionCopy, is_same_expiry, session_of
from .walk import Batch, Progress, list_entries, list_namespaces, list_sessions, session_names


@dataclass
class Report:
    """What was copied, without the tokens and claims of a server; ``written`` counts the entries and messages that were new."""

    namespaces: int = 0
    entries: int = 0
    messages: int = 0
    written: int = 0
    checksum: str = ""


def copy(
    source: Store,
    target: Store,
    *,
    namespaces: Iterable[str] = (),
    replace: bool = False,
    progress: Progress = lambda _, __: None,
) -> Report:
    """Copy namespaces, and check with checksums that the target holds what was read.

    Keys, values, sessions, messages, their ids and their order are kept. Times, plans, tokens and claims are kept too, unless
    one side is a server. Entries get new versions. Other clients can write to the source at the same time; the next
    copy transfers what this one misses. A copy does not count toward the daily quota, unless the target is a server.

    Args:
        source: the store to copy from; it is only read.
        target: the store to copy to.
        namespaces: the names; empty: all, which a server lists only for its operator.
        replace: delete data in these namespaces of the target that the source does not have, or has in another form.
        progress: called with the bytes done and the total.

    Raises:
        Conflict: the target has data in one of the namespaces that the source does not have.
        StoreError: the target does not hold the copied data.
    """
    names = list(map(check_namespace, namespaces)) or list(list_namespaces(source, target))
    total = sum(source.read(name, GetUsage()).bytes for name in names)
    report, checksum, done = Report(namespaces=sum(name != ACCESS for name in names)), hashlib.sha256(), 0
    for name in names:
        walk = _Walk(source, target, name, Report() if name == ACCESS else report, replace)
        for length in walk.steps():
            done += length
            progress(min(done, total), total)
        checksum.update(walk.check())
        _copy_plan(source, target, name)
    progress(total, total)
    report.checksum = checksum.hexdigest()
    return report


@dataclass
class _Walk:
    """One pass through a namespace that copies what the target does not have."""

    _source: Store
    _target: Store
    _namespace: str
    _report: Report
    _replace: bool

    def __post_init__(self) -> None:
        self._batch = Batch(self._target, self._namespace)
        self._sums = Sums()
        self._left: set[str] = set()
        """Sessions of the target that may have expired in the source, and will expire here."""

    def steps(self) -> Iterator[int]:
        """Run; yields the number of bytes done."""
        before = self._remove_sessions()  # first: a rule of the source could delete one that is refused here
        self._walk_rules()
        yield from self._walk_entries()
        yield from self._walk_sessions(before)
        self._batch.flush()

    def check(self) -> bytes:
        """Return the checksum of the target, or raise `StoreError` if it is not that of what was read."""
        found = sums_of(self._target, self._namespace)
        if not found.is_same(self._sums) or not self._has_same_sessions(found.sessions):
            raise StoreError(
                f"{self._target.address} does not hold the data copied to namespace {self._namespace!r}: another client may be "
                "writing there"
            )
        return found.digest()

    def _has_same_sessions(self, found: Mapping[str, bytes]) -> bool:
        for name in self._sums.sessions.keys() | found.keys():
            there, copied = found.get(name), self._sums.sessions.get(name)
            if there is None:  # it may have expired
                if session_of(self._source, self._namespace, name) is not None:
                    return False
            elif there != copied and name not in self._left:
                return False
        return True

    def _walk_rules(self) -> None:
        ours = self._source.read(self._namespace, GetRetention())
        theirs = {rule.prefix: rule for rule in self._target.read(self._namespace, GetRetention())}
        for prefix in theirs.keys() - {rule.prefix for rule in ours}:
            self._refuse_others(f"a rule of retention for sessions with the prefix {prefix!r}")
            self._batch.add(Retain(prefix))
        for rule in ours:
            if theirs.get(rule.prefix) != rule:
                self._batch.add(Retain(rule.prefix, rule.idle, rule.age))
        self._sums.add_rules(ours)

    def _walk_entries(self) -> Iterator[int]:
        """Compare both sides in the order of their keys."""
        theirs = list_entries(self._target, self._namespace)
        there = next(theirs, None)
        for entry in list_entries(self._source, self._namespace):
            while there is not None and there.key < entry.key:
                self._remove(there)
                there = next(theirs, None)
            if there is None or there.key != entry.key or _differs(entry, there):
                times = entry.created, entry.updated, entry.expires
                self._batch.add(self._batch.put(entry.key, entry.stored, times))
                self._report.written += 1
            if there is not None and there.key == entry.key:
                there = next(theirs, None)
            self._sums.add_entry(entry)
            self._report.entries += 1
            yield size(entry.key) + size(entry.stored)
        while there is not None:
            self._remove(there)
            there = next(theirs, None)

    def _remove(self, other: Entry) -> None:
        if other.expires is None:  # else it may have expired in the source
            self._refuse_others(f"key {other.key!r}")
        self._batch.add(Delete(other.key))

    def _walk_sessions(self, before: set[str]) -> Iterator[int]:
        there = set(session_names(self._target, self._namespace))
        names = session_names(self._source, self._namespace)
        self._left |= before.difference(names)  # deleted since; the next copy decides
        for name in names:
            session = session_of(self._source, self._namespace, name)
            if session is None:
                self._left.add(name)
                continue
            other = session_of(self._target, self._namespace, name) if name in there else None
            copy = SessionCopy(self._source, self._batch, session, refuse=self._refuse_others, replace=self._replace)
            yield from copy.run(other)
            self._report.messages += copy.messages
            self._report.written += copy.written
            self._sums.add_session(session, copy.digest)

    def _remove_sessions(self) -> set[str]:
        """Delete the sessions of the target that the source does not have; returns the names of those that it has."""
        ours = set(session_names(self._source, self._namespace))
        others = [session for session in list_sessions(self._target, self._namespace) if session.name not in ours]
        rules = tuple(rule.prefix for rule in self._target.read(self._namespace, GetRetention())) if others else ()
        for session in others:
            if not self._replace and (session.expires is not None or session.name.startswith(rules)):
                self._left.add(session.name)
            else:
                self._refuse_others(f"session {session.name!r}")
                self._batch.add(Forget(session.name))
        self._batch.flush()
        return ours

    def _refuse_others(self, what: str) -> None:
        if not self._replace:
            raise Conflict(
                f"namespace {self._namespace!r} of {self._target.address} has data that the source does not have: {what}. Use --replace "
                "to delete it there, or copy to an empty store"
            )


def _copy_plan(source: Store, target: Store, namespace: str) -> None:
    if isinstance(source, OperatedStore) and isinstance(target, OperatedStore):
        plan = source.read(namespace, GetUsage()).plan
        if plan != target.read(namespace, GetUsage()).plan:
            target.set_plan(namespace, plan)


def _differs(entry: Entry, there: Entry) -> bool:
    return entry.stored != there.stored or not is_same_expiry(entry.expires, there.expires)
