"""The default estimate of tokens.

The rule follows OpenAI's advice "1 token ~= 4 chars in English", of its help page "What are tokens and how to count them?"
(https://help.openai.com/en/articles/4936856). It counts UTF-8 bytes, because other scripts need more tokens for a character.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .fields import MEDIA, STRUCTURE

MESSAGE_TOKENS = 4
"""Tokens of each message for its role, ids and separators."""
MEDIA_TOKENS = 1_600
"""Tokens of an image or a file: about those of the largest image that Anthropic does not scale down."""

_encode = msgspec.json.Encoder().encode


def estimate_tokens(data: Any) -> int:
    """Return an estimate of the tokens of a message.

    It is 4, plus a quarter of the UTF-8 bytes of the texts in the message, rounded up: content, arguments and results, and numbers as
    JSON text. Structure, such as roles, ids and types, does not count. An image, or a file that is not text, counts as 1,600 tokens.

    The number is meant for English text. Pass the tokenizer of your model as `count` where a budget must hold exactly.
    """
    if type(data) is dict and len(data) == 2 and type(text := data.get("content")) is str and "role" in data:
        return MESSAGE_TOKENS + (_bytes(text) + 3) // 4
    size, media = _measured(data)
    return MESSAGE_TOKENS + (size + 3) // 4 + media * MEDIA_TOKENS


def _bytes(text: str) -> int:
    # msgspec decodes JSON with lone surrogates, which UTF-8 does not have.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _measured(data: Any) -> tuple[int, int]:
    """Return the bytes of all texts, and the number of images and files."""
    size = media = 0
    left = [data]
    while left:
        value = left.pop()
        kind = type(value)
        if kind is str:
            if value.startswith("data:") and ";base64," in value[:200]:
                media += 1
            else:
                size += _bytes(value)
        elif kind is dict:
            if _is_media(value):
                media += 1
            else:
                left += [item for key, item in value.items() if key not in STRUCTURE or type(item) in _CONTAINERS]
        elif kind is list:
            left += value
        elif kind is int or kind is float:
            size += len(_encode(value))
    return size, media


_CONTAINERS = frozenset({dict, list})


def _is_media(value: dict[str, Any]) -> bool:
    for key in _TYPE_KEYS & value.keys():
        type_ = value[key]
        if type(type_) is str and type_ in MEDIA:
            source = value.get("source")
            return not (type(source) is dict and source.get("type") in {"text", "content"})
    return "data" in value and _is_encoded(value)


_TYPE_KEYS = frozenset({"type", "kind", "block_type"})


def _is_encoded(value: dict[str, Any]) -> bool:
    """Return whether a dict has data in base64."""
    is_file = "media_type" in value or "mime_type" in value
    return is_file and value.get("type") != "text" and type(value["data"]) is str
