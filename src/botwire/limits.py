"""What names, sizes and times are allowed, checked here and nowhere else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from .errors import InvalidArgument, InvalidName

MAX_NAMESPACE_CHARS = 128
MAX_NAME_BYTES = 512
"""The length of a key, a session name or a message id, in bytes of UTF-8."""
MAX_VALUE_BYTES = 16 * 1024 * 1024
"""The size of one value or message as it is stored (JSON text in UTF-8, or the bytes themselves)."""
MAX_DEPTH = 100
"""How deep lists and dicts may be nested in one value."""
MAX_WRITE_BYTES = 32 * 1024 * 1024
"""The size of one write, and of one HTTP request body."""
MAX_NODES = 1_000_000
"""How many commas, colons and opening brackets, outside of strings, one HTTP request body may have. They count values, names of
fields, lists and dicts, each of which takes up to 200 bytes of memory, beside its text, while the server checks the body."""
MAX_OPERATIONS = 10_000
"""How many operations, counting every message, one write may hold."""
MAX_ABOUT_BYTES = 16 * 1024
"""The size of what is known about a session: title, owner, tags and data as JSON text."""
MAX_TAGS = 32
"""The most tags of a session."""
MAX_COPIED = 100_000
"""The most messages that one fork copies, and that one replacement deletes."""
MAX_COPIED_BYTES = 64 * 1024 * 1024
"""The same in bytes."""
MAX_RULES = 64
"""The most rules of a namespace that say how long sessions are kept."""
MAX_PAGE = 10_000
"""The most rows that one read over HTTP returns. Callers of ``Memory`` never see this limit."""
PAGE_BYTES = 4 * 1024 * 1024
"""About how many bytes the rows of one read over HTTP take. The row that reaches it is the last. Callers never see this either."""
MAX_HITS = 1_000
"""The most hits that one search returns."""
MAX_QUESTION_CHARS = 8_000
"""The length of a question. Its first 1,000 different words count, and an embedder receives no more characters."""
MAX_FILTERS = 32
"""The most paths in the ``where`` of a search. Each may have `MAX_DEPTH` names, because no value is nested deeper."""
MAX_SEARCH_BYTES = 256 * 1024
"""The size of the body of a search over HTTP. A question, its filters and its vector take less, also with all characters escaped."""
MAX_WHERE_BYTES = 8 * 1024
"""The size of the ``where`` of a search as JSON text."""
MAX_DIMENSIONS = 4096
"""The most numbers that a vector has."""
MAX_NEIGHBOURS = 10
"""The most messages before and after a message that gain from its score."""
MAX_TIMEOUT_SECONDS = 1_000_000
"""Eleven days. The waits of operating systems and libraries overflow soon after."""
MAX_TTL_SECONDS = 100 * 366 * 86_400

ACCESS = "\x01access"
"""The namespace in which a store keeps tokens, claims and the audit log. No caller can name it: `check_namespace` refuses
control characters. It is on no plan."""


FIRST_NAME = " "
"""A namespace that sorts before this is one of the store's own. It begins with a control character, which no caller may use."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_namespace(name: object) -> str:
    """Return the name, or raise `InvalidName`: 1 to 128 characters, no ``/``, no control characters, not ``.`` or ``..``.

    The dots are refused because a URL path cannot carry them: RFC 3986, section 5.2.4, removes such segments.
    """
    # As in `check_name`: one C call each settles nearly every name there is.
    if type(name) is str and name.isalnum() and name.isascii() and len(name) <= MAX_NAMESPACE_CHARS:
        return name
    if not isinstance(name, str):
        raise InvalidName(_not_a_str("namespace", name))
    if not 0 < len(name) <= MAX_NAMESPACE_CHARS or "/" in name or name in {".", ".."} or _CONTROL.search(name):
        raise InvalidName(
            f"namespace {_shown(name)} is not allowed: use 1 to {MAX_NAMESPACE_CHARS} characters, "
            "no '/', no control characters, and not '.' or '..'"
            + ("; an address is passed as url=" if "://" in name else "")
        )
    return str(name)


def check_name(name: object, what: str = "key") -> str:
    """Return a key, session name or message id, or raise `InvalidName`: 1 to 512 bytes of UTF-8, no control characters."""
    # One C call settles nearly every name there is: printable ASCII of a moderate length.
    if type(name) is str and name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME_BYTES:
        return name
    if not isinstance(name, str):
        raise InvalidName(_not_a_str(what, name))
    if not name or _CONTROL.search(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidName(
            f"{what} {_shown(name)} is not allowed: use 1 to {MAX_NAME_BYTES} bytes of UTF-8 without control characters"
        )
    return str(name)


def check_prefix(prefix: object) -> str:
    """Return a prefix of keys, or raise `InvalidName`: a key, or nothing at all."""
    return "" if prefix == "" else check_name(prefix, "prefix")


def check_about(stored: str, owner: object, tags: object) -> tuple[str | None, tuple[str, ...]]:
    """Return the owner and the tags of a session, or raise `InvalidArgument` or `InvalidName`.

    A tag that is given twice counts once. ``stored`` is the JSON text of title and data, as the caller gave them. An encrypted one, which
    is a JSON string, may be a third and 200 bytes longer.
    """
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidArgument(f"tags is a list of names, not {type(tags).__name__}")
    named = tuple(dict.fromkeys(check_name(tag, "tag") for tag in tags))
    if len(named) > MAX_TAGS:
        raise InvalidArgument(f"a session has at most {MAX_TAGS} tags, not {len(named):,}")
    by = None if owner is None else check_name(owner, "owner")
    size = sum(len(text.encode()) for text in (stored, by or "", *named))
    most = MAX_ABOUT_BYTES * 4 // 3 + 200 if stored.startswith('"') else MAX_ABOUT_BYTES
    if size > most:
        raise InvalidArgument(
            f"title, owner, tags and data of a session have at most {most:,} bytes as JSON, these have {size:,}"
        )
    return by, named


class _TitleAndData(msgspec.Struct, forbid_unknown_fields=True):
    title: str | None = None
    data: dict[str, Any] | None = None


def check_title_and_data(stored: str) -> str:
    """Return the JSON text of title and data, or raise `InvalidArgument`. A JSON string is an encrypted one."""
    if not stored.startswith('"'):
        try:
            msgspec.json.decode(stored, type=_TitleAndData)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"a title is a str and data an object: {error}; nothing was written") from error
    return stored


def check_reason(reason: object) -> str | None:
    """Return the reason of a redaction, or raise `InvalidName`: like a key, or an empty str; None: there is none."""
    return None if reason is None else "" if reason == "" else check_name(reason, "reason")


def check_text(text: str, what: str) -> str:
    """Return a text, or raise `InvalidArgument` if UTF-8 cannot encode it."""
    if not text.isascii() and (half := _SURROGATE.search(text)):
        raise InvalidArgument(f"{what} has a lone surrogate ({half[0]!a}), half of a character: remove it")
    return text


def check_ttl(ttl: object, what: str = "ttl") -> float | None:
    """Return a time to live in seconds (None: for ever), or raise `InvalidArgument`: more than 0, at most 100 years.

    It is at least a microsecond: stores keep no less, and a rule of 0 could not be imported again.
    """
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TTL_SECONDS:
        raise InvalidArgument(f"{what} is seconds or a timedelta, more than 0 and at most 100 years, not {ttl!r}")
    return max(float(seconds), 1e-6)


def check_count(number: object, what: str, *, least: int = 0) -> int | None:
    """Return a count or position (None: not given), or raise `InvalidArgument` when it is not an int of at least `least`."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number < 2**63:
        bound = f"from {least} to 2**63 - 1" if isinstance(number, int) and number > least else f"of at least {least}"
        raise InvalidArgument(f"{what} is an int {bound}, not {number!r:.60}")
    return number


def check_numbers(what: str, numbers: Iterable[int | None]) -> None:
    """Raise `InvalidArgument` if a number has more than 64 bits, which no database stores."""
    for number in numbers:
        if number is not None and not -(1 << 63) < number < 1 << 63:
            raise InvalidArgument(f"{what} is a number of 64 bits, not {number}; nothing was written")


def check_bounded(number: object, what: str = "count", most: int = MAX_OPERATIONS) -> int:
    """Return a count, or raise `InvalidArgument` when it is not an int from 0 to `most`."""
    count = check_count(number, what)
    if count is None or count > most:
        raise InvalidArgument(f"{what} is an int from 0 to {most:,}, not {number!r}")
    return count


def check_time(time: object, what: str) -> int | None:
    """Return a time in microseconds since 1970 (None: not given), or raise `InvalidArgument` when it is no aware datetime."""
    if time is None:
        return None
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidArgument(f"{what} is a datetime with a time zone, such as datetime.now(UTC), not {time!r}")
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def check_nodes(body: bytes) -> None:
    """Raise `InvalidArgument` if JSON text has more than `MAX_NODES` values and what holds them. The text need not be valid.

    It counts bytes outside of strings, in a small part of the time and memory that decoding would take. It does so piece by
    piece: each step holds Python's lock, and an event loop may need it.
    """
    if len(body) <= _SHORT:
        return
    view, begin, cost, is_string = memoryview(body), 0, 1, False
    while begin < len(body):
        # A piece ends after a character, not between a backslash and what it escapes.
        run = _BACKSLASHES.match(body, begin + _PIECE)
        end = begin + _PIECE if run is None else run.end() + 1
        unescaped = _without_escapes(bytes(view[begin:end]))
        parts = unescaped.split(b'"')
        cost += _cost(b" ".join(parts[is_string::2]))
        if cost > MAX_NODES:
            raise InvalidArgument(
                f"a request body may have {MAX_NODES:,} commas, colons and opening brackets outside of strings, where numbers such "
                f"as 1e-300 count as {_SLOWNESS} and {len(_LONG)} digits as {_LONG_COST}, and this one has more: split it, or store "
                "the value as bytes"
            )
        begin, is_string = end, is_string ^ (len(parts) % 2 == 0)


def _without_escapes(text: bytes) -> bytes:
    return text.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in text else text


def _cost(text: bytes) -> int:
    """Return how many values and names there are, at most, by what begins and separates them, and by their time to decode."""
    cost = len(text) - len(text.translate(None, b",:[{"))
    cost += _LONG_COST * text.translate(_NINES).count(_LONG)
    if b"e" in text or b"E" in text:
        unsigned = text.translate(_LOWER_E, b"+-")
        cost += _SLOWNESS * sum(map(unsigned.count, _LARGE_EXPONENTS))
    return cost


_SHORT = 64 * 1024
_PIECE = 256 * 1024
_BACKSLASHES = re.compile(rb"(?<=\\)\\*")
_NINES = bytes.maketrans(b"012345678", b"9" * 9)
_LONG = b"9" * 500
_LONG_COST = 120
"""Digits in a row, and as how many values they count. An int of 4,300 digits takes Python 300 µs."""
_LOWER_E = bytes.maketrans(b"E", b"e")
_LARGE_EXPONENTS = [b"e0", b"e2", b"e3"]
"""How numbers end that take msgspec some 6 µs to decode, if they have many digits too. Without their signs."""
_SLOWNESS = 20
"""Such a number takes as long as this many others."""


def check_timeout(timeout: object) -> float:
    """Return a timeout in seconds, or raise `InvalidArgument`: more than 0 and finite. At most `MAX_TIMEOUT_SECONDS` count."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise InvalidArgument(f"timeout is seconds, more than 0 and finite, not {timeout!r}")
    return float(min(timeout, MAX_TIMEOUT_SECONDS))


def _not_a_str(what: str, name: object) -> str:
    cure = ": convert it with str(…)" if type(name).__name__ in {"int", "UUID"} else ""
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what} is a str, not {type(name).__name__}{cure}"


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 60 else name[:60] + "…")
