"""When a long read must stop: at its deadline, or because its caller does not wait any more."""

from __future__ import annotations

import time

from ...errors import Timeout

_OVER = (
    "the read took longer than it may: ask for less, such as fewer hits, a session or a prefix, or raise the timeout"
)


class Stop:
    """A deadline on `time.monotonic`, and a flag that another thread may set.

    A search checks it between texts, and SQLite within a statement. So no search keeps a thread, or a snapshot that no
    checkpoint passes, for longer than a call may take.
    """

    __slots__ = ("at", "is_asked")

    def __init__(self, at: float) -> None:
        self.at = at
        self.is_asked = False

    @classmethod
    def after(cls, seconds: float) -> Stop:
        """Return one whose deadline is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def ask(self) -> None:
        """Stop now: the caller does not wait any more."""
        self.is_asked = True

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self.is_asked or time.monotonic() >= self.at

    def check(self) -> None:
        """Raise `Timeout` if it is time to stop."""
        if self.is_over:
            raise Timeout(_OVER)
