"""BotWireFlowPersistence: the state of CrewAI's flows."""

from __future__ import annotations

from datetime import date
from typing import Any, Self, Unpack

from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.persistence.base import FlowPersistence
from pydantic import BaseModel, Field, PrivateAttr
from pydantic_core import to_jsonable_python

from ...errors import InvalidArgument, InvalidValue
from ...memory import Memory, Options


class BotWireFlowPersistence(FlowPersistence):
    """Persistent states of CrewAI's flows, and of what they wait for.

    A state is on disk when the method that made it has returned. Only the last state of each flow is kept. Objects that are not JSON
    are stored as text, as in CrewAI's `SQLiteFlowPersistence`.

    Args:
        namespace, url, options: as for `botwire.Memory`. It also lists the errors of the constructor and of every method. CrewAI
            writes the fields of this model into checkpoints: the namespace and the address without its password, but no options.
    """

    persistence_type: str = Field(default="BotWireFlowPersistence")
    namespace: str = "crewai-flows"
    url: str | None = None
    encrypted: bool = False
    _memory: Memory = PrivateAttr()

    def __init__(
        self,
        namespace: str = "crewai-flows",
        url: str | None = None,
        *,
        persistence_type: str = "BotWireFlowPersistence",
        encrypted: bool = False,
        **options: Unpack[Options],
    ) -> None:
        if encrypted and not options.get("encryption_key"):
            raise InvalidArgument(
                "these states are encrypted: create the BotWireFlowPersistence with its encryption_key"
            )
        encrypted = bool(options.get("encryption_key"))
        memory = Memory(namespace, url, **options)
        fields = {"namespace": namespace, "url": url and memory.address, "encrypted": encrypted}
        super().__init__(persistence_type=persistence_type, **fields)
        self._memory = memory

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a flow shares its persistence."""
        return self

    def init_db(self) -> None:
        """Do nothing: there are no tables to create."""

    def save_state(self, flow_uuid: str, method_name: str, state_data: dict[str, Any] | BaseModel) -> None:
        """Store the state of a flow: a dict or a model of up to 16 MiB, or else `InvalidValue`. It is on disk when this returns."""
        self._memory.set(f"state:{flow_uuid}", {"method_name": method_name, "state": _state(state_data)})

    def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
        stored = self._memory.get(f"state:{flow_uuid}")
        return None if stored is None else dict(stored["state"])

    def save_pending_feedback(
        self, flow_uuid: str, context: PendingFeedbackContext, state_data: dict[str, Any] | BaseModel
    ) -> None:
        """Store the state of a flow and what it waits for, both or neither; raises as `save_state`."""
        state = _state(state_data)
        waits = {"context": _plain(context.to_dict()), "state": state}
        stored = {"method_name": context.method_name, "state": state}
        self._memory.set_many({f"state:{flow_uuid}": stored, f"pending:{flow_uuid}": waits})

    def load_pending_feedback(self, flow_uuid: str) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
        stored = self._memory.get(f"pending:{flow_uuid}")
        if stored is None:
            return None
        return dict(stored["state"]), PendingFeedbackContext.from_dict(stored["context"])

    def clear_pending_feedback(self, flow_uuid: str) -> None:
        self._memory.delete(f"pending:{flow_uuid}")


def _state(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict | BaseModel):
        raise InvalidValue(f"the state of a flow is a dict or a pydantic model, not {type(data).__name__}")
    state = _plain(data)
    if not isinstance(state, dict):
        raise InvalidValue(f"the state of a flow has fields, and a {type(data).__name__} has none")
    return state


def _plain(data: Any) -> Any:
    try:
        return to_jsonable_python(_with_dates_as_given(data), fallback=str)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"the state of the flow cannot be stored: {error}") from error


def _with_dates_as_given(value: Any) -> Any:
    """Write dates outside of models as CrewAI does: pydantic would write Z for +00:00."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _with_dates_as_given(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_with_dates_as_given(item) for item in value]
    return value
