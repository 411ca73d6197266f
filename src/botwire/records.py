"""What goes into a store and what comes out: records, operations and queries. Plain values, no behaviour to speak of.

A write is a tuple of operations and a read is a query, so that both can be gathered, retried, sent over HTTP
and applied by one function a store.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from .errors import StoreError
from .values import Stored, decode

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """Return the wall clock in microseconds since 1970, the unit of every time that a store keeps."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """Return a store's time as an aware datetime in UTC, or raise `StoreError` when it is none, because its file was damaged."""
    try:
        return _EPOCH + timedelta(0, 0, microseconds)
    except (OverflowError, TypeError) as error:
        raise StoreError(f"a stored time is damaged: {error}. Restore a backup") from error


def new_id() -> str:
    """Return a new id for a message or a write: a UUID of version 7 (RFC 9562, section 5.7).

    Such ids begin with the time, so that an index of them grows at its end instead of everywhere.
    """
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


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
    """A session as a list shows it. ``place`` orders sessions by age and is where the next page goes on."""

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
    """A change of a namespace, as a watcher is told of it.

    ``version`` is its place in the order of the namespace's changes, and where to go on. ``kind`` says what happened:

    - ``set``: the entry is what is under its key now;
    - ``delete``, ``expire``: there is nothing under the key any more;
    - ``clear``: nothing under any key that begins with the prefix;
    - ``append``: the message is at its seq in the session now;
    - ``pop``: the session has no messages after the first `left` any more; with 0 left it is gone.
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
    """A text without a vector: of an entry or of a message of a session. ``place`` is where a list goes on.

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


class Put(msgspec.Struct, frozen=True):
    """Set a key. Result: the entry's new version (int).

    ``if_version``: only if the entry is at this version now (0: only if there is none), else `Conflict`.
    ``keep_ttl``: let the entry expire when it would have, instead of at ``ttl`` seconds from now.
    ``times``: created, updated and expires of an entry that is copied, which is no write of the day. Not over HTTP.
    """

    key: str
    stored: Stored
    ttl: float | None = None
    if_version: int | None = None
    keep_ttl: bool = False
    times: tuple[int, int, int | None] | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove a key. Result: whether it was there (bool)."""

    key: str


class Increment(msgspec.Struct, frozen=True):
    """Add to a number; a missing key counts as 0, a time to live goes on. Result: the new number."""

    key: str
    by: int | float = 1


class NewMessage(msgspec.Struct, frozen=True):
    """A message on its way in: its id, chosen by whoever appends, and the JSON text of its data.

    ``created``: when a message that is copied was stored, which is no write of the day. Not over HTTP.
    """

    id: str
    stored: str
    created: int | None = None


class Append(msgspec.Struct, frozen=True):
    """Add messages to a session, skipping ids it holds already. Result: the seq of each message (list of int)."""

    session: str
    messages: tuple[NewMessage, ...]


class Clear(msgspec.Struct, frozen=True):
    """Remove every key that begins with the prefix. Result: how many there were (int)."""

    prefix: str = ""


class Forget(msgspec.Struct, frozen=True):
    """Remove a session and its messages. Result: how many messages there were (int)."""

    session: str


class Pop(msgspec.Struct, frozen=True):
    """Remove the last messages of a session, at the most `count`. Result: those messages, in order (list of `Message`).

    The next message gets the seq of the first one that was removed; without any messages left, the session is gone.
    ``if_ids``: only if these are the ids of the messages that would be removed, else `Conflict`.
    """

    session: str
    count: int = 1
    if_ids: tuple[str, ...] | None = None


class Expire(msgspec.Struct, frozen=True):
    """Remove some of what has expired, which other writes do by the way. Result: whether there is more (bool)."""


class Vector(msgspec.Struct, frozen=True):
    """The vector of a `Text`, told by the same fields: float32 numbers, little-endian."""

    vector: bytes
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None


class SetVectors(msgspec.Struct, frozen=True):
    """Keep vectors of a model, of those texts that are still as they were. Result: of how many (int).

    A text has one vector: that of another model is replaced. It goes with the text. It is no write of the day, but its bytes
    count.
    """

    model: str
    vectors: tuple[Vector, ...]


Operation: TypeAlias = Put | Delete | Increment | Append | Clear | Forget | Pop | Expire | SetVectors
Result: TypeAlias = int | float | bool | list[int] | list[Message]


class Permit(msgspec.Struct):
    """What a server let a caller in for: entries of the namespace `ACCESS` that must still be as they were.

    ``needs``: their keys and versions (0: there is none). ``version``: a version of the whole namespace at which that was
    so; a store that finds it at this one need not look at the entries, and one that reads them puts down what it found.
    """

    needs: tuple[tuple[str, int], ...]
    version: int = -1


class Write(msgspec.Struct, frozen=True):
    """One atomic list of operations on one namespace.

    ``idempotency_key``: it happens once at most under this key. ``permit``: it happens only if that still holds.
    """

    namespace: str
    operations: tuple[Operation, ...]
    idempotency_key: str | None = None
    permit: Permit | None = None


# Queries: what can be read; each names the type of its answer


class Query(msgspec.Struct, Generic[T], frozen=True):
    """A read of one namespace."""


class GetEntry(Query[Entry | None], frozen=True):
    """One entry, or None."""

    key: str


class GetEntries(Query[list[Entry]], frozen=True):
    """Those of these keys that exist, in the order asked."""

    keys: tuple[str, ...]


class ListKeys(Query[list[str]], frozen=True):
    """Keys with a prefix in the order of their UTF-8 bytes, those after `after`, at the most `limit`."""

    prefix: str = ""
    after: str = ""
    limit: int | None = None


class ListEntries(Query[list[Entry]], frozen=True):
    """As `ListKeys`, with the whole entries."""

    prefix: str = ""
    after: str = ""
    limit: int | None = None


class CountEntries(Query[int], frozen=True):
    """How many keys with a prefix there are."""

    prefix: str = ""


class ListMessages(Query[list[Message]], frozen=True):
    """Messages of a session in order: those after seq `after`, at the most `limit`; or the `last` ones."""

    session: str
    after: int = 0
    limit: int | None = None
    last: int | None = None


class CountMessages(Query[int], frozen=True):
    """How many messages a session has."""

    session: str


class ListSessions(Query[list[Session]], frozen=True):
    """Sessions, the newest first: those before `before` (a session's `place`), at the most `limit`."""

    before: int | None = None
    limit: int | None = None


class Search(Query[list[Hit]], frozen=True, kw_only=True):
    """The best answers to a question, the best first.

    ``messages`` and ``entries`` say which of both to search. ``session`` narrows the messages and ``prefix`` the entries.
    ``since`` and ``until`` (microseconds) are about when a message was stored or an entry last set. ``where`` holds paths
    into the value and what must be there. ``neighbours`` is how many messages far a message's score reaches before and
    behind it; ``half_life``, in seconds, lets scores fade with age. ``vector`` is the question as a vector of a ``model``;
    ``words``: search by words too, or only by the vector.
    """

    text: str
    limit: int = 10
    messages: bool = True
    entries: bool = True
    session: str | None = None
    prefix: str = ""
    where: dict[str, Any] = {}
    since: int | None = None
    until: int | None = None
    neighbours: int = 2
    half_life: float | None = None
    words: bool = True
    vector: bytes | None = None
    model: str = ""


class ListTexts(Query[list[Text]], frozen=True):
    """Texts that have no vector of a model, after a `Text.place`, at the most `limit`."""

    model: str
    after: str = ""
    limit: int = 500


class ListChanges(Query[Changes], frozen=True):
    """What has changed after the version `after`, in order: about `limit` changes at the most. None: only the version now.

    With a prefix alone only changes of entries whose key begins with it; with a session alone only changes of its messages.
    A key that was set several times is told of once, with what is under it now; a message that is gone already, not at all.
    Raises `ChangesLost` when they are not all kept any more.
    """

    after: int | None = None
    limit: int = 50
    prefix: str = ""
    session: str | None = None

    @property
    def entries(self) -> bool:
        """Whether changes of entries are asked for."""
        return bool(self.prefix) or self.session is None

    def wants_session(self, name: str) -> bool:
        """Whether changes of a session are asked for."""
        return self.session == name or (self.session is None and not self.prefix)


class GetProgress(Query[Progress], frozen=True):
    """How far the changes of the namespace are."""


class ListNamespaces(Query[list[str]], frozen=True):
    """The namespaces of the store in the order of their UTF-8 bytes, those after `after`, at the most `limit`.

    Asked of no namespace in particular; a namespace is there from its first write on.
    """

    after: str = ""
    limit: int | None = None


class GetUsage(Query[Usage], frozen=True):
    """What the namespace holds and what its plan allows."""
