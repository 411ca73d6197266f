"""Save and load the state of AutoGen's agents and teams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Unpack

from pydantic_core import to_jsonable_python

from ...aio import AsyncMemory
from ...errors import InvalidValue
from ...memory import Options


class Stateful(Protocol):
    """An agent or a team of AutoGen, or another object whose state, as JSON values, can be saved and loaded."""

    async def save_state(self) -> Mapping[str, Any]: ...

    async def load_state(self, state: Mapping[str, Any]) -> None: ...


async def save_state(
    target: Stateful, name: str, namespace: str = "autogen-states", url: str | None = None, **options: Unpack[Options]
) -> None:
    """Store the state of an agent or a team under a name; it is on disk when this returns.

    Args:
        target: the agent or the team.
        name: the name of the state: 1 to 512 bytes of UTF-8 without control characters.
        namespace: the namespace of the states.
        url: the address, as for `botwire.Memory`.
        options: as for `botwire.Memory`, whose errors this may raise too.

    Raises:
        InvalidValue: the state contains objects that are not JSON, or has more than 16 MiB; nothing was written.
    """
    try:
        state = to_jsonable_python(dict(await target.save_state()))
    except ValueError as error:
        raise InvalidValue(f"the state of the {type(target).__name__} cannot be stored: {error}") from error
    async with AsyncMemory(namespace, url, **options) as memory:
        await memory.set(name, state)


async def load_state(
    target: Stateful, name: str, namespace: str = "autogen-states", url: str | None = None, **options: Unpack[Options]
) -> bool:
    """Load a state into an agent or a team. Returns whether there was one. Arguments as for `save_state`."""
    async with AsyncMemory(namespace, url, **options) as memory:
        entry = await memory.entry(name)
    if entry is not None:
        await target.load_state(entry.value)
    return entry is not None
