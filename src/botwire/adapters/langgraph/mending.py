"""Mending the messages of a thread that a crash, or a new message in the middle of a turn, has left invalid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import BaseMessage, RemoveMessage, message_to_dict, messages_from_dict
from langchain_core.runnables import RunnableConfig
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.pregel import Pregel
from pydantic_core import to_jsonable_python

from ...conversations.health import Problem, repair
from ...errors import InvalidValue
from ...records import Message
from ...values import encode_json

__all__ = ["amend_thread", "mend_thread"]

Policy = Literal["cancel", "drop"]


def mend_thread(
    graph: Pregel[Any, Any, Any, Any],
    config: RunnableConfig,
    policy: Policy = "cancel",
    *,
    channel: str = "messages",
    as_node: str | None = None,
) -> list[Problem]:
    """Repair the messages of a thread so that providers accept them; returns what was done.

    For a thread that a crash has left with a tool call without a result, and that is not to be resumed. The repaired messages are
    in a new checkpoint, which is on disk when this returns. The older checkpoints stay. Call it while no run uses the thread.

    Args:
        graph: the compiled graph, with its checkpointer.
        config: the thread, as for ``graph.invoke``.
        policy: what happens to a tool call without a result. "cancel": it gets one with the status ``error``. "drop": it is deleted.
        channel: the field of the state that has the messages. Its reducer is LangGraph's ``add_messages``.
        as_node: the node that the new checkpoint counts as written by, as for ``graph.update_state``.

    Raises:
        InvalidArgument: the policy is not one of these; nothing was written.
        InvalidValue: the field has something that is not a LangChain message; nothing was written.
    """
    mended, done = _mended(graph.get_state(config).values.get(channel) or [], policy)
    if done:
        graph.update_state(config, {channel: mended}, as_node)
    return done


async def amend_thread(
    graph: Pregel[Any, Any, Any, Any],
    config: RunnableConfig,
    policy: Policy = "cancel",
    *,
    channel: str = "messages",
    as_node: str | None = None,
) -> list[Problem]:
    """As `mend_thread`, awaited."""
    mended, done = _mended((await graph.aget_state(config)).values.get(channel) or [], policy)
    if done:
        await graph.aupdate_state(config, {channel: mended}, as_node)
    return done


def _mended(messages: Sequence[BaseMessage], policy: Policy) -> tuple[list[BaseMessage], list[Problem]]:
    """Return what to write into the channel, and what that does."""
    if not isinstance(messages, list) or not all(isinstance(item, BaseMessage) for item in messages):
        raise InvalidValue("the field of the state is not a list of LangChain messages: pass another channel")
    stored = [Message(seq, str(seq), _stored(item), 0) for seq, item in enumerate(messages, 1)]
    found = repair(stored, policy)
    if found is None:
        return [], []
    # Those that stay are written as they are.
    kept = {message.id: message for message in stored}
    tail = [
        messages[kept[id_].seq - 1] if id_ in kept and kept[id_].data == data else messages_from_dict([data])[0]
        for id_, data in found.messages
    ]
    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *messages[: found.after], *tail], found.done


def _stored(message: BaseMessage) -> str:
    # Messages that stay are never made of this, so values without a JSON form need not come back.
    return encode_json(to_jsonable_python(message_to_dict(message), fallback=str, inf_nan_mode="strings"))
