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

    ``created``: when a copied message was first stored. It does not count toward the daily quota. Not over HTTP.
    ``has_own_id``: whether the caller chose the id. If a server did, a repeat of the write has another.
    """

    id: str
    stored: str
    created: int | None = None
    has_own_id: bool = True


class Append(msgspec.Struct, frozen=True):
    """Append messages to a session, skipping ids that it has. Result: the seq of each message (list of int)."""

    reveals: ClassVar[bool] = False
    values: ClassVar[Values] = "sealed"
    session: str
    messages: tuple[NewMessage, ...]


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
    """Delete some expired entries; other writes do this too. Result: whether there are more (bool)."""

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


Operation: TypeAlias = Put | Delete | Require | Increment | Append | Clear | Forget | Pop | Expire | SetVectors
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
    return any(results) or any(isinstance(operation, Increment) for operation in operations)


_ROW_BYTES = 16_384
"""Writing this much of a value takes as long as writing a row."""
_OVERHEAD = 200
"""Bytes of memory that an operation takes beside its value."""


def memory_of(operations: object) -> int:
    """Return about how many bytes of memory an operation, or a tuple of them, takes. Those of anything else do not count."""
    match operations:
        case tuple():
            return sum(map(memory_of, operations))
        case Put(stored=stored) | NewMessage(stored=stored):
            return _OVERHEAD + sys.getsizeof(stored)
        case Append(messages=items) | SetVectors(vectors=items):
            return memory_of(items)
        case Vector(vector=vector):
            return _OVERHEAD + len(vector)
    return _OVERHEAD


def weight_of(write: Write) -> float:
    """Return about how many rows a write touches. A large value counts as several."""
    return sum(map(_rows_of, write.operations))


def _rows_of(operation: Operation) -> float:
    match operation:
        case Put(stored=stored):
            return 1 + len(stored) // _ROW_BYTES
        case Append(messages=messages):
            return sum(1 + len(message.stored) // _ROW_BYTES for message in messages)
        case Pop(count=count):
            return count
        case SetVectors(vectors=vectors):
            return sum(3 + len(item.vector) // (_ROW_BYTES // 4) for item in vectors)  # they are sent to SQLite as text
        case Clear() | Forget():
            return math.inf
        case Delete() | Require() | Increment() | Expire():
            return 1
