"""The context of a model for adapters: the summary of a session, and its newest messages within a budget."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bridge import awaiting
from ..errors import InvalidArgument
from ..history import History
from ..limits import check_count, check_ttl
from ..namespace import Namespace

if TYPE_CHECKING:
    from ..reading import PickedContext

_context = awaiting(History.context_messages)
_info = awaiting(History.info)


class Limits(NamedTuple):
    """What a context may have, and how long a session is kept after an append, in seconds. None: no limit."""

    max_tokens: int | None
    counter: Callable[[Any], float] | None
    ttl: float | None


def limits_of(
    max_tokens: int | None,
    count: Callable[[Any], float] | None,
    ttl: float | timedelta | None,
    restored: Callable[[Any], Any],
    what: str = "a message",
) -> Limits:
    """Return the limits, checked. ``restored`` makes a message of the framework, which `count` takes, from stored data."""
    if count is not None and not callable(count):
        raise InvalidArgument(f"count is a function of {what}, not {type(count).__name__}")
    counted = None if count is None else lambda data: count(restored(data))
    return Limits(check_count(max_tokens, "max_tokens", least=1), counted, check_ttl(ttl))


async def is_reduced(memory: Namespace, session: str, limits: Limits) -> bool:
    """Whether a context of a session is not all of its messages: there is a limit of tokens, or a summary."""
    if limits.max_tokens is not None:
        return True
    known = await _info(History(memory, session))
    return known is not None and known.summarized > 0


async def reduced(memory: Namespace, session: str, limits: Limits) -> PickedContext | None:
    """Return the context of a session that has a summary, or of any with a limit of tokens. None: it is all messages.

    If the newest turn alone is larger than the limit, the context begins within that turn.
    """
    if not await is_reduced(memory, session, limits):
        return None
    history = History(memory, session)
    try:
        return await _context(history, limits.max_tokens, count=limits.counter)
    except InvalidArgument:
        return await _context(history, limits.max_tokens, count=limits.counter, start="any")
