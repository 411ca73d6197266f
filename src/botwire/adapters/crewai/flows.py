"""BotWireFlowPersistence: the state of CrewAI's flows."""

from __future__ import annotations

from typing import Any, Self, Unpack

from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.persistence.base import FlowPersistence
from pydantic import BaseModel, Field, PrivateAttr
from pydantic_core import to_jsonable_python

from ...errors import InvalidArgument, InvalidValue
from ...limits import check_name
from ...memory import Memory, Options


class BotWireFlowPersistence(FlowPersistence):
    """Where flows of CrewAI keep their state, and what they wait for, beyond the process.

    ::

        @persist(BotWireFlowPersistence())
        class ReviewFlow(Flow[ReviewState]): …

    A state is on disk when the method that made it is done; the last one of each flow is kept. As in CrewAI's
    `SQLiteFlowPersistence`, what JSON does not know is stored as text.

    Args:
        namespace: the namespace to keep the states in.
        url: where it is, as for `botwire.Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `botwire.Memory`. They are not among the fields of this model, which CrewAI writes into checkpoints; nor is a
            password in the address.

    Raises:
        InvalidName, InvalidArgument: the namespace, the address or an option is not allowed.
        StoreError: the file cannot be opened.

    Every method may also raise the errors that `botwire.Memory` names.
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
            raise InvalidArgument("these states are encrypted: make the BotWireFlowPersistence with its encryption_key")
        encrypted = bool(options.get("encryption_key"))
        memory = Memory(namespace, url, **options)
        place = {"namespace": namespace, "url": url and memory.address, "encrypted": encrypted}
        super().__init__(persistence_type=persistence_type, **place)
        self._memory = memory

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a flow keeps its states in the same place."""
        return self

    def init_db(self) -> None:
        """Do nothing: there are no tables to make."""

    def save_state(self, flow_uuid: str, method_name: str, state_data: dict[str, Any] | BaseModel) -> None:
        """Store the state of a flow; it is on disk when this returns.

        Raises:
            InvalidValue: the state is neither a dict nor a model, or has more than 16 MiB; nothing was written.
        """
        self._memory.set(_state_key(flow_uuid), {"method_name": method_name, "state": _state(state_data)})

    def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
        """Return the last state of a flow, or None."""
        stored = self._memory.get(_state_key(flow_uuid))
        return None if stored is None else dict(stored["state"])

    def save_pending_feedback(
        self, flow_uuid: str, context: PendingFeedbackContext, state_data: dict[str, Any] | BaseModel
    ) -> None:
        """Store the state of a flow and what it waits for, both or neither; raises as `save_state`."""
        state = _state(state_data)
        waits = {"context": to_jsonable_python(context.to_dict(), fallback=str), "state": state}
        stored = {"method_name": context.method_name, "state": state}
        self._memory.set_many({_state_key(flow_uuid): stored, _pending_key(flow_uuid): waits})

    def load_pending_feedback(self, flow_uuid: str) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
        """Return the state of a flow and what it waits for, or None when it waits for nothing."""
        stored = self._memory.get(_pending_key(flow_uuid))
        if stored is None:
            return None
        return dict(stored["state"]), PendingFeedbackContext.from_dict(stored["context"])

    def clear_pending_feedback(self, flow_uuid: str) -> None:
        """Forget what a flow waits for. Its state stays."""
        self._memory.delete(_pending_key(flow_uuid))


def _state(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict | BaseModel):
        raise InvalidValue(f"the state of a flow is a dict or a pydantic model, not {type(data).__name__}")
    state: dict[str, Any] = to_jsonable_python(data, fallback=str)
    return state


def _state_key(flow_uuid: str) -> str:
    return check_name(f"state:{flow_uuid}")


def _pending_key(flow_uuid: str) -> str:
    return check_name(f"pending:{flow_uuid}")
