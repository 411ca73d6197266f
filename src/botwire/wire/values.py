"""Values in bodies: the stored JSON text becomes part of the body, bytes are base64.

A server checks each JSON value that it receives: it decodes the value and stores its compact form. What it sends, and what the
client receives, is the stored text; neither decodes it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, UnsetType

from ..errors import InvalidArgument, InvalidValue
from ..limits import MAX_DEPTH
from ..values import Stored, check_json, encode

MEDIA_TYPE = "application/json"
_json = msgspec.json.encode


def _value(stored: Stored) -> dict[str, Any]:
    return {"value_base64": stored} if isinstance(stored, bytes) else {"value": Raw(stored.encode())}


def _stored(value: Raw | UnsetType, value_base64: bytes | UnsetType) -> Stored:
    if isinstance(value, UnsetType) == isinstance(value_base64, UnsetType):
        raise InvalidValue('give either "value" (JSON) or "value_base64" (bytes)')
    if isinstance(value_base64, bytes):
        return encode(value_base64)
    return check_json(value)  # type: ignore[arg-type]


B = TypeVar("B")


def _decoded(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    try:
        return decoder.decode(body)
    except RecursionError as error:
        # How deep the parser goes depends on the version of Python; the limit for a value does not.
        raise InvalidValue(f"a value may be nested {MAX_DEPTH} deep, this one is nested deeper") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"invalid request body: {error}") from error
