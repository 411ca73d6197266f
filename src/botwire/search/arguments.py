"""The arguments of `Memory.search` and `History.search` → a checked query."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from .. import limits
from ..errors import InvalidArgument
from ..queries import Search
from ..values import encode_json

KINDS = ("messages", "entries")
BY = ("words", "meaning")


def search_query(
    text: object,
    *,
    limit: object = 10,
    kinds: Iterable[str] = KINDS,
    session: str | None = None,
    prefix: str = "",
    where: Mapping[str, Any] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    neighbours: object = 2,
    half_life: float | timedelta | None = None,
) -> Search:
    """Return the query, or raise `InvalidArgument` or `InvalidName`.

    `session` without `prefix` searches only messages; `prefix` without `session` searches only entries.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"a query is a str, not {type(text).__name__}")
    if len(text) > limits.MAX_QUESTION_CHARS:
        raise InvalidArgument(
            f"a query has at most {limits.MAX_QUESTION_CHARS:,} characters, this one has {len(text):,}: search with a part of it"
        )
    chosen = _kinds(kinds)
    session = None if session is None else limits.check_name(session, "session name")
    prefix = limits.check_prefix(prefix)
    if session is not None and not prefix:
        chosen.discard("entries")
    if prefix and session is None:
        chosen.discard("messages")
    return Search(
        text=limits.check_text(text, "a query"),
        limit=limits.check_bounded(limit, "limit", limits.MAX_HITS),
        messages="messages" in chosen,
        entries="entries" in chosen,
        session=session,
        prefix=prefix,
        where=check_where(where),
        since=limits.check_time(since, "since"),
        until=limits.check_time(until, "until"),
        neighbours=limits.check_bounded(neighbours, "neighbours", limits.MAX_NEIGHBOURS),
        half_life=None if half_life is None else limits.check_ttl(half_life, "half_life"),
    )


def check_vector(vector: bytes) -> bytes:
    """Return a vector, or raise `InvalidArgument`: finite float32 numbers, at most 4,096."""
    if not 0 < len(vector) <= 4 * limits.MAX_DIMENSIONS or len(vector) % 4:
        raise InvalidArgument(f"a vector has 1 to {limits.MAX_DIMENSIONS:,} float32 numbers, not {len(vector):,} bytes")
    if not all(map(math.isfinite, struct.unpack(f"<{len(vector) // 4}f", vector))):
        raise InvalidArgument("a vector has only finite numbers")
    return vector


def check_where(where: object) -> dict[str, Any]:
    """Return the paths and values of a filter (None: no filter), or raise `InvalidArgument`."""
    if where is None:
        return {}
    if not isinstance(where, Mapping) or not all(isinstance(path, str) for path in where):
        raise InvalidArgument("where is a dict of paths, such as 'data.type', and the JSON values that must be there")
    if len(where) > limits.MAX_FILTERS:
        raise InvalidArgument(f"where has at most {limits.MAX_FILTERS} paths, not {len(where):,}")
    for path in where:
        limits.check_text(path, "a path of where")
    deepest = max((path.count(".") + 1 for path in where), default=0)
    if deepest > limits.MAX_DEPTH:
        raise InvalidArgument(
            f"a path in where has at most {limits.MAX_DEPTH} names, because no value is nested deeper, not {deepest:,}"
        )
    size = len(encode_json(dict(where)).encode())
    if size > limits.MAX_WHERE_BYTES:
        raise InvalidArgument(f"where has at most {limits.MAX_WHERE_BYTES:,} bytes as JSON, this one has {size:,}")
    return dict(where)


def check_by(by: Iterable[str] | None, *, embedded: bool) -> frozenset[str]:
    """Return the ways to search (None: all available ones), or raise `InvalidArgument`."""
    if by is None:
        return frozenset(BY) if embedded else frozenset({"words"})
    chosen = frozenset({by} if isinstance(by, str) else by)
    if not chosen or not chosen <= set(BY):
        raise InvalidArgument(f"by is of {', '.join(BY)}, not {by!r}")
    if "meaning" in chosen and not embedded:
        raise InvalidArgument("to search by meaning, a memory needs an embedder: Memory(…, embedder=…)")
    return chosen


def _kinds(kinds: Iterable[str]) -> set[str]:
    chosen = {kinds} if isinstance(kinds, str) else set(kinds)
    if not chosen or not chosen <= set(KINDS):
        raise InvalidArgument(f"kinds are of {', '.join(KINDS)}, not {kinds!r:.100}")
    return chosen
