"""Every error that botwire raises on purpose, in one tree.

    BotWireError
    ├── InvalidName         a namespace, key or session name that is not allowed   (ValueError)
    ├── InvalidValue        a value that JSON cannot hold, or is too large         (ValueError)
    ├── InvalidArgument     any other argument, address or request that is wrong   (ValueError)
    ├── Conflict            the entry is not at the version that the caller expects
    ├── QuotaExceeded       the plan's writes of today are used up
    ├── StorageExceeded     the plan's bytes are used up
    ├── AuthError           the token is missing, unknown or not allowed to do this
    ├── NotFound            a name in a request that nothing answers to
    ├── ChangesLost         a watcher came back too late: what it missed is not kept any more
    ├── StoreError          the database failed: full disk, no permission, damage
    │   └── DecryptionError a value that the encryption key does not open
    ├── Unavailable         the store cannot be reached, or refuses for the moment
    └── Timeout             the store did not answer within the timeout            (TimeoutError)

Each class has a stable ``code``, which is what travels over HTTP, and the HTTP ``status`` that goes
with it. The class that a store raises embedded is the class that its caller gets over HTTP.
"""

from __future__ import annotations

from typing import Any, ClassVar


class BotWireError(Exception):
    """The root of the tree: catch this to catch everything that botwire raises on purpose.

    Args:
        message: what happened and what to do about it, for a person.
        details: facts for a program (JSON values), such as the current version of an entry in conflict.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would drop the details when an error crosses a process border.
        return _rebuild, (type(self), self.message, self.details)


class InvalidName(BotWireError, ValueError):
    """A namespace, key or session name is not allowed; the message says which names are."""

    code = "invalid_name"
    status = 422


class InvalidValue(BotWireError, ValueError):
    """A value cannot be stored without changing it, or is too large or too deep; nothing was written."""

    code = "invalid_value"
    status = 422


class InvalidArgument(BotWireError, ValueError):
    """An argument, an address or a request is wrong; nothing was written."""

    code = "invalid_argument"
    status = 422


class Conflict(BotWireError):
    """The entry is not at the expected version; nothing was written.

    ``details["version"]`` is the version it is at, 0 when there is no entry.
    """

    code = "conflict"
    status = 409


class QuotaExceeded(BotWireError):
    """The namespace has used up the writes of its plan for this UTC day; nothing was written.

    ``details["limit"]`` is the plan's limit and ``details["retry_after"]`` the seconds until it resets.
    Reads and deletes still work.
    """

    code = "quota_exceeded"
    status = 429


class StorageExceeded(BotWireError):
    """The namespace would hold more bytes than its plan allows; nothing was written.

    ``details["limit"]`` is the plan's limit in bytes. Reads and deletes still work.
    """

    code = "storage_exceeded"
    status = 507


class AuthError(BotWireError):
    """The token is missing or not known, or may not do this here."""

    code = "auth"
    status = 401


class NotFound(BotWireError):
    """There is nothing of that name. Only HTTP answers so: in Python a missing key is a default or a KeyError."""

    code = "not_found"
    status = 404


class ChangesLost(BotWireError):
    """The changes since that version are not kept any more: read everything again, and watch from there.

    ``details["version"]`` is the version that the namespace is at.
    """

    code = "changes_lost"
    status = 410


class StoreError(BotWireError):
    """The database failed: a full disk, a missing permission, a damaged or newer file. Nothing was half written."""

    code = "storage"
    status = 500


class DecryptionError(StoreError):
    """A value does not open with the encryption key: it has another one, was changed, or belongs somewhere else."""

    code = "decryption"
    status = 500


class Unavailable(BotWireError):
    """The store cannot be reached, or refuses work for the moment. Worth another try later."""

    code = "unavailable"
    status = 503


class Timeout(BotWireError, TimeoutError):
    """The store did not answer within the timeout. A write may or may not have happened, but never by half."""

    code = "timeout"
    status = 504


def _rebuild(cls: type[BotWireError], message: str, details: dict[str, Any]) -> BotWireError:
    return cls(message, **details)


BY_CODE: dict[str, type[BotWireError]] = {
    cls.code: cls
    for cls in (
        InvalidName,
        InvalidValue,
        InvalidArgument,
        Conflict,
        QuotaExceeded,
        StorageExceeded,
        AuthError,
        NotFound,
        ChangesLost,
        StoreError,
        DecryptionError,
        Unavailable,
        Timeout,
    )
}
"""The class for each code, to raise over HTTP what was raised in the server."""
