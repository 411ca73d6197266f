"""What goes into a store and what comes out: records, operations and queries. Plain values, no behaviour to speak of.

A write is a tuple of operations and a read is a query, so that both can be gathered, retried, sent over HTTP
and applied by one function a store.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from .timestamps import moment
from .values import Stored, decode

T = TypeVar("T")


# Records


def _shown(record: Any, *names: str) -> str:
    return f"{type(record).__name__}({', '.join(f'{name}={getattr(record, name)!r}' for name in names)})"


class Entry(msgspec.Struct, frozen=True):
    """A key and what is stored under it.

    ``version`` is a number that grows whenever the key is written and is never used again in its namespace, not even
    after the key was deleted; it does not have to grow by one.
    """

    key: str
    stored: Stored
    version: int
    created: int
    updated: int
    expires: int | None = None

    def __repr__(self) -> str:
        return _shown(self, "key", "value", "version", "created_at", "updated_at", "expires_at")

    @property
    def value(self) -> Any:
        """The value as it was set."""
        return decode(self.stored)

    @property
    def created_at(self) -> datetime:
        """When the key was first set, UTC."""
        return moment(self.created)

    @property
    def updated_at(self) -> datetime:
        """When the key was last set, UTC."""
        return moment(self.updated)

    @property
    def expires_at(self) -> datetime | None:
        """When the entry will be gone, UTC; None: never."""
        return None if self.expires is None else moment(self.expires)


class Message(msgspec.Struct, frozen=True):
    """One message of a session: its place (1, 2, 3, … without holes), its id and its data."""

    seq: int
    id: str
    stored: str
    created: int

    def __repr__(self) -> str:
        return _shown(self, "seq", "id", "data", "created_at")

    @property
    def data(self) -> Any:
        """The message as it was appended."""
        return decode(self.stored)

    @property
    def created_at(self) -> datetime:
        """When the message was stored, UTC."""
        return moment(self.created)


class Session(msgspec.Struct, frozen=True):
    """A session as a list shows it. ``place`` orders sessions by age, and is the cursor for the next page."""

    name: str
    place: int
    messages: int
    created: int
    updated: int

    def __repr__(self) -> str:
        return _shown(self, "name", "place", "messages", "created_at", "updated_at")

    @property
    def created_at(self) -> datetime:
        """When its first message was stored, UTC."""
        return moment(self.created)

    @property
    def updated_at(self) -> datetime:
        """When a message was last stored or popped, UTC."""
        return moment(self.updated)


class Hit(msgspec.Struct, frozen=True):
    """Something that a search found: an entry, or a message and the session it is in.

    ``score`` orders the hits of one search and means nothing beside those of another. ``snippet`` is the piece of the text
    that has most of the question's words.
    """

    score: float
    snippet: str
    entry: Entry | None = None
    message: Message | None = None
    session: str | None = None

    def __repr__(self) -> str:
        return _shown(self, "score", "snippet", *(["entry"] if self.entry else ["session", "message"]))

    @property
    def value(self) -> Any:
        """The entry's value, or the message's data."""
        record = self.entry or self.message
        assert record is not None
        return decode(record.stored)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a namespace, as a watch delivers it.

    ``version`` orders the changes of a namespace, and is the cursor to continue after. ``kind`` says what happened:

    - ``set``: the key has this entry now;
    - ``delete``, ``expire``: the key has no entry any more;
    - ``clear``: no key that begins with the prefix has an entry any more;
    - ``append``: the session has this message now, at its seq;
    - ``pop``: the session has only its first `left` messages; with 0 left it is deleted.
    """

    version: int
    kind: Literal["set", "delete", "expire", "clear", "append", "pop"]
    key: str | None = None
    entry: Entry | None = None
    prefix: str | None = None
    session: str | None = None
    message: Message | None = None
    left: int | None = None

    def __repr__(self) -> str:
        return _shown(self, "version", "kind", *_SHOWN[self.kind])

    @property
    def value(self) -> Any:
        """The value that was set, or the data of the message that was appended; None for any other change."""
        record = self.entry or self.message
        return None if record is None else decode(record.stored)


_SHOWN = {
    "set": ("key", "value"),
    "delete": ("key",),
    "expire": ("key",),
    "clear": ("prefix",),
    "append": ("session", "message"),
    "pop": ("session", "left"),
}


class Changes(msgspec.Struct, frozen=True):
    """Some changes of a namespace in their order, and the version up to which these are all that were asked for."""

    changes: list[Change]
    version: int


class Progress(msgspec.Struct, frozen=True):
    """The version that a namespace is at, and in how many seconds something in it expires: 0 or less, it is to be removed."""

    version: int
    due_in: float


class Text(msgspec.Struct, frozen=True):
    """A text without a vector: of an entry or of a message of a session. ``place`` is the cursor for the next page.

    ``version`` is the entry's, or of a message when it was stored: whether the text is still the one that was read.
    """

    text: str
    place: str
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """What a namespace holds and what its plan allows; a limit of None is no limit.

    ``writes_today`` counts the values and messages stored since 00:00 UTC; reads and deletes are free. ``bytes`` counts
    keys, message ids, values and messages in their stored form, and vectors.
    """

    plan: str
    writes_today: int
    writes_per_day: int | None
    bytes: int
    max_bytes: int | None
    resets: int

    def __repr__(self) -> str:
        return _shown(self, "plan", "writes_today", "writes_per_day", "bytes", "max_bytes", "resets_at")

    @property
    def resets_at(self) -> datetime:
        """When `writes_today` starts from 0 again, UTC."""
        return moment(self.resets)


class Sample(msgspec.Struct, frozen=True):
    """What a namespace held, and had written in its UTC day, at a time in microseconds."""

    at: int
    writes: int
    bytes: int


# Operations: what a write is made of


# Queries: what can be read; each names the type of its answer
