"""Operations on sessions → rows: messages are appended, replaced, popped, edited and copied, inside a transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ... import operations
from ...errors import Conflict, InvalidArgument
from ...limits import MAX_COPIED, MAX_COPIED_BYTES, MAX_TTL_SECONDS, check_numbers
from ...operations import NewMessage, Result
from ...records import Message
from ...values import size
from . import journal, removal, retention, word_index
from .effort import Effort
from .journal import ABOUT, EDITED, SUMMARY
from .session_tables import NO_DETAILS, Details
from .tables import LAST_SEQ, NamespaceId, NamespaceState, SessionHead, Tables, as_json, place_of


class Work(Protocol):
    """What these functions use of a `Transaction`."""

    tables: Tables
    now: int
    left: float
    """How many bytes of stored values it may still replace, remove or pop."""

    def state(self, namespace: str) -> NamespaceState: ...
    def open_namespace(self, namespace: str) -> tuple[NamespaceState, NamespaceId]: ...
    def limits(self, state: NamespaceState) -> retention.Limits | None: ...
    def charge(self, state: NamespaceState, writes: int, length: int) -> None: ...
    def touch(self, length: int) -> None: ...
    def begin_effort(self) -> Effort: ...


def live_head(work: Work, state: NamespaceState, name: str) -> SessionHead | None:
    """Return a session. An expired one is removed first, or renamed."""
    if state.id is None:
        return None
    head = work.tables.peek_session(state.id, name)
    if head is None:
        return None
    limits = work.limits(state)
    if head.expires is None and limits is None:
        return head
    if not retention.has_ended(limits, name, head.created, head.updated, head.expires, work.now):
        return head
    retention.end(work.tables, state, name, head, work.now)
    return None


def _existing(work: Work, namespace: str, name: str, seq: int | None = None) -> tuple[NamespaceState, SessionHead]:
    """Return a session that has a message with this seq."""
    state = work.state(namespace)
    head = live_head(work, state, name)
    last = 0 if head is None else head.last
    if head is None or not 0 < (last if seq is None else seq) <= last:
        what = "no messages" if seq is None else f"no message {seq}: its last is {last}"
        raise InvalidArgument(f"session {name!r} has {what}; nothing was written")
    return state, head


def _check(name: str, head: SessionHead | None, if_last: int | None, if_version: int | None) -> None:
    """Raise `Conflict` unless a session is as its caller has read it."""
    last, version = (0, 0) if head is None else (head.last, head.version)
    if if_last is not None and if_last != last:
        raise Conflict(
            f"the last message of session {name!r} is {last}, but {if_last} was expected; nothing was written. Read it again and "
            "decide again",
            last=last,
        )
    if if_version is not None and if_version != version:
        raise Conflict(
            f"session {name!r} is at version {version}, but {if_version} was expected; nothing was written. Read it again and "
            "decide again",
            version=version,
        )


# Append, replace, pop, forget


def append(work: Work, namespace: str, op: operations.Append) -> list[int]:
    """Append messages, skipping ids that the session has."""
    if not op.messages:
        return [] if op.updated is None else _set_activity(work, namespace, op.session, op.updated)
    _check_times(op.messages)
    state, _ = work.open_namespace(namespace)
    head = live_head(work, state, op.session)
    read, version = head, state.version
    if head is None:
        head = _begin(work, state, op.session, op.messages[0].created or work.now)
    seqs = _add(work, state, op.session, head, op.messages)
    if state.version != version and (op.if_last is not None or op.if_version is not None):
        _check(op.session, read, op.if_last, op.if_version)
    if op.ttl is not None:
        set_expiry_of(work, state, head.id, op.ttl)
    return seqs


def _set_activity(work: Work, namespace: str, name: str, updated: int) -> list[int]:
    """Set the time of a session's last activity, if it is later than that of its messages."""
    check_numbers("updated", (updated,))
    state = work.state(namespace)
    head = live_head(work, state, name)
    if head is not None and head.updated < updated:
        work.tables.set_session(head.id, head.last, head.bytes, updated)
        state.record(f"{ABOUT}{name}")
    return []


def _begin(work: Work, state: NamespaceState, name: str, created: int) -> SessionHead:
    assert state.id is not None
    version = state.version + 1
    number = work.tables.new_session(state.id, name, created, version)
    return SessionHead(number, 0, 0, version, created, created, None)


def _check_times(messages: Sequence[NewMessage]) -> None:
    for message in messages:
        if message.created is not None or message.edited is not None:
            check_numbers("created and edited", (message.created, message.edited))


def _add(work: Work, state: NamespaceState, name: str, head: SessionHead, messages: Sequence[NewMessage]) -> list[int]:
    """Add messages to a session; returns the seq of each."""
    tables, now = work.tables, work.now
    session, before, held = head.id, head.last, head.bytes
    if before + len(messages) > LAST_SEQ:
        raise InvalidArgument(
            f"session {name!r} has {before:,} messages of at most {LAST_SEQ:,}; nothing was written. Begin another session"
        )
    last, added, writes, updated = before, 0, 0, head.updated
    seqs = []
    for message in messages:
        when = message.created or now
        if tables.add_message(session, last + 1, message.id, when, message.stored):
            last, updated = last + 1, max(updated, when, message.edited or 0)
            writes += message.created is None
            added += size(message.id) + size(message.stored)
            seqs.append(last)
            if message.edited is not None or message.redacted is not None:
                tables.mark_edited(session, last, message.edited, message.redacted)
        else:  # the session has a message of this id: the append is repeated
            seqs.append(tables.seq_of_message(session, message.id))
    if added:
        work.charge(state, writes, added)
        tables.set_session(session, last, held + added, updated)
        journal.record_append(state, session, before + 1, last)
        if state.is_indexed:
            word_index.mark_messages(state, place_of(session, before + 1), last - before, added)
    return seqs


def replace(work: Work, namespace: str, op: operations.Replace) -> list[int]:
    """Delete the messages after a seq, and add others."""
    _check_times(op.messages)
    state, id_ = work.open_namespace(namespace)
    head = live_head(work, state, op.session)
    _check(op.session, head, op.if_last, op.if_version)
    last = 0 if head is None else head.last
    if op.after > last:
        raise InvalidArgument(
            f"session {op.session!r} has no message {op.after}: its last is {last}; nothing was written"
        )
    messages = op.messages
    if head is not None and op.after < last:
        length = _measured(work, op.session, head, op.after)
        work.touch(length)
        messages, changed = _with_times(work, head, op)
        work.charge(state, changed, 0)
        removal.shorten(work.tables, state, op.session, head, op.after, length, work.now, keep=bool(messages))
        head = work.tables.peek_session(id_, op.session)
    if head is None:
        if not messages:
            return []
        head = _begin(work, state, op.session, messages[0].created or work.now)
    seqs = _add(work, state, op.session, head, messages) if messages else []
    if op.ttl is not None:
        set_expiry_of(work, state, head.id, op.ttl)
    return seqs


def _with_times(work: Work, head: SessionHead, op: operations.Replace) -> tuple[tuple[NewMessage, ...], int]:
    """Return the messages with the times of those of their ids that will be deleted, and how many of these have other data."""
    wanted = {message.id for message in op.messages}
    old = {item.id: item for item in work.tables.list_messages(head.id, op.after, head.last, None) if item.id in wanted}
    messages, changed = [], 0
    for message in op.messages:
        known = old.get(message.id)
        if known is None or message.created is not None:
            messages.append(message)
        elif known.stored == message.stored:
            messages.append(_copy_of(known, known.stored))
        else:
            edited = max(work.now, known.version + 1)
            messages.append(NewMessage(message.id, message.stored, known.created, edited=edited))
            changed += 1
    return tuple(messages), changed


def _copy_of(message: Message, stored: str) -> NewMessage:
    return NewMessage(message.id, stored, message.created, edited=message.edited, redacted=message.redacted)


def _measured(work: Work, name: str, head: SessionHead, after: int, last: int | None = None) -> int:
    """Return the bytes of messages, or raise `InvalidArgument` if they are too many for one transaction."""
    last = head.last if last is None else last
    count, length = last - after, 0
    if count <= MAX_COPIED:
        count, length = work.tables.measure_messages(head.id, after, last)
    if count > MAX_COPIED or length > MAX_COPIED_BYTES:
        raise InvalidArgument(
            f"one write may copy or replace {MAX_COPIED:,} messages with {MAX_COPIED_BYTES:,} bytes, and session {name!r} has "
            f"{count:,} with {length:,} there; nothing was written"
        )
    return length


def set_expiry_of(work: Work, state: NamespaceState, session: int, ttl: float | None) -> None:
    """Let a session expire in some seconds; None: never."""
    if ttl is not None and not 0 < ttl <= MAX_TTL_SECONDS:
        raise InvalidArgument(f"ttl is more than 0 and at most {MAX_TTL_SECONDS:,} s, not {ttl!r}; nothing was written")
    expires = None if ttl is None else work.now + int(ttl * 1_000_000)
    work.tables.set_session_expiry(session, expires)
    if expires is not None and (state.sessions_due is None or expires < state.sessions_due):
        state.sessions_due = expires


def forget(work: Work, namespace: str, op: operations.Forget) -> int:
    """Delete a session."""
    state = work.state(namespace)
    if state.id is not None and live_head(work, state, op.session) is None:
        work.tables.erase_popped(state.id, op.session)
        return 0
    return removal.forget(work.tables, state, op.session, work.now)


def pop(work: Work, namespace: str, op: operations.Pop) -> list[Message]:
    """Delete the last messages of a session and return them."""
    state = work.state(namespace)
    head = live_head(work, state, op.session)
    last = 0 if head is None else head.last
    left = max(last - op.count, 0)
    popped: list[Message] = []
    if head is not None and left < last:
        popped, length = work.begin_effort().messages(work.tables, head.id, left, last, work.left)
        work.touch(length)
    if op.if_ids is not None and op.if_ids != tuple(message.id for message in popped):
        popped = []  # or the error would keep them
        raise Conflict(f"session {op.session!r} does not end with the messages expected; nothing was written")
    if head is not None and popped:
        length = sum(size(message.id) + size(message.stored) for message in popped)
        removal.shorten(work.tables, state, op.session, head, left, length, work.now)
    return popped


# Edit, summarize, fork


def edit(work: Work, namespace: str, op: operations.Edit) -> int:
    """Replace the data of a message."""
    state, head = _existing(work, namespace, op.session, op.seq)
    found = work.tables.peek_message(head.id, op.seq)
    if found is None:
        raise InvalidArgument(f"session {op.session!r} has no message {op.seq}; nothing was written")
    id_, created, edited, length = found
    version = created if edited is None else edited
    if op.if_version is not None and op.if_version != version:
        raise Conflict(
            f"message {op.seq} of session {op.session!r} is at version {version}, but {op.if_version} was expected; nothing was "
            "written. Read it again and decide again",
            version=version,
        )
    if op.if_id not in {None, id_}:
        raise Conflict(
            f"message {op.seq} of session {op.session!r} has another id than was expected; nothing was written. Read it again and "
            "decide again",
            version=version,
        )
    work.touch(length)
    added = size(op.stored) - length
    work.charge(state, 0 if _is_erasure(work, head, op) else 1, added)
    edited = max(work.now, version + 1)
    work.tables.edit_message(head.id, op.seq, op.stored, edited, op.redacted)
    if state.is_indexed:
        word_index.subtract(state, work.tables.delete_texts_of_messages(head.id, op.seq - 1, op.seq))
        word_index.mark_messages(state, place_of(head.id, op.seq), 1, size(op.stored))
    held = head.bytes + added
    if op.redacted is not None:
        assert state.id is not None
        work.tables.erase_popped(state.id, op.session)
        # A summary that covers the message may have its text.
        details = work.tables.get_details(state.id, head.id)
        held -= removal.drop_summary(work.tables, state, head, details, op.seq - 1)
    work.tables.set_session(head.id, head.last, held, work.now)
    work.tables.set_session_version(head.id, state.version + 1)
    state.record(f"{EDITED}{op.seq} {op.session}")
    return edited


def _is_erasure(work: Work, head: SessionHead, op: operations.Edit) -> bool:
    """Return whether an edit redacts a message that is not redacted. Only that is free: a redacted text could be any other data."""
    if op.redacted is None:
        return False
    return all(item.redacted is None for item in work.tables.list_messages(head.id, op.seq - 1, op.seq, None))


def summarize(work: Work, namespace: str, op: operations.Summarize) -> int:
    """Store the summary of the first messages of a session, or delete it."""
    state, head = _existing(work, namespace, op.session, op.upto or None)
    assert state.id is not None
    _check(op.session, head, op.if_last, op.if_version)
    if (op.upto == 0) != (op.stored == "[]"):
        raise InvalidArgument(
            f"a summary has messages and ends at a message, and upto=0 with an empty list deletes it; upto is {op.upto}; nothing was "
            "written"
        )
    details = work.tables.get_details(state.id, head.id) or NO_DETAILS
    if 0 < op.upto < details.upto:
        raise Conflict(
            f"session {op.session!r} has a summary up to message {details.upto}, which a summary up to {op.upto} would replace; "
            "nothing was written. Read it again and decide again",
            last=head.last,
            summarized=details.upto,
        )
    changed = details._replace(upto=op.upto, summary=op.stored if op.upto else None)
    version = state.version + 1
    _put_details(work, state, head, details, changed)
    work.tables.set_session_version(head.id, version)
    state.record(f"{SUMMARY}{op.session}")
    return version


def _put_details(work: Work, state: NamespaceState, head: SessionHead, old: Details, new: Details) -> None:
    """Write the details of a session, and count their bytes and one write."""
    assert state.id is not None
    work.charge(state, 1, new.bytes - old.bytes)
    work.tables.put_details(state.id, head.id, new)
    if new.bytes != old.bytes:
        work.tables.set_session(head.id, head.last, head.bytes + new.bytes - old.bytes, head.updated)


def fork(work: Work, namespace: str, op: operations.Fork) -> int:
    """Copy the first messages of a session into a new one."""
    state, head = _existing(work, namespace, op.session, op.upto)
    assert state.id is not None
    _check(op.session, head, None, op.if_version)
    if op.target == op.session or live_head(work, state, op.target) is not None:
        raise Conflict(f"session {op.target!r} exists; nothing was written. Choose another name for the fork")
    upto = head.last if op.upto is None else op.upto
    details = work.tables.get_details(state.id, head.id) or NO_DETAILS
    target = _begin(work, state, op.target, head.created)
    if op.copies is None:
        length = _measured(work, op.session, head, 0, upto)
        work.charge(state, 0, length)
        work.tables.copy_messages(head.id, target.id, upto)
        work.tables.set_session(target.id, upto, length, work.now)
        journal.record_append(state, target.id, 1, upto)
        if state.is_indexed:
            word_index.mark_messages(state, place_of(target.id, 1), upto, length)
    else:
        length = _add_copies(work, state, op, op.copies, head, target, upto)
    _copy_details(work, state, op, details, target._replace(last=upto, bytes=length, updated=work.now))
    return upto


def _add_copies(
    work: Work,
    state: NamespaceState,
    op: operations.Fork,
    copies: operations.Copies,
    head: SessionHead,
    target: SessionHead,
    upto: int,
) -> int:
    """Add the messages that an encrypted store has encrypted for the target; returns their bytes."""
    originals = work.tables.list_messages(head.id, 0, upto, None)
    if [message.id for message in originals] != [message.id for message in copies.messages]:
        raise Conflict(f"session {op.session!r} has other messages than those that were copied; nothing was written")
    messages = [_copy_of(original, item.stored) for item, original in zip(copies.messages, originals, strict=True)]
    _add(work, state, op.target, target, messages)
    return sum(size(item.id) + size(item.stored) for item in messages)


def _copy_details(
    work: Work, state: NamespaceState, op: operations.Fork, details: Details, target: SessionHead
) -> None:
    copies = op.copies or operations.Copies((), details.summary, details.stored)
    summarized = 0 < details.upto <= target.last
    version = state.version + 1 if details.version else 0
    changed = details._replace(
        version=version,
        stored=copies.about if details.version else "",
        origin=op.session,
        origin_seq=target.last,
        upto=details.upto if summarized else 0,
        summary=copies.summary if summarized else None,
    )
    _put_details(work, state, target, NO_DETAILS, changed)
    if version:
        state.record(f"{ABOUT}{op.target}")
    if summarized:
        state.record(f"{SUMMARY}{op.target}")


# About, expiry, rules


def set_about(work: Work, namespace: str, op: operations.SetAbout) -> int:
    """Set title, owner, tags and data of a session."""
    state, id_ = work.open_namespace(namespace)
    head = live_head(work, state, op.session)
    details = None if head is None else work.tables.get_details(id_, head.id)
    details = details or NO_DETAILS
    if op.if_version is not None and op.if_version != details.version:
        raise Conflict(
            f"what is known about session {op.session!r} is at version {details.version}, but {op.if_version} was expected; nothing was "
            "written. Read it again and decide again",
            version=details.version,
        )
    head = head or _begin(work, state, op.session, work.now)
    version = state.version + 1
    tags = as_json(op.tags) if op.tags else ""
    changed = details._replace(version=version, owner=op.owner, tags=tags, stored=op.stored)
    if op.origin is not None:
        changed = changed._replace(origin=op.origin[0], origin_seq=op.origin[1])
    _put_details(work, state, head, details, changed)
    state.record(f"{ABOUT}{op.session}")
    return version


def set_expiry(work: Work, namespace: str, op: operations.SetExpiry) -> bool:
    """Let a session expire."""
    state = work.state(namespace)
    head = live_head(work, state, op.session)
    if head is None:
        return False
    set_expiry_of(work, state, head.id, op.ttl)
    state.record(f"{ABOUT}{op.session}")
    return True


APPLY: Mapping[type, Callable[[Any, str, Any], Result]] = {
    operations.Append: append,
    operations.Replace: replace,
    operations.Fork: fork,
    operations.Edit: edit,
    operations.Summarize: summarize,
    operations.SetAbout: set_about,
    operations.SetExpiry: set_expiry,
    operations.Forget: forget,
    operations.Pop: pop,
}
"""What applies each operation on a session."""
