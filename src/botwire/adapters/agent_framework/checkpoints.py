"""BotWireCheckpointStorage: checkpoints of workflows."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Unpack
from urllib.parse import unquote

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

from ...backoff import MAX_ATTEMPTS, pause_after
from ...errors import Conflict, InvalidValue
from ...limits import check_name
from ...memory import Memory, Options
from ...operations import Delete, Put
from ...values import encode
from .._base import OverMemory, quoted
from .codec import Codec

_log = logging.getLogger(__name__)
_ID, _CHECKPOINT = "id:", "checkpoint:"
"""Prefixes of keys. The key of a checkpoint has its workflow, its time and its id, so that the keys of a workflow are in the order of
their times, the latest first. That key is stored under the id."""
_END_OF_TIME = 10**18
"""More microseconds than from the year 1 to the year 9999."""


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
            InvalidValue: it has more than 16 MiB, or its timestamp is not in ISO format; nothing was written.
            Conflict: other clients saved the same id at the same time, again and again; nothing was written.
        """
        id_key, key = _id_key(checkpoint.checkpoint_id), _key(checkpoint)
        text = self._codec.dumps(checkpoint.to_dict())
        self._restored(text)  # or else nothing could be resumed from it
        await self._replace(id_key, Put(key, encode(text)))
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
        for key, text in reversed(await self._async_memory.items(_prefix(workflow_name))):
            try:
                checkpoints.append(self._restored(text))
            except WorkflowCheckpointException as error:
                _log.warning("The checkpoint %s cannot be read: %s", key, error)
        return checkpoints

    async def delete(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; returns whether it existed."""
        return await self._replace(_id_key(checkpoint_id))

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """Return the checkpoint of a workflow with the latest timestamp, or None. Reads no other checkpoint."""
        latest = await self._async_memory.items(_prefix(workflow_name), limit=1)
        return self._restored(latest[0][1]) if latest else None

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """Return the ids of the checkpoints of a workflow, the oldest first."""
        return [_id_of(key) for key in reversed(await self._async_memory.list_keys(_prefix(workflow_name)))]

    async def _replace(self, id_key: str, new: Put | None = None) -> bool:
        """Delete the checkpoint with an id, and store a new one if there is one; returns whether there was one before."""
        for attempt in range(MAX_ATTEMPTS):
            before = await self._async_memory.entry(id_key)
            if before is None and new is None:
                return False
            # Another client that replaces it now conflicts.
            place = Put(id_key, encode(new and {"place": new.key}), if_version=before.version if before else 0)
            old = [Delete(before.value["place"])] if before else []
            try:
                await self._async_memory.bridge.write(place, *old, new or Delete(id_key))
            except Conflict:
                if attempt == MAX_ATTEMPTS - 1:
                    raise
                await self._async_memory.bridge.sleep(pause_after(attempt))
            else:
                break
        return before is not None

    def _restored(self, text: str) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_dict(self._codec.loads(text))


def _id_key(checkpoint_id: str) -> str:
    return check_name(_ID + quoted(checkpoint_id, "checkpoint id"))


def _id_of(key: str) -> str:
    return unquote(key.rpartition("#")[2])


def _prefix(workflow_name: str) -> str:
    return check_name(f"{_CHECKPOINT}{quoted(workflow_name, 'workflow name')}#")


def _key(checkpoint: WorkflowCheckpoint) -> str:
    try:
        time = datetime.fromisoformat(checkpoint.timestamp)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"the timestamp of a checkpoint is a time in ISO format: {error}") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    left = _END_OF_TIME - (time - datetime.min.replace(tzinfo=UTC)) // timedelta(microseconds=1)
    return check_name(
        f"{_prefix(checkpoint.workflow_name)}{left:019}#{quoted(checkpoint.checkpoint_id, 'checkpoint id')}"
    )
