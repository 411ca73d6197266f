"""What the JSON forms of operations share: the checks of their fields, and messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .. import operations, timestamps
from ..errors import InvalidArgument
from ..limits import (
    MAX_OPERATIONS,
    check_bounded,
    check_count,
    check_name,
    check_prefix,
    check_reason,
    check_ttl,
)
from ..operations import Operation
from ..values import check_json


def described(text: str, **schema: Any) -> Meta:
    """Return a description for the OpenAPI document. `limits` checks the value, because its errors name what is allowed."""
    return Meta(description=text, extra_json_schema=schema)


IfLast = Annotated[
    int | None, described("Write only if this is the seq of the session's last message; 0: only if it has none.")
]
IfSessionVersion = Annotated[int | None, described("Write only if the session has this version.")]
SessionTtl = Annotated[float | None, described("Seconds until the session expires; null: leave that as it is.")]


def check_session(name: object) -> str:
    """Return the name of a session, or raise `InvalidName`."""
    return check_name(name, "session name")


def _check_ids(ids: Sequence[object] | None) -> tuple[str, ...] | None:
    if ids is not None and len(ids) > MAX_OPERATIONS:
        raise InvalidArgument(
            f"if_ids has at most {MAX_OPERATIONS:,} ids, as many as a pop may delete, not {len(ids):,}"
        )
    return None if ids is None else tuple(check_name(name, "message id") for name in ids)


def _number(what: str) -> Callable[[object], int | None]:
    return lambda number: check_count(number, what)


_NUMBERS = ("version", "seq", "after", "upto", "if_last", "if_version")
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    **{name: _number(name) for name in _NUMBERS},
    **{name: lambda ttl, what=name: check_ttl(ttl, what) for name in ("ttl", "idle", "age")},  # type: ignore[misc]
    "key": check_name,
    "prefix": check_prefix,
    "session": check_session,
    "target": check_session,
    "redacted": check_reason,
    "count": check_bounded,
    "if_id": lambda id_: None if id_ is None else check_name(id_, "message id"),
    "if_ids": _check_ids,
}


class BodyOperation(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, tag_field="op"):
    """The JSON form of an operation that has the same fields, made by `of`. `checked` returns the operation.

    `_CHECKS` has a check for each field that needs one. A class replaces `given` for fields that differ.
    """

    OPERATION: ClassVar[type[Any]]

    @classmethod
    def of(cls, op: Any, **more: Any) -> Self:
        """Return the JSON form of an operation. ``more``: the fields that differ."""
        names = [name for name in cls.__struct_fields__ if name not in more]
        return cls(**more, **{name: getattr(op, name) for name in names})

    def checked(self) -> Operation:
        """Return the operation, or raise `InvalidArgument`, `InvalidName` or `InvalidValue`."""
        return cast("Operation", self.OPERATION(**self.given()))

    def given(self, **more: Any) -> dict[str, Any]:
        """Return the checked fields of the operation. ``more``: the fields that differ, checked; `UNSET` removes one."""
        found = {name: _checked(name, getattr(self, name)) for name in self.__struct_fields__ if name not in more}
        return found | {name: value for name, value in more.items() if value is not UNSET}


def _checked(name: str, value: Any) -> Any:
    check = _CHECKS.get(name)
    return value if check is None else check(value)


class NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message to append. A session stores an id once; without an id the server chooses one."""

    data: Raw
    id: Annotated[str, described("", minLength=1)] | UnsetType = UNSET

    def checked(self) -> operations.NewMessage:
        """Return the message, or raise `InvalidName` or `InvalidValue`."""
        stored = check_json(self.data)
        if isinstance(self.id, UnsetType):
            return operations.NewMessage(timestamps.new_id(), stored, has_own_id=False)
        return operations.NewMessage(check_name(self.id, "message id"), stored)


def messages_of(messages: Sequence[operations.NewMessage]) -> list[NewMessage]:
    """Return the JSON form of messages."""
    return [NewMessage(Raw(message.stored.encode()), message.id) for message in messages]


def checked_messages(messages: Sequence[NewMessage]) -> tuple[operations.NewMessage, ...]:
    """Return messages, or raise `InvalidArgument`, `InvalidName` or `InvalidValue`."""
    check_operations(len(messages))
    return tuple(message.checked() for message in messages)


def check_operations(count: int) -> None:
    """Raise `InvalidArgument` if these are too many operations and messages for one write."""
    if count > MAX_OPERATIONS:
        raise InvalidArgument(
            f"at most {MAX_OPERATIONS:,} operations and messages in a write, not {count:,}; nothing was written"
        )
