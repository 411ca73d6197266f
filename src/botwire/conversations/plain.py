"""Pages whose messages are all plain: a user's or an assistant's role, and a text. Measured without a step for each message."""

from __future__ import annotations

from typing import Any

from .marks import Role
from .tokens import MESSAGE_TOKENS

_ROLES = {"user", "assistant"}


def plain_sizes(data: list[Any]) -> tuple[list[int], list[Role]] | None:
    """Return what `estimate_tokens` returns for each message, and its role; None if not all of them are plain."""
    try:
        roles = [item["role"] for item in data]
        texts = [item["content"] for item in data]
        whole = "".join(texts)
        if not _ROLES.issuperset(roles) or sum(map(len, data)) != 2 * len(data):
            return None
    except (KeyError, TypeError):
        return None
    lengths = map(len, texts if whole.isascii() else [text.encode("utf-8", "surrogatepass") for text in texts])
    extra = 4 * MESSAGE_TOKENS + 3
    return [length + extra >> 2 for length in lengths], roles
