"""Operations that a store cannot do alone on encrypted values: increments, pops, edits and forks.

The client reads what they need, and decrypts it. Then it writes only if nothing of that has changed since. So an operation whose
values cannot be decrypted is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from ...errors import Conflict, InvalidArgument
from ...limits import MAX_COPIED, MAX_COPIED_BYTES
from ...operations import (
    Append,
    Clear,
    Copies,
    Delete,
    Edit,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Operation,
    Pop,
    Put,
    Replace,
)
from ...queries import GetContext, GetEntry, GetSession, ListMessages, Query
from ...records import Message, Session
from ...values import Stored, add, encode_json, size

Read: TypeAlias = Callable[[Query[Any]], Awaitable[Any]]
"""Answers a query of the namespace, with decrypted values."""
_PAGE, _ROOM = 1_000, 1 << 22
"""Messages, and about how many bytes of them, that are read at a time."""
_NEVER = 0
"""The version of no message."""


class EditOf(Edit, frozen=True):
    """An edit whose text is encrypted for the message with the id `if_id`, and for no other."""


Prepared: TypeAlias = dict[int, Put | Pop | EditOf | Fork]
"""By their index, the operations to write in place of others."""


def needs_reading(op: Operation) -> bool:
    """Whether something must be read before an operation is written."""
    return isinstance(op, Increment | Pop | Edit | Fork)


async def prepare(read: Read, operations: Sequence[Operation], *, may_repeat: bool = False) -> Prepared:
    """Return what to write in place of the operations that need reading.

    ``may_repeat``: the write may have been applied before, under its idempotency key. So what it expects may have changed since.
    """
    return {
        **await _sums(read, operations),
        **await _guarded(read, operations, may_repeat=may_repeat),
        **await _edits(read, operations),
        **await _copies(read, operations, may_repeat=may_repeat),
    }


async def is_outdated(
    read: Read, operations: Sequence[Operation], prepared: Prepared, error: Conflict | InvalidArgument
) -> bool:
    """Whether an error says that something has changed since it was read for these operations."""
    if isinstance(error, InvalidArgument):
        return await _is_shorter(read, operations, prepared)
    details = error.details
    if "key" in details:
        return any(
            isinstance(op, Put) and op.key == details["key"] and op.if_version is not None for op in prepared.values()
        )
    if "last" in details:  # a condition of the caller
        return False
    return any(
        _may_be_outdated(operations[index], op, is_version="version" in details) for index, op in prepared.items()
    )


async def _is_shorter(read: Read, operations: Sequence[Operation], prepared: Prepared) -> bool:
    """Whether the last message of a fork of a whole session was deleted since it was read."""
    for index, op in prepared.items():
        if isinstance(op, Fork) and op.upto is not None and cast("Fork", operations[index]).upto is None:
            session: Session | None = await read(GetSession(op.session))
            if session is None or session.version != op.if_version:
                return True
    return False


def _may_be_outdated(asked: Operation, op: Operation, *, is_version: bool) -> bool:
    match op:
        case Pop():
            return not is_version
        case EditOf():
            return is_version and isinstance(asked, Edit) and asked.if_version is None and op.if_version is not None
        case Fork(copies=Copies(messages=messages)):
            # Without a version: messages were appended. Or the target exists, and then the next attempt reads nothing.
            return bool(messages) and (not is_version or (isinstance(asked, Fork) and asked.if_version is None))
    return False


async def _sums(read: Read, operations: Sequence[Operation]) -> Prepared:
    """Return a put in place of each increment, which sees the operations before it."""
    known: dict[str, Stored | None] = {}
    cleared: list[str] = []
    sums: Prepared = {}
    for index, op in enumerate(operations):
        match op:
            case Put():
                known[op.key] = op.stored
            case Delete():
                known[op.key] = None
            case Clear():
                cleared.append(op.prefix)
                known = {key: stored for key, stored in known.items() if not key.startswith(op.prefix)}
            case Increment():
                version = None
                if op.key not in known and not op.key.startswith(tuple(cleared)):
                    entry = await read(GetEntry(op.key))
                    known[op.key], version = (entry.stored, entry.version) if entry else (None, 0)
                total = encode_json(add(op.key, known.get(op.key), op.by))
                known[op.key] = total
                sums[index] = Put(op.key, total, if_version=version, keep_ttl=True)
    return sums


async def _guarded(read: Read, operations: Sequence[Operation], *, may_repeat: bool) -> Prepared:
    """Return a pop in place of each, that deletes only messages which were read and decrypted here."""
    ends = {
        session: [message.id for message in await read(ListMessages(session, last=count))]
        for session, count in _popped(operations).items()
    }
    pops: Prepared = {}
    for index, op in enumerate(operations):
        match op:
            case Append() | Replace() if op.session in ends:
                end = ends[op.session]
                kept = end if isinstance(op, Append) else end[: op.after]
                end[:] = dict.fromkeys([*kept, *(message.id for message in op.messages)])
            case Forget() if op.session in ends:
                ends[op.session].clear()
            case Pop():
                end = ends[op.session]
                ids = tuple(end[max(len(end) - op.count, 0) :])
                if op.if_ids in {None, ids}:
                    pops[index] = msgspec.structs.replace(op, if_ids=ids)
                elif not may_repeat:
                    raise Conflict(
                        f"session {op.session!r} does not end with the messages expected; nothing was written"
                    )
                del end[len(end) - len(ids) :]
    return pops


def _popped(operations: Sequence[Operation]) -> dict[str, int | None]:
    """Return the sessions that are popped, and how many of their last messages that needs.

    None: all of them, because the operations also append: a message that the session already has is not added again.
    """
    counts: dict[str, int | None] = {}
    for op in reversed(operations):
        if isinstance(op, Pop):
            count = counts.get(op.session, 0)
            counts[op.session] = None if count is None else count + op.count
        elif isinstance(op, Append | Replace) and op.session in counts:
            counts[op.session] = None
        elif isinstance(op, Fork) and op.target in counts:
            raise InvalidArgument(
                f"a write to an encrypted memory cannot fork to session {op.target!r} and pop from it: use two writes"
            )
    return counts


async def _edits(read: Read, operations: Sequence[Operation]) -> Prepared:
    """Return an edit in place of each, that changes only the message whose id was read here."""
    edits: Prepared = {}
    found: dict[tuple[str, int], Message | None] = {}
    appended, renumbered = set[str](), set[str]()
    for index, op in enumerate(operations):
        match op:
            case Append():
                appended.add(op.session)
            case Pop() | Replace() | Forget():
                renumbered.add(op.session)
            case Fork():
                renumbered.add(op.target)
            case Edit():
                is_first = (op.session, op.seq) not in found
                if is_first:
                    found[op.session, op.seq] = await _message_at(read, op.session, op.seq)
                message = found[op.session, op.seq]
                if op.session in renumbered or (message is None and op.session in appended):
                    raise InvalidArgument(
                        f"a write to an encrypted memory cannot edit message {op.seq} of session {op.session!r} if an operation "
                        "before may have appended or deleted it: use two writes"
                    )
                edits[index] = _edit_of(op, message, is_first=is_first)
    return edits


async def _message_at(read: Read, session: str, seq: int) -> Message | None:
    page: list[Message] = await read(ListMessages(session, seq - 1, 1)) if seq > 0 else []
    return page[0] if page and page[0].seq == seq else None


def _edit_of(op: Edit, message: Message | None, *, is_first: bool) -> EditOf:
    version = op.if_version
    id_ = message.id if op.if_id is None and message is not None else op.if_id
    is_other = message is not None and message.id != id_  # then the store refuses it
    if version is None and is_first and not is_other:  # a second edit finds the version that the first one has made
        version = _NEVER if message is None else message.version
    return EditOf(op.session, op.seq, op.stored, version, op.redacted, id_)


async def _copies(read: Read, operations: Sequence[Operation], *, may_repeat: bool) -> Prepared:
    """Return a fork in place of each, with what to store in the target."""
    forks: Prepared = {}
    changed: set[str] = set()
    for index, op in enumerate(operations):
        if isinstance(op, Fork):
            if op.session in changed:
                raise InvalidArgument(
                    f"a write to an encrypted memory cannot change session {op.session!r} and then fork it: use two writes"
                )
            forks[index] = await _fork(read, op, is_free=op.target in changed, may_repeat=may_repeat)
            changed.add(op.target)
        else:
            changed.add(getattr(op, "session", ""))
    return forks


async def _fork(read: Read, op: Fork, *, is_free: bool, may_repeat: bool) -> Fork:
    """Return a fork with its copies, not encrypted yet. The store refuses them if it has other messages by then.

    A fork that the store will refuse anyway has no copies. ``is_free``: the write may delete the target first.
    """
    nothing = msgspec.structs.replace(op, copies=Copies(()))
    session: Session | None = await read(GetSession(op.session))
    if session is None or op.if_version not in {None, session.version}:
        return nothing
    if not is_free and await read(GetSession(op.target)) is not None:
        return nothing
    upto = session.messages if op.upto is None else op.upto
    if not 0 < upto <= session.messages:
        return nothing
    summary = None
    if 0 < session.summarized <= upto:
        summary = (await read(GetContext(op.session, 0))).summary
    copies = Copies(await _messages(read, op.session, upto), summary, session.about.stored)
    # What is appended since need not be read again. But a repeat must be the same operation, also if it finds more messages.
    last = op.upto if may_repeat else upto
    return msgspec.structs.replace(op, upto=last, if_version=session.version, copies=copies)


async def _messages(read: Read, session: str, upto: int) -> tuple[NewMessage, ...]:
    messages: list[NewMessage] = []
    room = MAX_COPIED_BYTES
    while upto <= MAX_COPIED and room >= 0 and len(messages) < upto:
        limit = min(upto - len(messages), _PAGE)
        page: list[Message] = await read(ListMessages(session, len(messages), limit, room=_ROOM))
        if not page:  # deleted since, which changes the version of the session
            return tuple(messages)
        messages += [NewMessage(item.id, item.stored) for item in page]
        room -= sum(size(item.id) + size(item.stored) for item in page)
    if upto > MAX_COPIED or room < 0:
        raise InvalidArgument(
            f"one write may copy {MAX_COPIED:,} messages with {MAX_COPIED_BYTES:,} bytes, and session {session!r} has more up to "
            f"message {upto:,}; nothing was written"
        )
    return tuple(messages)
