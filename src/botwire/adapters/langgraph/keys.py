"""Keys made of names. Names are any text; they are escaped so that none contains the separator of a key."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ...errors import InvalidName

MAX_PART_BYTES = 96
"""The length of a name within a key. A key has at most four names and an id, and 512 bytes in all."""
MAX_ID_BYTES = 130

_UNSAFE = re.compile("[\x00-\x1f%/\x7f-\x9f\U0010ffff]")
_KEPT = 24


def part(name: str) -> str:
    """Return a name as a part of a key, without ``/`` and control characters. Different names have different parts.

    A name that is too long is cut and ends in ``%%`` and its SHA-256. No escaped name contains ``%%``.

    Raises:
        InvalidName: as `check_text`.
    """
    if name.isalnum() and name.isascii() and len(name) <= MAX_PART_BYTES:
        return name
    escaped = escape(check_text(name))
    if len(escaped.encode()) <= MAX_PART_BYTES:
        return escaped
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{escaped.encode()[:_KEPT].decode(errors='ignore')}%%{digest}"


def check_text(name: str, what: str = "name") -> str:
    """Return a name, or raise `InvalidName` if it is not Unicode text: it has a lone surrogate."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidName(
            f"the {what} {name[:60]!a} has a lone surrogate, so it is not Unicode text. Remove it"
        ) from None
    return name


def thread_name(id_: Any) -> str:
    """Return the id of a thread, such as a str, an int or a UUID, as text, or raise `InvalidName`: None and bytes are no ids."""
    if id_ is None or isinstance(id_, bytes | bytearray):
        raise InvalidName(f"a thread_id is a str, an int or a UUID, not {type(id_).__name__}")
    return check_text(str(id_))


def escape(name: str) -> str:
    """Return a name with ``/``, ``%`` and characters that a key cannot have as ``%XX`` or ``%{XXXX}``."""
    return _UNSAFE.sub(_escaped, name)


def unescape(text: str) -> str:
    """Return the name that `escape` was given."""
    if "%" not in text:
        return text
    return re.sub(r"%(?:([0-9A-F]{2})|\{([0-9A-F]+)\})", lambda found: chr(int(found[1] or found[2], 16)), text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"%{code:02X}" if code < 0x100 else f"%{{{code:X}}}"


class _Mirror(dict[int, int]):
    """A table for `str.translate` that reverses the order of characters."""

    def __missing__(self, code: int) -> str:
        return f"}}{0x22 - code:02x}" if code < 0x23 else f"!{0x10FFFF - code:06x}"


_MIRROR = _Mirror({code: 0x9F - code for code in range(0x23, 0x7D)})


def mirrored(name: str) -> str:
    """Return an id as a part of a key that sorts in descending order.

    So the newest checkpoint, which has the greatest id, is listed first. No result is a prefix of another.

    Raises:
        InvalidName: the id is longer than 130 bytes in this form; the ids of LangGraph have 36. Or as `check_text`.
    """
    text = f"{check_text(name).translate(_MIRROR)}~"
    if len(text) > MAX_ID_BYTES:
        raise InvalidName(f"the checkpoint id {name[:40]!a}… is too long: {len(text):,} bytes of {MAX_ID_BYTES}")
    return text
