"""BotWireMemory: a session as the memory of an agent, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory import BaseMemory

from ...aio import AsyncMemory
from ...bridge import awaiting
from ...errors import InvalidArgument
from ...history import History
from ...limits import check_count
from ...memory import Memory, Options
from ...namespace import Namespace
from ...operations import Forget
from ...values import decode
from .._base import SessionId, async_form, blocking_method, session_name
from .._contexts import Limits, limits_of, reduced
from .items import to_message, to_text
from .logic import add, read_all, replace_all
from .reopened import Reopened, is_encrypted
from .summaries import Summarizer, check_summarizer, store_summary

if TYPE_CHECKING:
    from ...conversations.health import Problem
    from ...reading import PickedContext

_fork, _mend, _summarize = awaiting(History.fork), awaiting(History.mend), awaiting(History.summarize)


class BotWireMemory(Reopened, BaseMemory):
    """A persistent memory for LlamaIndex's agents and chat engines.

    ::

        memory = BotWireMemory("user-42", max_tokens=8_000, summarizer=llm)
        await agent.run("I am Ada.", memory=memory)

    Messages are on disk when a call that puts them returns, and all of them are kept. The messages of one call stay together: all are
    stored, or none. Threads, processes and event loops may use a session at once. `get` returns what the model receives: the system
    messages at the start of the session, the summary, and the newest messages that fit. A tool call is never separated from its results.

    The messages have the form of those of `BotWireChatStore`, which calls a session a key. `summarizer` and `count` are not part of a copy that
    `pickle` or `to_dict` makes. Pass them to ``from_dict``.

    Args:
        session_id: the session: 1 to 512 bytes of UTF-8 without control characters. Of an int or a UUID, the text.
        namespace, url, options: as for `botwire.Memory`. It also lists the errors of the constructor and of every method.
        max_tokens: `get` returns at most this many tokens, by `count`. None: no limit.
        count: takes a message and returns its tokens. None: 4 tokens a message, and one for each 4 bytes of UTF-8 of its texts.
        summarizer: an LLM, or a function that takes messages and returns a summary of them, as a text or a `ChatMessage`. `aget` also
            awaits it. `get` calls it when messages no longer fit into `max_tokens`. The first of the messages is the summary so far.
        ttl: seconds, or a timedelta, after which the session expires if no message is put. None: putting changes nothing.
    """

    session_id: str = Field(description="The name of the session")
    max_tokens: int | None = Field(default=None, description="The most tokens of what `get` returns; None: no limit")

    _memory: Memory = PrivateAttr()
    _async_memory: AsyncMemory = PrivateAttr()
    _limits: Limits = PrivateAttr()
    _given: dict[str, Any] = PrivateAttr()
    _summarizer: Summarizer | None = PrivateAttr()

    def __init__(
        self,
        session_id: SessionId,
        namespace: str = "llama-index-sessions",
        url: str | None = None,
        *,
        max_tokens: int | None = None,
        count: Callable[[ChatMessage], float] | None = None,
        summarizer: Summarizer | None = None,
        ttl: float | timedelta | None = None,
        **options: Unpack[Options],
    ) -> None:
        limits = limits_of(max_tokens, count, ttl, ChatMessage.model_validate)
        check_summarizer(summarizer, max_tokens)
        encrypted = is_encrypted(options)
        memory = Memory(namespace, url, **options)
        super().__init__(
            namespace=namespace,
            url=url and memory.address,
            encrypted=encrypted,
            ttl=limits.ttl,
            session_id=session_name(session_id),
            max_tokens=max_tokens,
        )
        self._memory, self._async_memory = memory, AsyncMemory.of(memory)
        self._limits, self._summarizer = limits, summarizer
        self._given = {"count": count, "summarizer": summarizer, **options}

    @classmethod
    def class_name(cls) -> str:
        return "BotWireMemory"

    @classmethod
    def from_defaults(cls, **kwargs: Any) -> Self:
        """As the constructor."""
        return cls(**kwargs)

    @blocking_method
    async def get(
        self,
        memory: Namespace,
        /,
        input: str | None = None,  # noqa: A002, ARG002 - LlamaIndex's name
        *,
        initial_token_count: int = 0,
        **_: Any,
    ) -> list[ChatMessage]:
        """Return what the model receives, in order. `get_all` returns every message.

        If messages no longer fit, it asks the summarizer for a summary of them and of the summary so far, at most once in a call. The
        newest messages that have half of `max_tokens` stay as they are. The summary is on disk when this returns. What others put in
        the meantime stays and is not covered. If others edit, delete or summarize messages in the meantime, theirs counts. A summary
        that does not fit is not stored, and a warning is logged.

        Args:
            input: not used.
            initial_token_count: tokens of what the model receives beside this, which count as part of `max_tokens`.

        Raises:
            InvalidValue: the session contains something that is not a message of LlamaIndex.
            InvalidArgument: not even the newest messages fit into `max_tokens`, or `count` failed.
        """
        limits = self._limits
        if limits.max_tokens is not None and (used := check_count(initial_token_count, "initial_token_count")):
            if used >= limits.max_tokens:
                raise InvalidArgument(
                    f"initial_token_count is less than max_tokens, which is {limits.max_tokens}, not {used}"
                )
            limits = limits._replace(max_tokens=limits.max_tokens - used)
        picked = await reduced(memory, self.session_id, limits)
        if picked is None:
            return await read_all(memory, self.session_id)
        if self._summarizer is not None and await store_summary(
            memory, self.session_id, limits, picked, self._summarizer
        ):
            picked = await reduced(memory, self.session_id, limits)
            assert picked is not None
        return self._restored(picked)

    def _restored(self, picked: PickedContext) -> list[ChatMessage]:
        system, newest = (
            [to_message(self.session_id, one) for one in found] for found in (picked.system, picked.messages)
        )
        return [*system, *(ChatMessage.model_validate(data) for data in picked.summary), *newest]

    @blocking_method
    async def get_all(self, memory: Namespace) -> list[ChatMessage]:
        """Return every message, whatever the limits and the summary."""
        return await read_all(memory, self.session_id)

    @blocking_method
    async def put(self, memory: Namespace, message: ChatMessage) -> None:
        """Add a message at the end; it is on disk when this returns.

        Raises:
            InvalidValue: LlamaIndex would not read the message back, or not as it was; nothing was written.
        """
        await add(memory, self.session_id, [message], self.ttl)

    @blocking_method
    async def put_messages(self, memory: Namespace, messages: list[ChatMessage]) -> None:
        """Add messages at the end, at most 10,000, all or none. Raises what `put` does."""
        await add(memory, self.session_id, messages, self.ttl)

    @blocking_method
    async def set(self, memory: Namespace, messages: list[ChatMessage]) -> None:
        """Replace all messages, and delete the summary, in one step. At most 10,000 messages. Raises what `put` does."""
        await replace_all(memory, (), self.session_id, messages, self.ttl)

    @blocking_method
    async def reset(self, memory: Namespace) -> None:
        """Delete the session, with its summary."""
        await memory.bridge.write(Forget(self.session_id))

    @blocking_method
    async def summarize(
        self, memory: Namespace, messages: Sequence[ChatMessage], *, upto: int, if_last: int | None = None
    ) -> None:
        """Store messages that `get` returns instead of the first `upto` ones, which stay. Others may put some at any time.

        Args:
            messages: the summary. An empty list, with an `upto` of 0, deletes it.
            upto: how many messages it covers, from the start of the session.
            if_last: only if the session has this many messages.

        Raises:
            InvalidArgument: the session has fewer messages; nothing was written.
            Conflict: the session changed, or has a summary of more messages; nothing was written.
        """
        summary = [decode(to_text(message)) for message in messages]
        await _summarize(History(memory, self.session_id), upto=upto, summary=summary, if_last=if_last)

    @blocking_method
    async def fork(self, memory: Namespace, session_id: SessionId, upto: int | None = None) -> BotWireMemory:
        """Copy the session, with its summary, to a new one, in one step. Returns its memory, with the same arguments.

        Args:
            session_id: the name of the new session.
            upto: the number of messages to copy, from the start. None: all.

        Raises:
            Conflict: there is a session of that name; nothing was written.
            InvalidArgument: the session has fewer messages, or none; nothing was written.
        """
        await _fork(History(memory, self.session_id), session_name(session_id), upto)
        return type(self)(session_id, self.namespace, self.url, max_tokens=self.max_tokens, ttl=self.ttl, **self._given)

    @blocking_method
    async def mend(self, memory: Namespace, policy: Literal["cancel", "drop"] = "cancel") -> list[Problem]:
        """Repair what a crash in the middle of a turn leaves, and what providers refuse, in one step. Returns what was done.

        Args:
            policy: what happens to a tool call without a result. "cancel": it gets one that says so. "drop": it is deleted.
        """
        return await _mend(History(memory, self.session_id), policy)

    aget = async_form(get)
    aget_all = async_form(get_all)
    aput = async_form(put)
    aput_messages = async_form(put_messages)
    aset = async_form(set)  # noqa: A003 - the method, as meant
    areset = async_form(reset)
    asummarize = async_form(summarize)
    afork = async_form(fork)
    amend = async_form(mend)
