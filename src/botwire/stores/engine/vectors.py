"""Vectors beside what is stored: which texts have none, and keeping them.

A text has one vector at the most, which goes with it: in a file by triggers, in PostgreSQL by statements of the same transaction
(`botwire.stores.postgres.unit_of_work`). In a file they lie in ordinary tables, and sqlite-vec only computes how far they are apart: so
who writes and deletes needs no extension, and an entry or message never waits for its vector. In PostgreSQL they lie in columns
of pgvector's, which takes longer to make its vectors from arrays than to compare them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import InvalidArgument
from ...operations import Operation, SetVectors
from ...queries import ListTexts, Query, Search
from ...records import Text
from ...search.terms import text_of_entry, text_of_message
from .account import FIRST_MESSAGE, OFF, SEQ_BITS
from .rows import Run, as_json

_PAGE = 500


def refuse_if_off(namespace: str, behind: str | None) -> None:
    """Raise `InvalidArgument` when a namespace is not searched."""
    if behind == OFF:
        raise InvalidArgument(f"namespace {namespace!r} cannot be searched: its index is off")


def is_about_vectors(asked: Query[Any] | Sequence[Operation]) -> bool:
    """Whether somebody asks for vectors, or has some to keep."""
    if isinstance(asked, Query):
        return isinstance(asked, ListTexts) or (isinstance(asked, Search) and asked.vector is not None)
    return any(isinstance(op, SetVectors) for op in asked)


def list_texts(run: Run, namespace: int | str, query: ListTexts, now: int) -> list[Text]:
    """Return texts that have no vector of a model."""
    found: list[Text] = []
    for text in _texts(run, namespace, query.model, query.after, now):
        if len(found) == query.limit:
            break
        found.append(text)
    return found


def _texts(run: Run, namespace: int | str, model: str, after: str, now: int) -> Iterator[Text]:
    """Return entries by key, then messages by place; where to go on is ``e`` and a key, or ``m`` and a place."""
    key, place = ("", int(after[1:])) if after[:1] == "m" else (after[1:], FIRST_MESSAGE)
    while after[:1] != "m" and (rows := list(run("entries_without_vector", (namespace, model, key, now, _PAGE)))):
        for key, version, value in rows:
            text = text_of_entry(key, value)
            if text:
                yield Text(text, f"e{key}", key=key, version=version)
    while rows := list(run("messages_without_vector", (namespace, model, place >> SEQ_BITS, place, _PAGE))):
        for place, session, id_, created, data in rows:
            text = text_of_message(data)
            if text:
                yield Text(text, f"m{place}", version=created, session=session, id=id_)


def set_vectors(run: Run, namespace: int | str, op: SetVectors) -> int:
    """Keep vectors of texts that are still as they were; returns how many."""
    entries: dict[Any, list[Any]] = {}
    messages: dict[Any, list[Any]] = {}
    for item in op.vectors:
        if item.key is None:
            messages[item.session, item.id] = [item.session, item.id, item.version, item.vector.hex()]
        else:
            entries[item.key] = [item.key, item.version, item.vector.hex()]
    kept = 0
    for kind, rows in (("entry", entries), ("message", messages)):
        if rows:
            wanted = as_json(list(rows.values()))
            run(f"drop_{kind}_vectors", (namespace, wanted))
            run(f"keep_{kind}_vectors", (namespace, wanted, op.model))
            ((changed,),) = run("changes", ())
            kept += changed
    return kept
