"""Permits: whether what a caller was let in for still holds."""

from __future__ import annotations

from ...limits import ACCESS
from ...operations import Permit
from .rows import Run


def access_version(run: Run) -> int:
    """Return the version of the namespace in which the rules of access are."""
    for (version,) in run("get_version", (ACCESS,)):
        return int(version)
    return 0


def entries_hold(run: Run, permit: Permit, now: int) -> bool:
    """Whether each entry that a permit needs is at its version."""
    return all(_version(run, key, now) == version for key, version in permit.needs)


def _version(run: Run, key: str, now: int) -> int:
    for (version,) in run("entry_version", (ACCESS, key, now)):
        return int(version)
    return 0
