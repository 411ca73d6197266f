"""Forks: what an object does before its process is forked, and after, in the parent and in the child.

One registry for the whole package, so that the order is the same everywhere: the object that was registered last prepares
first and resumes last. Objects are held weakly.
"""

from __future__ import annotations

import os
import weakref
from itertools import count


class ForkAware:
    """An object that a fork concerns: override what it needs, and call `register` at the end of ``__init__``."""

    def before_fork(self) -> None:
        """Prepare, in the parent: finish or stop what a copy of the process must not share."""

    def after_fork(self) -> None:
        """Resume, in the parent."""

    def after_fork_in_child(self) -> None:
        """Start again, in the child. No other thread exists here, and a lock that one held stays locked: make new ones."""


_numbers = count()
_registered: weakref.WeakValueDictionary[int, ForkAware] = weakref.WeakValueDictionary()


def register(item: ForkAware) -> None:
    """Call the methods of an object at every fork from now on, for as long as the object exists."""
    _registered[next(_numbers)] = item


def _items() -> list[ForkAware]:
    # One step, because another thread may register or drop an object at any time.
    return [item for reference in _registered.valuerefs() if (item := reference()) is not None]


def _before() -> None:
    for item in reversed(_items()):
        item.before_fork()


def _after() -> None:
    for item in _items():
        item.after_fork()


def _after_in_child() -> None:
    for item in _items():
        item.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
