"""Changes of a message: without some of its calls and results, with other ids, or with one result only."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from .marks import Mark, Path, Place


def without(data: Any, marks: Iterable[Mark]) -> Any:
    """Return a message without some of its calls and results; None if nothing is left to change."""
    paths = {at.path for mark in marks for at in mark.places}
    if () in paths:
        return None
    changed = deepcopy(data)
    for path in sorted(paths, key=_position, reverse=True):
        holder = _at(changed, path[:-1])
        del holder[path[-1]]
        # Providers refuse an empty list of calls, but want an empty list of content.
        if not holder and path[-2] == "tool_calls" and path[0] != "data":
            del _at(changed, path[:-2])["tool_calls"]
        if not holder and path[:-2] == ("data", "additional_kwargs"):
            del _at(changed, path[:-2])[path[-2]]
    return changed


def renamed(data: Any, ids: Iterable[tuple[Place, str]]) -> Any:
    """Return a message with other ids of calls and results."""
    changed = deepcopy(data)
    for at, id_ in ids:
        _at(changed, at.id_path[:-1])[at.id_path[-1]] = id_
    return changed


def only(data: Any, mark: Mark) -> Any:
    """Return a message that has one result of a message with several parts, and nothing else."""
    *path, name, number = mark.places[0].path
    holder = changed = dict(data)
    for key in path:
        holder[key] = dict(holder[key])
        holder = holder[key]
    holder[name] = [holder[name][number]]
    return changed


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[key]
    return data


def _position(path: Path) -> tuple[tuple[int, int | str], ...]:
    return tuple((0, key) if isinstance(key, int) else (1, key) for key in path)
