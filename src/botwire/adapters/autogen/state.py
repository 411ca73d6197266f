"""Save and load the state of AutoGen's agents and teams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Unpack

from pydantic_core import to_jsonable_python

from ...aio import AsyncMemory
from ...errors import InvalidValue
from ...memory import Options


class Stateful(Protocol):
    """An agent or a team of AutoGen, or anything else with a state that can be saved and loaded."""

    async def save_state(self) -> Mapping[str, Any]:
        """Return the state as JSON values."""
        ...

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        ...


async def save_state(
    target: Stateful, name: str, namespace: str = "autogen-states", url: str | None = None, **options: Unpack[Options]
) -> None:
    """Store the state of an agent or a team under a name; it is on disk when this returns.

    Args:
        target: the agent or the team.
        name: what to find it by: 1 to 512 bytes of UTF-8 without control characters.
        namespace: where.
        url: where the namespace is, as for `botwire.Memory`.
        options: as for `botwire.Memory`.

    Raises:
        InvalidValue: the state holds something that JSON does not know, or has more than 16 MiB; nothing was written.

    Raises also the errors that `botwire.Memory` names.
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
    """Load the state under a name into an agent or a team. Returns whether there was one. Arguments as in `save_state`."""
    async with AsyncMemory(namespace, url, **options) as memory:
        entry = await memory.entry(name)
    if entry is not None:
        await target.load_state(entry.value)
    return entry is not None
