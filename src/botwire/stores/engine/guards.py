"""Whether a guard still holds (`botwire.operations.Guard`)."""

from __future__ import annotations

from ...operations import Guard
from .tables import ReadTables


def holds(tables: ReadTables, guard: Guard, version: int, now: int) -> bool:
    """Whether a guard holds while its namespace is at a version. The guard remembers a version at which it does."""
    if guard.version == version:
        return True
    if any(tables.entry_version(guard.namespace, key, now) != wanted for key, wanted in guard.needs):
        return False
    guard.version = version
    return True
