"""Operations: the parts of a write."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import msgspec

from .records import Message
from .values import Stored

Values: TypeAlias = Literal["none", "sealed", "computed", "returned", "plain"]
"""What an encrypted store does with values. none: there are none. sealed: they are encrypted, or decrypted in an answer.
computed: the client computes and writes them. returned: the client reads and decrypts them, and only then writes an operation that
deletes exactly these. plain: the database must read them, so the call is refused.

Each operation also has ``reveals``: whether its result shows stored data, so that it needs read permission."""


class Put(msgspec.Struct, frozen=True):
    """Set a key. Result: the entry's new version (int).

    ``if_version``: only if the entry is at this version now (0: only if there is none), else `Conflict`.
    ``keep_ttl``: let the entry expire when it would have, instead of at ``ttl`` seconds from now.
    ``times``: created, updated and expires of a copied entry. It does not count toward the daily quota. Not over HTTP.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    key: str
    stored: Stored
    ttl: float | None = None
    if_version: int | None = None
    keep_ttl: bool = False
    times: tuple[int, int, int | None] | None = None


class Delete(msgspec.Struct, frozen=True):
    """Delete a key. Result: whether it existed (bool)."""

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"
    key: str


class Require(msgspec.Struct, frozen=True):
    """Change nothing, but refuse the write with `Conflict` unless an entry is at this version (0: no entry). Result: the version.

    It is for a write that relies on an entry which it does not change. It does not count toward the daily quota.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"
    key: str
    version: int


class Increment(msgspec.Struct, frozen=True):
    """Add to a number. A missing key counts as 0, and the time to live stays. Result: the new number."""

    reveals: ClassVar[bool] = True
    values: ClassVar[Values] = "computed"
    key: str
    by: int | float = 1


class NewMessage(msgspec.Struct, frozen=True):
    """A message to append: its id, chosen by the caller, and the JSON text of its data.

    ``created``, ``edited``, ``redacted``: those of a copied message, see `Message`. It does not count toward the daily quota. Not over
    HTTP. ``has_own_id``: whether the caller chose the id. If a server did, a repeat of the write has another.
    """

    id: str
    stored: str
    created: int | None = None
    has_own_id: bool = True
    edited: int | None = None
    redacted: str | None = None


class Append(msgspec.Struct, frozen=True):
    """Append messages to a session, skipping ids that it has. Result: the seq of each message (list of int).

    ``if_last``: only if this is the seq of the session's last message (0: it has none), else `Conflict`. ``if_version``: only if
    this is the session's version, else `Conflict`. Neither counts if the session has all ids already.
    ``ttl``: let the session expire in this many seconds from now, also if nothing is appended.
    ``updated``: of a copied session, its last activity in microseconds, if that is later than its messages. Not over HTTP.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    session: str
    messages: tuple[NewMessage, ...]
    if_last: int | None = None
    if_version: int | None = None
    ttl: float | None = None
    updated: int | None = None


class Replace(msgspec.Struct, frozen=True):
    """Delete the messages after seq `after`, and append others. Result: the seq of each message (list of int).

    A message whose id one of the deleted ones had keeps the time of that. A summary beyond `after` is deleted.
    ``if_last`` and ``if_version`` are as for `Append`, and count always.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    session: str
    messages: tuple[NewMessage, ...]
    after: int = 0
    if_last: int | None = None
    if_version: int | None = None
    ttl: float | None = None


class Copies(msgspec.Struct, frozen=True):
    """What an encrypted store has encrypted again for the target of a `Fork`: messages, and the text of summary and about."""

    messages: tuple[NewMessage, ...]
    summary: str | None = None
    about: str = ""


class Fork(msgspec.Struct, frozen=True):
    """Copy the messages of a session up to a seq into a new session, which must not exist. Result: their number (int).

    Seqs, ids, data and times are the same. Owner, tags, title and data are copied too, and the summary if it ends within the messages.
    Its bytes count; it counts as one write. ``upto``: the last seq; None: all. ``if_version`` is as for `Append`.
    ``copies``: of an encrypted store, what to store instead of the originals, with the same ids; else `Conflict`.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "returned"
    session: str
    target: str
    upto: int | None = None
    if_version: int | None = None
    copies: Copies | None = None


class Edit(msgspec.Struct, frozen=True):
    """Replace the data of a message. Its seq, id and time stay. Result: the message's new version (int).

    ``if_version``: only if the message has this version, else `Conflict`. ``if_id``: only if it has this id, else `Conflict`.
    Messages of one append may have the same version, so a caller that has read a message passes both. ``redacted``: the reason for
    which the text was removed; an empty one is none. None: it is an edit. The first redaction of a message counts no write.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    session: str
    seq: int
    stored: str
    if_version: int | None = None
    redacted: str | None = None
    if_id: str | None = None


class Summarize(msgspec.Struct, frozen=True):
    """Store a summary that replaces the messages up to a seq when a context is read. Result: the session's new version (int).

    The messages stay. ``stored`` is the JSON text of a list of messages; an empty list, with ``upto`` 0, deletes the summary.
    ``if_last`` and ``if_version`` are as for `Append`, and count always. A summary that ends later is not replaced: `Conflict`.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    session: str
    upto: int
    stored: str
    if_last: int | None = None
    if_version: int | None = None


class SetAbout(msgspec.Struct, frozen=True):
    """Set what is known about a session. Result: the new version of it (int). A session without messages is created for it.

    ``stored`` is the JSON text of title and data. ``owner`` and ``tags`` are names that the database can search, and are never
    encrypted. ``if_version``: only if it has this version (0: nothing is set), else `Conflict`.
    ``origin``: of a copied session. Not over HTTP.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    session: str
    stored: str
    owner: str | None = None
    tags: tuple[str, ...] = ()
    if_version: int | None = None
    origin: tuple[str, int] | None = None


class SetExpiry(msgspec.Struct, frozen=True):
    """Let a session expire in ``ttl`` seconds from now; None: never. Result: whether it exists (bool)."""

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"
    session: str
    ttl: float | None = None


class Retain(msgspec.Struct, frozen=True):
    """Set how long sessions are kept whose name begins with a prefix. Result: whether this changed the rule (bool).

    ``idle``: seconds since the last activity. ``age``: seconds since the first message. None: no limit; both None: no rule.
    The rule with the longest prefix applies to a session.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"
    prefix: str = ""
    idle: float | None = None
    age: float | None = None


class Destroy(msgspec.Struct, frozen=True):
    """Delete the namespace with all keys, sessions and rules. Result: the number of live entries and messages (int).

    It must be alone in its write, which takes one transaction or, for more than some thousand rows, several. The plan, the
    writes of the day and the version stay, so that no limit starts again.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"


class Clear(msgspec.Struct, frozen=True):
    """Delete every key that begins with the prefix. Result: their number (int).

    As the only operation of a write, it deletes more than 10,000 keys in several transactions, of which each may fail.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"
    prefix: str = ""


class Forget(msgspec.Struct, frozen=True):
    """Delete a session and its messages. Result: the number of messages (int).

    As the only operation of a write, it deletes more than 10,000 messages in several transactions, the last messages first.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"
    session: str


class Pop(msgspec.Struct, frozen=True):
    """Delete the last messages of a session, at most `count`. Result: those messages, in order (list of `Message`).

    The next message gets the seq of the first deleted one. A session without messages is deleted too.
    ``if_ids``: only if these are the ids of the messages that would be deleted, else `Conflict`.
    """

    reveals: ClassVar[bool] = True
    values: ClassVar[Values] = "returned"
    session: str
    count: int = 1
    if_ids: tuple[str, ...] | None = None


class Expire(msgspec.Struct, frozen=True):
    """Delete some expired entries and sessions; other writes do this too. Result: whether there are more (bool)."""

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "none"


class Vector(msgspec.Struct, frozen=True):
    """The vector of a `Text`: float32 numbers, little-endian. The other fields are those of the text."""

    vector: bytes
    key: str | None = None
    version: int = 0
    session: str | None = None
    id: str | None = None


class SetVectors(msgspec.Struct, frozen=True):
    """Store vectors of a model, for texts that have not changed. Result: the number of stored vectors (int).

    A text has one vector; a new one replaces that of another model, and deleting the text deletes it. It does not count toward
    the daily quota, but its bytes count.
    """

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "plain"
    model: str
    vectors: tuple[Vector, ...]


Operation: TypeAlias = (
    Put
    | Delete
    | Require
    | Increment
    | Append
    | Replace
    | Fork
    | Edit
    | Summarize
    | SetAbout
    | SetExpiry
    | Retain
    | Clear
    | Forget
    | Pop
    | Expire
    | SetVectors
    | Destroy
)
Result: TypeAlias = int | float | bool | list[int] | list[Message]


class Guard(msgspec.Struct):
    """A condition of a read or a write: entries of another namespace are still at the versions that its decision relied on.

    ``needs``: their keys and versions (0: no entry). ``version``: a version of that namespace at which they were so. A store
    that finds the namespace at this version need not check the entries. One that checks them updates ``version``. ``until``: the
    time from which it fails, in microseconds by the wall clock of the process that made it; None: it has no end.
    """

    namespace: str
    needs: tuple[tuple[str, int], ...] = ()
    version: int = -1
    until: int | None = None


class Write(msgspec.Struct, frozen=True):
    """One atomic list of operations on one namespace.

    ``idempotency_key``: it is applied at most once under this key. ``guard``: it is applied only if that holds. ``also``: a write to
    another namespace, applied in the same transaction, but only if this one changes something. ``removed``: how many rows of a
    clear or forget earlier transactions have removed, which its result includes.
    """

    namespace: str
    operations: tuple[Operation, ...]
    idempotency_key: str | None = None
    guard: Guard | None = None
    also: Write | None = None
    removed: int = 0


def has_effect(operations: Sequence[Operation], results: Sequence[Result]) -> bool:
    """Whether a write did anything by its results. A delete of nothing did not; a repeated write did, the first time."""
    # The new number may be 0, and a replacement may only delete.
    return any(results) or any(isinstance(operation, Increment | Replace) for operation in operations)


_ROW_BYTES = 16_384
"""Writing this much of a value takes as long as writing a row."""
_OVERHEAD = 200
"""Bytes of memory that an operation takes beside its value."""


def memory_of(operations: object) -> int:
    """Return about how many bytes of memory an operation, or a tuple of them, takes. Those of anything else do not count."""
    match operations:
        case tuple():
            return sum(map(memory_of, operations))
        case (
            Put(stored=stored)
            | NewMessage(stored=stored)
            | Edit(stored=stored)
            | Summarize(stored=stored)
            | SetAbout(stored=stored)
        ):
            return _OVERHEAD + sys.getsizeof(stored)
        case Append(messages=items) | Replace(messages=items) | SetVectors(vectors=items):
            return memory_of(items)
        case Fork(copies=Copies(messages=items, summary=summary, about=about)):
            return memory_of(items) + sys.getsizeof(summary) + sys.getsizeof(about)
        case Vector(vector=vector):
            return _OVERHEAD + len(vector)
    return _OVERHEAD


def weight_of(write: Write) -> float:
    """Return about how many rows a write touches. A large value counts as several."""
    return sum(map(_rows_of, write.operations))


def _rows_of(operation: Operation) -> float:
    match operation:
        case Put(stored=stored) | Edit(stored=stored) | Summarize(stored=stored) | SetAbout(stored=stored):
            return 1 + len(stored) // _ROW_BYTES
        case Append(messages=messages):
            return sum(1 + len(message.stored) // _ROW_BYTES for message in messages)
        case Pop(count=count):
            return count
        case SetVectors(vectors=vectors):
            return sum(3 + len(item.vector) // (_ROW_BYTES // 4) for item in vectors)  # they are sent to SQLite as text
        case Clear() | Forget() | Replace() | Fork() | Destroy():
            return math.inf
        case Delete() | Require() | Increment() | Expire() | SetExpiry() | Retain():
            return 1
