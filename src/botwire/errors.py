"""Every error that botwire raises on purpose, in one tree.

    BotWireError
    ├── InvalidName         a namespace, key or session name that is not allowed   (ValueError)
    ├── InvalidValue        a value that JSON cannot hold, or is too large         (ValueError)
    ├── InvalidArgument     any other argument, address or request that is wrong   (ValueError)
    ├── Conflict            the entry has another version than the caller expects
    ├── QuotaExceeded       the plan's writes of today are used up
    ├── StorageExceeded     the plan's bytes are used up
    ├── AuthError           the token is missing, unknown or not allowed to do this
    ├── NotFound            a request names something that does not exist
    ├── ChangesLost         a watcher resumes too late: the changes that it missed are no longer kept
    ├── StoreError          the database failed: full disk, no permission, damage
    │   └── DecryptionError the encryption key cannot decrypt a value
    ├── Unavailable         the store cannot be reached, or refuses work at the moment
    └── Timeout             the store did not answer within the timeout            (TimeoutError)

Each class has a stable ``code``, which is sent over HTTP with its ``status``. A caller gets the same class from a file as over HTTP.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar


class BotWireError(Exception):
    """The base class of every error that botwire raises on purpose.

    Args:
        message: what failed, why, and what to do, for a person.
        details: facts for a program (JSON values), such as the current version of an entry.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init_subclass__(cls, *, code: str | None = None, status: int | None = None) -> None:
        super().__init_subclass__()
        cls.code, cls.status = code or cls.code, status or cls.status

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would drop the details when an error is pickled.
        return partial(type(self), **self.details), (self.message,)


class InvalidName(BotWireError, ValueError, code="invalid_name", status=422):
    """A namespace, key or session name is not allowed; the message says which names are."""


class InvalidValue(BotWireError, ValueError, code="invalid_value", status=422):
    """A value cannot be stored without changing it, or is too large or too deep; nothing was written."""


class InvalidArgument(BotWireError, ValueError, code="invalid_argument", status=422):
    """An argument, an address or a request is wrong; nothing was written."""


class Conflict(BotWireError, code="conflict", status=409):
    """The entry has another version than expected; nothing was written.

    ``details["version"]`` is its version, 0 if there is no entry.
    """


class QuotaExceeded(BotWireError, code="quota_exceeded", status=429):
    """The namespace has used up the writes of its plan for this UTC day; nothing was written.

    ``details["limit"]`` is the plan's limit and ``details["retry_after"]`` the seconds until it resets.
    Reads and deletes still work.
    """


class StorageExceeded(BotWireError, code="storage_exceeded", status=507):
    """The namespace would hold more bytes than its plan allows; nothing was written.

    ``details["limit"]`` is the plan's limit in bytes. Reads and deletes still work.
    """


class AuthError(BotWireError, code="auth", status=401):
    """The token is missing or unknown, or lacks the permission."""


class NotFound(BotWireError, code="not_found", status=404):
    """Nothing has that name. Only HTTP answers with it: in Python, a missing key is a default or a KeyError."""


class ChangesLost(BotWireError, code="changes_lost", status=410):
    """The changes since that version are no longer kept: read everything again, and watch from there.

    ``details["version"]`` is the namespace's current version.
    """


class StoreError(BotWireError, code="storage", status=500):
    """The database failed: a full disk, a missing permission, a damaged or newer file. A write was applied completely or not at all."""


class DecryptionError(StoreError, code="decryption", status=500):
    """The key cannot decrypt a value: it was encrypted with another key, was changed, or belongs to another name."""


class Unavailable(BotWireError, code="unavailable", status=503):
    """The store cannot be reached, or refuses work at the moment. Try again later."""


class Timeout(BotWireError, TimeoutError, code="timeout", status=504):
    """The store did not answer within the timeout. A write was applied completely or not at all."""


BY_CODE: dict[str, type[BotWireError]] = {
    cls.code: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, BotWireError) and cls is not BotWireError
}
"""The class for each code, to raise over HTTP what was raised in the server."""
