"""Items of the OpenAI Agents SDK as messages of a session."""

from __future__ import annotations

import json
from typing import Any, cast

from agents.items import TResponseInputItem

from ...errors import InvalidValue
from ...records import Message


def item_of(message: Message) -> TResponseInputItem:
    """Return the item that a message is, or raise `InvalidValue`."""
    if not isinstance(message.data, dict):
        raise InvalidValue(
            f"message {message.seq} of the session is not an item of the OpenAI Agents SDK, and was not deleted. If the session is "
            "encrypted, pass its encryption_key"
        )
    return cast("TResponseInputItem", message.data)


def plain_item(item: TResponseInputItem) -> Any:
    """Return an item as JSON, or raise `InvalidValue`."""
    try:
        return json.loads(json.dumps(item, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"an item of a session must be JSON: {error}") from error
