"""Messages without their content, valid for their format."""

from __future__ import annotations

import base64
import re
from typing import Any

from .fields import MEDIA, PARTS, STRUCTURE
from .shapes import shape_of

_TYPES = "type", "kind", "part_kind", "block_type"
_KEPT = frozenset({"usage", "usage_metadata", "usage_details", "token_usage", "tools"})
"""Numbers of tokens and definitions of tools: they say nothing about the conversation."""
_FREE = frozenset(
    {
        *("input", "args", "arguments", "tool_kwargs", "inputs", "parameters", "env"),
        *("metadata", "response_metadata", "provider_details", "vendor_metadata", "additional_properties", "artifact"),
        *("additional_information", "additional_location_info", "value", "error_details"),
    }
)
"""Fields that hold any JSON, in which no key is structure."""
_ARGUMENTS = frozenset({"arguments", "args"})
_TYPED = frozenset(
    {"function", "custom", "image_url", "file", "input_audio", "audio", "function_call", "data", "results"}
)
"""Fields whose dicts have no type, but fixed keys."""
_UNKNOWN_STRUCTURE = frozenset({"role", "type", "kind", "id", "parent_id"})
_BASE64 = frozenset({"data", "image", "audio", "video", "file_data", "b64_json", "result"})
_URLS = frozenset({"url", "uri", "image_url", "file_url", "audio_url", "video_url"})
_URL = "https://redacted.invalid/"
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""An image of one pixel: frameworks that decode images refuse anything else."""


REDACTED = "[redacted]"
"""What becomes of a text."""


def redact(data: Any, text: str = REDACTED) -> Any:
    """Return a message with the same structure, without its content.

    Roles, types, ids, names of tools, states, models and times stay. Every other text becomes `text`, also in arguments, results,
    reasoning and metadata, and every number in these. Arguments that are JSON text become ``{}``, images an image of one pixel, and
    URLs an address that does not exist. In data of an unknown format, only ``role``, ``type``, ``kind`` and ids stay.

    Redacting again changes nothing.
    """
    redactor = _Redactor(text)
    if type(data) is not dict:
        return redactor.free(data)
    return redactor.part(data) if shape_of(data).format else redactor.unknown(data)


class _Redactor:
    def __init__(self, text: str) -> None:
        self._text = text
        self._base64 = base64.b64encode(text.encode("utf-8", "replace")).decode()
        self._name = re.sub(r"[^A-Za-z0-9_-]", "", text)[:64] or "redacted"  # what OpenAI allows as a name

    def free(self, value: Any) -> Any:
        """Replace every text and number."""
        if type(value) is dict:
            return {key: self.free(item) for key, item in value.items()}
        if type(value) is list:
            return [self.free(item) for item in value]
        return value if value is None or type(value) is bool else self._text

    def unknown(self, data: dict[str, Any]) -> dict[str, Any]:
        """Replace the content of a dict of no known format, which may contain a message of one."""
        return {
            key: item
            if key in _UNKNOWN_STRUCTURE and type(item) is not dict and type(item) is not list
            else self.part(item)
            if type(item) is dict and shape_of(item).format
            else self.free(item)
            for key, item in data.items()
        }

    def part(self, data: dict[str, Any]) -> dict[str, Any]:
        """Replace the content of a message, or of a part of one."""
        return {key: self._field(data, key, item) for key, item in data.items()}

    def _field(self, data: dict[str, Any], key: str, item: Any) -> Any:
        kind = type(item)
        if key in _KEPT:
            return item
        if key == "additional_kwargs" and kind is dict:
            return self._extra(item)
        if kind is str:
            return self._leaf(data, key, item)
        if kind is list:
            return [] if key == "logprobs" else [self._item(key, one) for one in item]
        if kind is dict:
            return self._item(key, item)
        is_number = kind is int or kind is float
        return self._text if is_number and (key in _FREE or key in {"content", "output", "result"}) else item

    def _leaf(self, data: dict[str, Any], key: str, item: str) -> str:
        if key == "name":
            return item if _names_a_tool(data) else self._name
        if key in STRUCTURE:
            return item
        if key in _ARGUMENTS:
            return "{}"
        if key in _URLS:
            return self._url(item)
        if key in _BASE64 and (media := _media(data)):
            return _PNG if media == "image" else self._base64
        return self._text

    def _url(self, item: str) -> str:
        if item.startswith("data:image/"):
            return f"data:image/png;base64,{_PNG}"
        return f"data:text/plain;base64,{self._base64}" if item.startswith("data:") else _URL

    def _item(self, key: str, item: Any) -> Any:
        """Replace the content of a value in a list, or of a dict."""
        if type(item) is list:
            return [self._item(key, one) for one in item]
        if type(item) is not dict:
            # Paths of errors and the like hold indexes, which have no other use.
            return self.free(item)
        if key in _FREE:
            return self.free(item)
        if key == "content" and item.keys() == {"data"} and type(item["data"]) is str:
            return {"data": _PNG}  # an image of AutoGen
        types = [item[name] for name in _TYPES if type(item.get(name)) is str]
        if key in _ANY_CONTENT and not any(type_ in PARTS for type_ in types):
            return self.part(item) if _is_untyped_part(item) else self.free(item)
        is_typed = bool(types) or key in _TYPED or key in _CALLS or shape_of(item).format
        return self.part(item) if is_typed else self.free(item)

    def _extra(self, data: dict[str, Any]) -> dict[str, Any]:
        """Replace the content of extra fields, of which LlamaIndex and LangChain need the calls."""
        return {
            key: self._field(data, key, item)
            if key in {*_CALLS, "tool_call_id", "name", "function_call"}
            else self.free(item)
            for key, item in data.items()
        }


_ANY_CONTENT = frozenset({"content", "output", "outputs", "result"})
"""Fields that hold parts of known types, or any JSON."""
_CALLS = frozenset({"tool_calls", "invalid_tool_calls", "tool_call_chunks"})


def _is_untyped_part(item: dict[str, Any]) -> bool:
    """Return whether this is a call or a result of AutoGen, or the output of a shell in OpenAI Responses."""
    return item.keys() in ({"id", "arguments", "name"}, {"content", "name", "call_id", "is_error"}) or (
        type(item.get("outcome")) is dict and "stdout" in item
    )


def _names_a_tool(data: dict[str, Any]) -> bool:
    role = data.get("role", data.get("type"))
    return not (type(role) is str and role in _PEOPLE)


_PEOPLE = frozenset({"user", "system", "developer", "assistant", "human", "ai", "chat", "text"})


def _media(data: dict[str, Any]) -> str:
    """Return "image", "file" or "" for a part that may hold base64."""
    if data.get("type") == "text":
        return ""
    types = [data[name] for name in (*_TYPES, "media_type", "mime_type") if type(data.get(name)) is str]
    if any("image" in type_ for type_ in types):
        return "image"
    return (
        "file"
        if any(type_ in MEDIA or "/" in type_ or type_ == "base64" for type_ in types) or "format" in data
        else ""
    )
