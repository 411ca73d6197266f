"""Forks: what an object does before its process is forked, and after, in the parent and in the child.

One registry for the whole package, so that the order is the same everywhere: the object that was registered last prepares
first and resumes last. Objects are held weakly, except during a fork.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from itertools import count

FORK_WAIT = 5.0
"""Seconds that a fork waits for what other threads use, for all objects together."""


class ForkAware:
    """An object that a fork concerns: override what it needs, and call `register` at the end of ``__init__``."""

    def before_fork(self, deadline: float) -> None:
        """Prepare, in the parent: finish or stop what a copy of the process must not share.

        Args:
            deadline: until when to wait for other threads, on `time.monotonic`.
        """

    def after_fork(self) -> None:
        """Resume, in the parent."""

    def after_fork_in_child(self) -> None:
        """Start again, in the child. No other thread exists here, and a lock that one held stays locked: make new ones."""


_numbers = count()
# An ordinary dict, because copying its values cannot be interrupted by another thread or by a finalizer.
_registered: dict[int, weakref.ref[ForkAware]] = {}


class _Forking(threading.local):
    """The objects that this thread has prepared. Other threads may register more before the fork has ended."""

    def __init__(self) -> None:
        # A list for each fork, because a signal handler may fork during a fork.
        self.prepared: list[list[ForkAware]] = []


_forking = _Forking()


def register(item: ForkAware) -> None:
    """Call the methods of an object at every fork from now on, for as long as the object exists."""
    number = next(_numbers)
    _registered[number] = weakref.ref(item, lambda _: _registered.pop(number, None))


def _before() -> None:
    items = [item for ref in list(_registered.values()) if (item := ref()) is not None]
    _forking.prepared.append(items)
    deadline = time.monotonic() + FORK_WAIT
    for item in reversed(items):
        item.before_fork(deadline)


def _after() -> None:
    for item in _forking.prepared.pop():
        item.after_fork()


def _after_in_child() -> None:
    for item in _forking.prepared.pop():
        item.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
