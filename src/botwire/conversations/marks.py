"""What the modules of formats find in a message: its role, and its tool calls and results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Path: TypeAlias = tuple[str | int, ...]
Rule: TypeAlias = Literal["next", "turn", "response", "later"]
"""Where a provider expects the results of a call.

- ``next``: in tool messages directly after its message;
- ``turn``: in the messages directly after its turn, which is one or more messages of the assistant;
- ``response``: after its turn, and before the next message of the assistant;
- ``later``: anywhere after it.
"""


class Place(msgspec.Struct, frozen=True):
    """Where a call or a result is in a message: the path to it, () for the whole message, and the path to its id."""

    path: Path
    id_path: Path


def place(path: Path, *key: str) -> Place:
    """Return the place of a call or a result, with the path to its id below it."""
    return Place(path, (*path, *key))


class Mark(msgspec.Struct, frozen=True):
    """A tool call, or the result of one.

    A format may store one call in several places. `hosted`: the provider runs the tool, so no one else can write its result. `unique`:
    False for a call that has no id of its own, only the name of a function. `form` says in which shape the result is written.
    """

    kind: Literal["call", "result"]
    id: str
    places: tuple[Place, ...]
    name: str = ""
    form: str = ""
    hosted: bool = False
    unique: bool = True


class Shape(msgspec.Struct, frozen=True):
    """What a message is, in any format.

    Attributes:
        role: the role, with ``developer`` as system; None for data without one.
        calls: the ids of the tool calls in it.
        results: the ids of the tool calls whose results it has.
        ids: the provider's own ids, which no other message of the conversation may have.
        is_empty: an assistant's message with neither content nor calls.
        joins_next: whether the message is valid only together with the next one.
        is_bare: a message of any role with neither content, calls nor results.
        rule: where the provider expects the results of its calls.
        format: the name of the format; empty for data of no known format.
        item_id: the id of an item of OpenAI Responses.
        marks: the calls and results.
    """

    role: Role | None = None
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    is_empty: bool = False
    joins_next: bool = False
    is_bare: bool = False
    rule: Rule = "next"
    format: str = ""
    item_id: str | None = None
    marks: tuple[Mark, ...] = ()


PLAIN = Shape()
"""Data of no known format."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}


def shape(
    format_: str, role: Role | None, marks: Iterable[Mark], *, has_content: bool, rule: Rule = "next", **other: Any
) -> Shape:
    """Return a shape from the marks of a message."""
    found = tuple(marks)
    item_id = other.get("item_id")
    if not found and item_id is None:
        is_empty = not has_content and role == "assistant"
        return Shape(role=role, is_empty=is_empty, is_bare=not has_content, rule=rule, format=format_, **other)
    calls = tuple([mark.id for mark in found if mark.kind == "call"])
    is_bare = not has_content and not found
    return Shape(
        role=role,
        calls=calls,
        results=tuple([mark.id for mark in found if mark.kind == "result"]),
        ids=(() if item_id is None else (item_id,)) + tuple([m.id for m in found if m.kind == "call" and m.unique]),
        is_empty=is_bare and role == "assistant",
        is_bare=is_bare,
        rule=rule,
        format=format_,
        marks=found,
        **other,
    )


def text_of(data: Any, key: str) -> str | None:
    """Return a text that is not empty, or None."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) and value else None


def items_of(data: Any, key: str) -> list[Any]:
    """Return a list, or an empty one if there is none."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


def is_text(value: Any) -> bool:
    """Return whether a value is a text with more than spaces."""
    return isinstance(value, str) and bool(value) and not value.isspace()


def merged(*groups: Sequence[Mark]) -> list[Mark]:
    """Return the marks of several lists, of which later ones may describe the calls of earlier ones again."""
    found: list[Mark] = []
    for group in groups:
        if not found or not group:
            found += group
            continue
        known = {(mark.kind, mark.id): number for number, mark in enumerate(found)}
        for mark in group:
            number = known.get((mark.kind, mark.id))
            if number is None:
                found.append(mark)
            else:
                first = found[number]
                found[number] = msgspec.structs.replace(first, places=(*first.places, *mark.places))
    return found
