"""Operations on sessions as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Self

import msgspec
from msgspec import UNSET, Raw, UnsetType

from .. import operations
from ..errors import InvalidArgument
from ..limits import MAX_COPIED, check_about, check_count, check_title_and_data, check_ttl
from ..values import check_json
from .bodies import (
    BodyOperation,
    IfLast,
    IfSessionVersion,
    NewMessage,
    SessionTtl,
    check_session,
    checked_messages,
    described,
    messages_of,
)


class AppendBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The body of POST /sessions/{namespace}/{session}."""

    messages: list[NewMessage]
    if_last: IfLast = None
    if_version: IfSessionVersion = None
    ttl: SessionTtl = None

    def operation(self, session: str) -> operations.Append:
        """Return the operation for a session, or raise `InvalidArgument`, `InvalidName` or `InvalidValue`."""
        return operations.Append(
            check_session(session),
            checked_messages(self.messages),
            check_count(self.if_last, "if_last"),
            check_count(self.if_version, "if_version"),
            check_ttl(self.ttl),
        )


class AppendOperation(AppendBody, tag_field="op", tag="append", kw_only=True):
    """Append messages to a session. The result is the seq of each message."""

    OPERATION = operations.Append

    session: str

    @classmethod
    def of(cls, op: operations.Append) -> Self:
        return cls(
            messages=messages_of(op.messages),
            session=op.session,
            if_last=op.if_last,
            if_version=op.if_version,
            ttl=op.ttl,
        )

    def checked(self) -> operations.Operation:
        return self.operation(self.session)


class ReplaceOperation(BodyOperation, tag="replace", kw_only=True):
    """Delete the messages after a seq, and append others. The result is the seq of each message."""

    OPERATION = operations.Replace

    session: str
    messages: list[NewMessage]
    after: Annotated[int, described("Keep the messages up to this seq.")] = 0
    if_last: IfLast = None
    if_version: IfSessionVersion = None
    ttl: SessionTtl = None

    @classmethod
    def of(cls, op: operations.Replace, **_: Any) -> Self:
        return super().of(op, messages=messages_of(op.messages))

    def given(self, **_: Any) -> dict[str, Any]:
        return super().given(messages=checked_messages(self.messages))


class Copies(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What an encrypted client stores in the target instead of the originals, with the same ids."""

    messages: list[NewMessage]
    summary: Raw | UnsetType = UNSET
    about: Raw | UnsetType = UNSET

    @classmethod
    def of(cls, copies: operations.Copies) -> Self:
        """Return the JSON form of copies."""
        return cls(messages_of(copies.messages), _raw(copies.summary or ""), _raw(copies.about))

    def checked(self) -> operations.Copies:
        """Return the copies, or raise `InvalidArgument`, `InvalidName` or `InvalidValue`."""
        if len(self.messages) > MAX_COPIED:
            raise InvalidArgument(f"a fork copies at most {MAX_COPIED:,} messages, not {len(self.messages):,}")
        messages = tuple(message.checked() for message in self.messages)
        return operations.Copies(messages, _summary(self.summary), _about(self.about))


class ForkOperation(BodyOperation, tag="fork", kw_only=True):
    """Copy the messages of a session into a new session. The result is their number."""

    OPERATION = operations.Fork

    session: str
    target: str
    upto: Annotated[int | None, described("The last seq to copy; null: all.")] = None
    if_version: IfSessionVersion = None
    copies: Copies | None = None

    @classmethod
    def of(cls, op: operations.Fork, **_: Any) -> Self:
        return super().of(op, copies=None if op.copies is None else Copies.of(op.copies))

    def given(self, **_: Any) -> dict[str, Any]:
        return super().given(copies=None if self.copies is None else self.copies.checked())


class EditOperation(BodyOperation, tag="edit", kw_only=True):
    """Replace the data of a message; its seq, id and time stay. The result is the message's new version."""

    OPERATION = operations.Edit

    session: str
    seq: int
    data: Raw
    if_version: Annotated[int | None, described("Write only if the message has this version.")] = None
    redacted: Annotated[
        str | None, described("The reason for which the text is removed, possibly empty; null: it is an edit.")
    ] = None
    if_id: Annotated[str | None, described("Write only if the message has this id.")] = None

    @classmethod
    def of(cls, op: operations.Edit, **_: Any) -> Self:
        return super().of(op, data=Raw(op.stored.encode()))

    def given(self, **_: Any) -> dict[str, Any]:
        return super().given(data=UNSET, stored=check_json(self.data))


class SummarizeOperation(BodyOperation, tag="summarize", kw_only=True):
    """Store a summary that replaces the messages up to a seq in a context. The result is the session's new version."""

    OPERATION = operations.Summarize

    session: str
    upto: int
    summary: Annotated[
        Raw,
        described(
            "A list of messages, or the text that an encrypted client stores. An empty list, with upto 0, deletes the "
            "summary."
        ),
    ]
    if_last: IfLast = None
    if_version: IfSessionVersion = None

    @classmethod
    def of(cls, op: operations.Summarize, **_: Any) -> Self:
        return super().of(op, summary=_raw(op.stored))

    def given(self, **_: Any) -> dict[str, Any]:
        return super().given(summary=UNSET, stored=_summary(self.summary))


class SetAboutOperation(BodyOperation, tag="set_about", kw_only=True):
    """Set what is known about a session. What is not given is removed. The result is the new version of it."""

    OPERATION = operations.SetAbout

    session: str
    title: Annotated[Raw, described("The title.", type=["string", "null"])] | UnsetType = UNSET
    data: Annotated[Raw, described("Any other JSON object.", type=["object", "null"])] | UnsetType = UNSET
    about: (
        Annotated[
            Raw,
            described(
                "Instead of title and data: an object of both, or the text that an encrypted client stores.",
                type=["object", "string"],
            ),
        ]
        | UnsetType
    ) = UNSET
    owner: str | None = None
    tags: tuple[str, ...] = ()
    if_version: Annotated[
        int | None, described("Write only if what is known has this version; 0: only if nothing is set.")
    ] = None

    @classmethod
    def of(cls, op: operations.SetAbout, **_: Any) -> Self:
        return super().of(op, about=_raw(op.stored), title=UNSET, data=UNSET)

    def given(self, **_: Any) -> dict[str, Any]:
        parts = [
            b'"%b":%b' % (name.encode(), bytes(value))
            for name, value in (("title", self.title), ("data", self.data))
            if isinstance(value, Raw) and bytes(value) != b"null"
        ]
        if parts and self.about is not UNSET:
            raise InvalidArgument('give either "title" and "data", or "about"; nothing was written')
        stored = _about(Raw(b"{%b}" % b",".join(parts)) if parts else self.about)
        owner, tags = check_about(stored, self.owner, self.tags)
        return super().given(about=UNSET, title=UNSET, data=UNSET, stored=stored, owner=owner, tags=tags)


class SetExpiryOperation(BodyOperation, tag="set_expiry", kw_only=True):
    """Let a session expire in some seconds; null: never. The result says whether the session exists."""

    OPERATION = operations.SetExpiry

    session: str
    ttl: float | None = None


class ForgetOperation(BodyOperation, tag="forget"):
    """Delete a session and its messages. The result is the number of messages."""

    OPERATION = operations.Forget

    session: str


class PopOperation(BodyOperation, tag="pop"):
    """Delete the last messages of a session. The result is those messages."""

    OPERATION = operations.Pop

    session: str
    count: int = 1
    if_ids: Annotated[
        tuple[str, ...] | None, described("Delete only if these are the ids of the messages that would be deleted.")
    ] = None


class RetainOperation(BodyOperation, tag="retain"):
    """Set how long sessions are kept whose name begins with a prefix. The result says whether this changed the rule."""

    OPERATION = operations.Retain

    prefix: str = ""
    idle: Annotated[float | None, described("Seconds since the last activity; null: no limit.")] = None
    age: Annotated[float | None, described("Seconds since the first message; null: no limit.")] = None


def _raw(stored: str) -> Raw | UnsetType:
    return Raw(stored.encode()) if stored else UNSET


def _about(value: Raw | UnsetType) -> str:
    """Return title and data as they are stored, or raise `InvalidArgument`. A string is encrypted."""
    if isinstance(value, UnsetType):
        return ""
    stored = check_json(value)
    check_about(check_title_and_data(stored), None, ())
    return stored


def _summary(value: Raw | UnsetType) -> Any:
    """Return a summary as it is stored (None: there is none), or raise `InvalidArgument`. A string is encrypted."""
    if isinstance(value, UnsetType):
        return None
    stored = check_json(value)
    if stored[0] not in '["':
        raise InvalidArgument("a summary is a list of messages; nothing was written")
    return stored
