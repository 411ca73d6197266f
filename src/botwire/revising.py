"""Changes of a session that depend on what it holds: read, decide, and write on the condition that it has not changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .bridge import Bridge, repeated
from .conversations.health import Problem, problems, repair
from .conversations.redaction import redact
from .errors import Conflict, InvalidArgument
from .limits import MAX_OPERATIONS, check_about
from .operations import Edit, NewMessage, Replace, SetAbout
from .queries import CountMessages, GetSession, ListMessages
from .records import About, Message, Session
from .timestamps import new_id
from .values import encode_json


async def problems_of(bridge: Bridge, session: str) -> list[Problem]:
    """Return the problems of a session."""

    async def attempt() -> list[Problem]:
        _, messages = await _all_of(bridge, session)
        return await bridge.compute(problems, messages)

    return await repeated(bridge, attempt, f"session {session!r}")


async def mend_session(bridge: Bridge, session: str, policy: str) -> list[Problem]:
    """Repair a session, unless others change it while it is read: then repeat. Returns what was done."""

    async def attempt() -> list[Problem]:
        known, messages = await _all_of(bridge, session)
        found = await bridge.compute(lambda held: repair(held, policy), messages)  # type: ignore[arg-type]
        if found is None or known is None:
            return []
        if len(found.messages) > MAX_OPERATIONS:
            raise InvalidArgument(
                f"the first problem of session {session!r} is after message {found.after}, and {len(found.messages):,} messages "
                f"would be written again, of {MAX_OPERATIONS:,} at most; nothing was written. Fork it up to there"
            )
        new = tuple(NewMessage(new_id() if name is None else name, encode_json(data)) for name, data in found.messages)
        await bridge.write(Replace(session, new, found.after, if_last=messages[-1].seq, if_version=known.version))
        return found.done

    return await repeated(bridge, attempt, f"session {session!r}")


async def _all_of(bridge: Bridge, session: str) -> tuple[Session | None, list[Message]]:
    """Return a session and its messages. Over HTTP these come in several answers, between which others may change the session."""
    known = await bridge.read(GetSession(session))
    messages = await bridge.read(ListMessages(session))
    now = await bridge.read(GetSession(session))
    if (known and known.version) != (now and now.version):
        raise Conflict(f"session {session!r} was changed while it was read")
    return known, messages


async def redact_message(bridge: Bridge, session: str, seq: int, reason: str) -> int:
    """Redact a message, whatever others edit in it in the meantime. Returns its new version."""

    async def attempt() -> int:
        message = await _message(bridge, session, seq)
        stored = encode_json(redact(message.data))
        edit = Edit(session, seq, stored, message.version, reason, if_id=message.id)
        (version,) = await bridge.write(edit)
        assert isinstance(version, int)
        return version

    return await repeated(bridge, attempt, f"message {seq} of session {session!r}")


async def _message(bridge: Bridge, session: str, seq: int) -> Message:
    for message in await bridge.read(ListMessages(session, after=seq - 1, limit=1)):
        return message
    last = await bridge.read(CountMessages(session))
    raise InvalidArgument(f"session {session!r} has no message {seq}: its last is {last}; nothing was written")


async def change_about(bridge: Bridge, session: str, changes: Mapping[str, Any], if_version: int | None) -> About:
    """Change the title, owner, tags or data of a session, and return all of them. None removes one; the others stay."""
    if not changes:
        raise InvalidArgument("pass a title, an owner, tags or data to set; None removes one")

    async def attempt() -> About:
        known = await bridge.read(GetSession(session))
        old = About() if known is None else known.about
        if if_version not in {None, old.version}:
            raise Conflict(
                f"the title, owner, tags and data of session {session!r} have version {old.version}, not {if_version}; "
                "nothing was written. Read them again",
                session=session,
                version=old.version,
            )
        stored, owner, tags = _merged(old, changes)
        (version,) = await bridge.write(SetAbout(session, stored, owner, tags, if_version=old.version))
        assert isinstance(version, int)
        return About(version, owner, tags, stored)

    if if_version is not None:
        return await attempt()
    return await repeated(bridge, attempt, f"the title, owner, tags and data of session {session!r}")


def _merged(old: About, changes: Mapping[str, Any]) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the stored form of title and data, the owner and the tags."""
    title, data = changes.get("title", old.title), changes.get("data", old.data)
    if title is not None and not isinstance(title, str):
        raise InvalidArgument(f"a title is a str, not {type(title).__name__}")
    if data is not None and not isinstance(data, Mapping):
        raise InvalidArgument(f"data is a dict with str keys, not {type(data).__name__}")
    parts = {"title": title or None, "data": dict(data) if data else None}
    shown = {name: value for name, value in parts.items() if value is not None}
    stored = encode_json(shown) if shown else ""
    owner, tags = check_about(stored, changes.get("owner", old.owner), changes.get("tags", old.tags) or ())
    return stored, owner, tags
