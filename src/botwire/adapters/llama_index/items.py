"""Messages of LlamaIndex and their stored form: a `model_dump` in JSON, only ever rebuilt as a `ChatMessage`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from ...errors import InvalidValue
from ...operations import NewMessage
from ...records import Message
from ...timestamps import new_id
from ...values import decode, encode_json
from .._base import UNREADABLE, reason, unreadable

_log = logging.getLogger("botwire")


def again(messages: Sequence[Message]) -> tuple[NewMessage, ...]:
    """Return stored messages, with their ids, to be stored again."""
    return tuple(NewMessage(message.id, message.stored) for message in messages)


def new_messages(messages: Sequence[ChatMessage]) -> tuple[NewMessage, ...]:
    """Return messages in their stored form, with new ids, or raise `InvalidValue`."""
    return tuple(NewMessage(new_id(), to_text(message)) for message in messages)


def to_text(message: ChatMessage) -> str:
    """Return the stored form of a message, after rebuilding it once: a message that cannot be read would break the session."""
    if not isinstance(message, ChatMessage):
        raise InvalidValue(f"a chat store holds ChatMessages, not {type(message).__name__}")
    try:
        _check_numbers(message.model_dump())
        dumped: dict[str, Any] = message.model_dump(mode="json")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(f"the {type(message).__name__} cannot be stored: {reason(error)}") from error
    data = {name: value for name, value in dumped.items() if name in ChatMessage.model_fields}
    own = {name: value for name, value in dumped.items() if name not in data}
    data["additional_kwargs"] = own | data["additional_kwargs"]
    text = encode_json(data)
    try:
        back = ChatMessage.model_validate(decode(text)).model_dump(mode="json")
    except UNREADABLE as error:
        raise InvalidValue(f"LlamaIndex would not read the {type(message).__name__} back: {reason(error)}") from None
    if back != data:
        raise InvalidValue(f"LlamaIndex would read the {type(message).__name__} back differently")
    return text


def _check_numbers(value: Any) -> None:
    """Refuse numbers that pydantic would silently write as null."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)


def deleted_messages(session: str, messages: Sequence[Message]) -> list[ChatMessage]:
    """Return messages that are deleted already. One that cannot be read is left out, so that it can be deleted too."""
    found = []
    for message in messages:
        try:
            found.append(to_message(session, message))
        except InvalidValue as error:
            _log.warning("a message was deleted and is not returned: %s", error)
    return found


def to_message(session: str, message: Message) -> ChatMessage:
    """Return a stored message, or raise `InvalidValue` with its seq."""
    try:
        return ChatMessage.model_validate(message.data)
    except UNREADABLE as error:
        raise unreadable(message.seq, session, "LlamaIndex", error) from None
