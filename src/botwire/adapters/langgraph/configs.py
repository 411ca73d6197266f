"""The configs of LangGraph that a `BotWireStore` and a `BotWireSaver` take. What botwire does not support is refused: it must not be ignored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from ...errors import InvalidArgument
from ...limits import MAX_TTL_SECONDS, check_ttl

_INDEX = ("embed", "dims", "fields", "distance_type")
_TTL = ("default_ttl", "refresh_on_read", "omit_expired", "sweep_interval_minutes")


def check_index(index: Mapping[str, Any] | None) -> None:
    """Raise `InvalidArgument` unless a `BotWireStore` supports an `IndexConfig`."""
    if not index:
        return
    _check_keys(index, "index", _INDEX)
    if index.get("embed") is None:
        raise InvalidArgument(
            "the index has no embed: pass an embeddings object, a function, or a name such as 'openai:…'"
        )
    distance = index.get("distance_type", "cosine")
    if distance != "cosine":
        raise InvalidArgument(
            f"distance_type is 'cosine', not {distance!r:.60}: botwire compares vectors by no other distance. Remove it, or "
            "normalize the vectors: then 'l2' and 'inner_product' give the same order"
        )
    dims = index.get("dims")
    if dims is not None and (type(dims) is not int or dims < 1):
        raise InvalidArgument(f"dims is an int of at least 1, not {dims!r:.60}")
    fields = index.get("fields")
    if fields is not None and not (
        isinstance(fields, list | tuple) and all(isinstance(field, str) for field in fields)
    ):
        raise InvalidArgument(f"fields is a list of str, such as ['text'] or ['$'], not {fields!r:.60}")


def check_ttl_config(ttl: Mapping[str, Any] | None) -> None:
    """Raise `InvalidArgument` unless a `BotWireStore` supports a `TTLConfig`."""
    if ttl is None:
        return
    _check_keys(ttl, "ttl", _TTL)
    minutes = ttl.get("default_ttl")
    if minutes is not None and (type(minutes) not in {int, float} or not 0 < minutes <= MAX_TTL_SECONDS / 60):
        raise InvalidArgument(f"default_ttl is minutes, more than 0 and at most 100 years, not {minutes!r:.60}")


def thread_ttl(ttl: float | timedelta | Mapping[str, Any] | None) -> tuple[float | None, bool]:
    """Return the time to live of threads in seconds, and whether reads restart it, or raise `InvalidArgument`.

    A `TTLConfig` has minutes.
    """
    if not isinstance(ttl, Mapping):
        return check_ttl(ttl), False
    check_ttl_config(ttl)
    minutes = ttl.get("default_ttl")
    return None if minutes is None else float(minutes) * 60, bool(ttl.get("refresh_on_read"))


def _check_keys(config: object, what: str, known: Collection[str]) -> None:
    if not isinstance(config, Mapping):
        raise InvalidArgument(f"{what} is a dict, not {type(config).__name__}")
    unknown = [name for name in config if name not in known]
    if unknown:
        raise InvalidArgument(
            f"{what} has {', '.join(f'{name!r:.60}' for name in unknown)}, which botwire does not support: it has {', '.join(known)}"
        )
