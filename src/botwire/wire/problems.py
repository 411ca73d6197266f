"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import BY_CODE, BotWireError
from .values import _json

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE = "urn:botwire:error:"
"""The ``type`` of a problem document begins with this, and the error's code follows (RFC 9457, section 3.1.1)."""


def encode_problem(error: BotWireError) -> bytes:
    """Return an error as a problem document (RFC 9457)."""
    title = (type(error).__doc__ or "").partition("\n")[0]
    document = {"type": PROBLEM_TYPE + error.code, "title": title, "status": error.status, "detail": error.message}
    return _json({**error.details, **document})


def decode_problem(status: int, body: bytes) -> BotWireError | None:
    """Return the error in a problem document, in the class in which the server raised it. None: the body is not one of ours."""
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    kind = str(document.pop("type", ""))
    cls = BY_CODE.get(kind.removeprefix(PROBLEM_TYPE)) if kind.startswith(PROBLEM_TYPE) else None
    if cls is None:
        return None
    detail = str(document.pop("detail", f"HTTP {status}"))
    return cls(detail, **{k: v for k, v in document.items() if k not in {"title", "status", "message"}})
