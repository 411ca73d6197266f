"""Copy one session: its messages, what is known about it, its summary and its expiry."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence

from ..operations import Edit, Forget, SetExpiry, Summarize
from ..queries import GetSession, ListMessages
from ..records import About, Message, Session
from ..store import Store
from ..values import size
from .checksums import NOTHING_KNOWN, SessionSum, content_of
from .walk import Batch, last_activity, list_messages, seconds_until, summary_of

_SAME_EXPIRY = 5_000_000
"""Allowed difference of an expiry, in microseconds: a server receives a time to live, not a time."""


class SessionCopy:
    """A copy of a session that writes what the target does not have.

    ``refuse`` is called with what the target has and the source does not, before it is deleted. It raises an error if it must not be.
    ``replace``: whether data of the target may be replaced that is not older.
    """

    def __init__(
        self, source: Store, batch: Batch, session: Session, *, refuse: Callable[[str], None], replace: bool
    ) -> None:
        self._source = source
        self._batch = batch
        self._session = session
        self._refuse = refuse
        self._replace = replace
        self._sum = SessionSum()
        self._redacted = math.inf
        """The seq of the first message that is redacted in the target."""
        self.messages = 0
        """The number of messages that were read."""
        self.written = 0
        """The number of messages that were written."""
        self._active = 0
        """When a message was last stored or edited, in microseconds."""
        self.digest = b""
        """The checksum, when all is done."""

    def run(self, there: Session | None) -> Iterator[int]:
        """Run; yields the number of bytes done. ``there`` is the session in the target."""
        session, batch = self._session, self._batch
        summary = summary_of(
            self._source, batch.namespace, session
        )  # before the messages, so that it is not beyond them
        if there is not None:
            is_same = yield from self._compare_messages()
            there = there if is_same else None
        for page in list_messages(self._source, batch.namespace, session.name, after=self.messages):
            for message in page:
                batch.add(batch.append(session.name, message))
            self.written += len(page)
            yield self._count(page)
        self._copy_about(there)
        summary = None if summary is None or summary[0] > self.messages else summary
        self._copy_summary(there, summary)
        self._copy_activity(there)
        if not is_same_expiry(session.expires, None if there is None else there.expires):
            batch.add(SetExpiry(session.name, None if session.expires is None else seconds_until(session.expires)))
        self.digest = self._sum.digest(session.about, summary)

    def _compare_messages(self) -> Generator[int, None, bool]:
        """Compare the messages that the target has, and edit those that have changed; returns False if it must begin again."""
        name, batch = self._session.name, self._batch
        for theirs in list_messages(batch.store, batch.namespace, name):
            ours = self._source.read(batch.namespace, ListMessages(name, self.messages, len(theirs)))
            if [item.id for item in ours] != [item.id for item in theirs]:
                self._refuse(f"session {name!r} with different messages")
                batch.add(Forget(name))
                self._sum, self.messages = SessionSum(), 0
                return False
            for our, their in zip(ours, theirs, strict=True):
                self._compare(our, their)
            yield self._count(ours)
        return True

    def _compare(self, our: Message, their: Message) -> None:
        if (our.stored, our.redacted) == (their.stored, their.redacted):
            return
        is_newer = our.edited is not None and our.edited > their.version
        if our.stored != their.stored and not is_newer and not self._replace:
            self._refuse(f"session {self._session.name!r} with different messages")
        self._batch.add(Edit(self._session.name, our.seq, our.stored, redacted=our.redacted))
        if our.redacted is not None:
            self._redacted = min(self._redacted, our.seq)
        self.written += 1

    def _copy_about(self, there: Session | None) -> None:
        session, batch = self._session, self._batch
        ours, theirs = content_of(session.about), content_of(About() if there is None else there.about)
        is_empty = there is None and not self.messages  # nothing else creates it
        origin = None if there is None else there.origin
        if ours == theirs and not is_empty and (session.origin in {None, origin} or not batch.keeps_times):
            return
        if ours == NOTHING_KNOWN != theirs:
            self._refuse(f"title, owner, tags or data of session {session.name!r}")
        batch.add(batch.set_about(session.name, session.about, session.origin))

    def _copy_summary(self, there: Session | None, summary: tuple[int, str] | None) -> None:
        name, batch = self._session.name, self._batch
        is_deleted = there is None or self._redacted <= there.summarized
        theirs = None if there is None or is_deleted else summary_of(batch.store, batch.namespace, there)
        if summary == theirs:
            return
        if theirs is not None and (summary is None or theirs[0] > summary[0]):
            self._refuse(f"a summary of session {name!r}")
            batch.add(Summarize(name, 0, "[]"))
        if summary is not None:
            batch.add(Summarize(name, *summary))

    def _copy_activity(self, there: Session | None) -> None:
        """Keep the time of a fork, or of a message that was deleted. A session without messages is created when it is copied."""
        known = self._active if there is None else max(self._active, there.updated)
        if self.messages and self._session.updated > known:
            for operation in self._batch.set_activity(self._session.name, self._session.updated):
                self._batch.add(operation)

    def _count(self, messages: Sequence[Message]) -> int:
        self._active = max(self._active, last_activity(messages))
        self._sum.add_messages(messages)
        self.messages += len(messages)
        return sum(size(message.id) + size(message.stored) for message in messages)


def session_of(store: Store, namespace: str, name: str) -> Session | None:
    """Return a session, or None if it has expired or was deleted."""
    return store.read(namespace, GetSession(name))


def is_same_expiry(first: int | None, second: int | None) -> bool:
    """Whether two times of expiry are the same, or nearly."""
    if first is None or second is None:
        return first is second
    return abs(first - second) <= _SAME_EXPIRY
