"""BotWireCheckpointStorage: checkpoints of workflows."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Unpack
from urllib.parse import quote, unquote

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

from ...limits import check_name
from ...memory import Memory, Options
from ...operations import Delete, Operation, Put
from ...values import encode
from .._base import OverMemory
from .codec import Codec

_log = logging.getLogger(__name__)
_ID, _CHECKPOINT = "id:", "checkpoint:"


class BotWireCheckpointStorage(OverMemory):
    """Persistent storage for checkpoints of workflows.

    It implements the framework's `CheckpointStorage`. A checkpoint is on disk when `save` returns, and comes back unchanged. It may
    contain Python values (including tuples, sets, dates, UUIDs, decimals and the classes of `collections`), data of the framework and of
    ``openai.types``, and your own classes that you allow here or with the framework's `register_checkpoint_type`. Saving another
    type is refused.

    Checkpoints are stored as JSON. Loading one creates only these types, from any source: nothing is unpickled, and no module is
    imported because the data names it.

    Args:
        allowed_checkpoint_types: your own classes, each as ``"module:qualname"``.
        namespace, url, options: as for `botwire.Memory`. It also lists the errors of the constructor and of every method.
    """

    def __init__(
        self,
        namespace: str = "agent-framework-checkpoints",
        url: str | None = None,
        *,
        allowed_checkpoint_types: list[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._memory = Memory(namespace, url, **options)
        self._codec = Codec(allowed_checkpoint_types or ())

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Store a checkpoint and return its id. It replaces one with the same id.

        Raises:
            WorkflowCheckpointException: it contains a type that is not allowed, or could not be loaded again; nothing was written.
            InvalidValue: it has more than 16 MiB; nothing was written.
        """
        text = self._codec.dumps(checkpoint.to_dict())
        self._restored(text)  # or else nothing could be resumed from it
        id_key, key = _id_key(checkpoint.checkpoint_id), _key(checkpoint.workflow_name, checkpoint.checkpoint_id)
        before = await self._async_memory.get(id_key)
        moved: list[Operation] = [] if before is None or before["place"] == key else [Delete(before["place"])]
        about = {"place": key, "timestamp": checkpoint.timestamp}
        await self._async_memory.bridge.write(*moved, Put(id_key, encode(about)), Put(key, encode(text)))
        return str(checkpoint.checkpoint_id)

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """Return a checkpoint. `WorkflowCheckpointException`: there is none, or it contains a type that is not allowed."""
        about = await self._async_memory.get(_id_key(checkpoint_id))
        text = None if about is None else await self._async_memory.get(about["place"])
        if text is None:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return self._restored(text)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """Return the checkpoints of a workflow, the oldest first. Those that cannot be read are logged and left out."""
        checkpoints = []
        for key, text in await self._async_memory.items(_key(workflow_name)):
            try:
                checkpoints.append(self._restored(text))
            except WorkflowCheckpointException as error:
                _log.warning("The checkpoint %s cannot be read: %s", key, error)
        return sorted(checkpoints, key=lambda checkpoint: _time(checkpoint.timestamp))

    async def delete(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; returns whether it existed."""
        about = await self._async_memory.get(_id_key(checkpoint_id))
        if about is None:
            return False
        return bool(await self._async_memory.delete_many([about["place"], _id_key(checkpoint_id)]))

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """Return the checkpoint of a workflow with the latest timestamp, or None. Reads no other checkpoint."""
        ids = await self.list_checkpoint_ids(workflow_name=workflow_name)
        return await self.load(ids[-1]) if ids else None

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """Return the ids of the checkpoints of a workflow, the oldest first."""
        keys = await self._async_memory.list_keys(_key(workflow_name))
        about = await self._async_memory.get_many(_ID + key.rpartition("#")[2] for key in keys)
        found = sorted(about.items(), key=lambda pair: _time(pair[1]["timestamp"]))
        return [unquote(key.removeprefix(_ID)) for key, _ in found]

    def _restored(self, text: str) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_dict(self._codec.loads(text))


def _id_key(checkpoint_id: str) -> str:
    return check_name(_ID + quote(checkpoint_id, safe=""))


def _key(workflow_name: str, checkpoint_id: str = "") -> str:
    return check_name(f"{_CHECKPOINT}{quote(workflow_name, safe='')}#{quote(checkpoint_id, safe='')}")


def _time(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
