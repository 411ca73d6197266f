"""Summaries of the messages that no longer fit into a budget."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from ...aio import AsyncMemory
from ...bridge import awaiting
from ...errors import Conflict, InvalidArgument, InvalidValue
from ...history import History
from ...namespace import Namespace
from ...queries import ListMessages
from ...records import Message
from ...values import decode
from .._contexts import Limits
from .items import to_message, to_text

if TYPE_CHECKING:
    from ...reading import PickedContext

Summarizer: TypeAlias = LLM | Callable[[list[ChatMessage]], "str | ChatMessage | Awaitable[str | ChatMessage]"]
"""An LLM, or a function from messages to their summary."""

_PROMPT = (
    "Below is the transcript of a conversation. It may begin with a summary of what came before it. Write a summary of all of it, with the "
    "facts, decisions and open questions that the assistant needs to continue. Use at most {words} words."
)
_MOST_MESSAGES = 1_000
"""Messages of one summary: a session that had none so far may be long."""

_log = logging.getLogger("botwire")
_context, _store = awaiting(History.context_messages), awaiting(History.summarize)


def check_summarizer(summarizer: object, max_tokens: int | None) -> None:
    """Raise `InvalidArgument` if this is no summarizer, or there is no limit at which it would be called."""
    if summarizer is None:
        return
    if not isinstance(summarizer, LLM) and not callable(summarizer):
        raise InvalidArgument(f"summarizer is an LLM or a function of messages, not {type(summarizer).__name__}")
    if max_tokens is None:
        raise InvalidArgument("summarizer needs max_tokens: it summarizes the messages that no longer fit")


async def store_summary(
    memory: Namespace, session: str, limits: Limits, picked: PickedContext, summarizer: Summarizer
) -> bool:
    """Store a summary of the oldest messages that a context leaves out; returns whether the session must be read again.

    Messages that others append while the summarizer runs come after those that it covers. If others change the session in another way,
    or store a summary first, this one is not stored.
    """
    if not picked.messages or picked.messages[0].seq == _covered(picked) + 1:
        return False
    # A new summary makes room for some turns, so that it is not needed in each.
    kept = await _half(memory, session, limits, picked)
    old = await _left_out(memory, session, limits, kept)
    if not old:
        return False
    found = [*map(ChatMessage.model_validate, kept.summary), *(to_message(session, message) for message in old)]
    summary = [decode(to_text(await _summary_of(memory, found, summarizer, limits)))]
    others = kept.tokens - await _tokens(memory, limits, kept.summary)
    if others + await _tokens(memory, limits, summary) > (limits.max_tokens or 0):
        _log.warning("a summary of session %r is not stored: it does not fit into max_tokens", session)
        return False
    try:
        await _store(History(memory, session), upto=old[-1].seq, summary=summary, if_version=kept.version)
    except (Conflict, InvalidArgument):  # others changed the session, or deleted these messages
        _log.info("a summary of session %r is not stored: the session was changed in the meantime", session)
    return True


def _covered(picked: PickedContext) -> int:
    """Return the last seq that the summary or the system messages of a context cover."""
    return max(picked.summarized, picked.system[-1].seq if picked.system else 0)


async def _half(memory: Namespace, session: str, limits: Limits, picked: PickedContext) -> PickedContext:
    """Return the context within half of the limit, or this one if its newest turn is larger."""
    try:
        half = await _context(History(memory, session), (limits.max_tokens or 0) // 2 or 1, count=limits.counter)
    except InvalidArgument:
        return picked
    return half if half.messages else picked


async def _left_out(memory: Namespace, session: str, limits: Limits, kept: PickedContext) -> list[Message]:
    """Return the oldest messages between the start of a context and the rest of it, with `max_tokens` at most.

    None are returned if everything fits, and the context leaves them out for another reason, as providers require.
    """
    start = _covered(kept)
    count = kept.messages[0].seq - 1 - start
    if count < 1:
        return []
    messages = await memory.bridge.read(ListMessages(session, start, min(count, _MOST_MESSAGES)))
    most, total = limits.max_tokens or 0, 0.0
    found: list[Message] = []
    for message in messages:
        total += await _tokens(memory, limits, [message.data])
        if found and total > most:
            break
        found.append(message)
    fits = len(found) == count and kept.tokens + total <= most
    return [] if fits and not kept.summarized else found


async def _tokens(memory: Namespace, limits: Limits, data: Sequence[Any]) -> float:
    from ...conversations.context import Picker

    tokens: float = await memory.bridge.compute(lambda given: Picker(count=limits.counter, summary=given).tokens, data)
    return tokens


async def _summary_of(
    memory: Namespace, messages: list[ChatMessage], summarizer: Summarizer, limits: Limits
) -> ChatMessage:
    if isinstance(summarizer, LLM):
        prompt = _prompt(messages, limits)
        is_async = isinstance(memory, AsyncMemory)
        answer: Any = (await summarizer.achat(prompt) if is_async else summarizer.chat(prompt)).message.content
    else:
        answer = await memory.bridge.compute(summarizer, messages)
        if inspect.isawaitable(answer):
            if not isinstance(memory, AsyncMemory):
                if inspect.iscoroutine(answer):
                    answer.close()
                raise InvalidArgument("get cannot await the summarizer: use aget, or pass a function that returns text")
            answer = await answer
    if isinstance(answer, ChatMessage):
        return answer
    if not isinstance(answer, str) or not answer:
        raise InvalidValue(f"the summarizer returned {type(answer).__name__}, not a text or a ChatMessage")
    return ChatMessage(answer, role="system")


def _prompt(messages: Sequence[ChatMessage], limits: Limits) -> list[ChatMessage]:
    words = max((limits.max_tokens or 0) // 8, 20)
    transcript = "\n\n".join(map(_line, messages))
    return [ChatMessage(_PROMPT.format(words=words), role="system"), ChatMessage(transcript, role="user")]


def _line(message: ChatMessage) -> str:
    """Return a message as a part of a transcript, with its tool calls."""
    calls = [*(message.additional_kwargs.get("tool_calls") or ())]
    calls += [block for block in message.blocks if getattr(block, "block_type", "") == "tool_call"]
    texts = [message.content or "", *(f"calls a tool: {call}" for call in calls)]
    return f"{message.role.value}: " + "\n".join(filter(None, texts))
