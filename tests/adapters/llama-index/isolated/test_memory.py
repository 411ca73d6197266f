"""What a model receives of a long session, and summaries beside others that write."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import uuid
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
from llama_index.core.memory import ChatSummaryMemoryBuffer
from llama_index.core.workflow import JsonSerializer

from botwire import Conflict, InvalidArgument, InvalidName, InvalidValue
from botwire.adapters.llama_index import BotWireChatStore, BotWireMemory


def said(text: str, role: str = "user") -> ChatMessage:
    return ChatMessage(text, role=role)


def turns(first: int, end: int) -> list[ChatMessage]:
    return [said(f"{kind}{n}", role) for n in range(first, end) for kind, role in (("q", "user"), ("a", "assistant"))]


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


def ten(message: ChatMessage) -> int:
    assert isinstance(message, ChatMessage)
    return 10


def memory_at(address: str, **options: Any) -> BotWireMemory:
    return BotWireMemory("s", f"test-{uuid.uuid4()}", address, **({"count": ten} | options))


def again(memory: BotWireMemory, **options: Any) -> BotWireMemory:
    return BotWireMemory.from_dict(memory.to_dict(), **({"count": ten} | options))


async def test_the_newest_messages_that_fit(address: str) -> None:
    memory = memory_at(address, max_tokens=50)
    assert memory.get() == memory.get_all() == []
    memory.put(said("kind", "system"))
    await memory.aput_messages(turns(0, 20))
    assert texts(memory.get("ignored")) == texts(await memory.aget()) == ["kind", "q18", "a18", "q19", "a19"]
    assert texts(memory.get(initial_token_count=20)) == ["kind", "q19", "a19"]
    assert memory.get_all() == await memory.aget_all() == [said("kind", "system"), *turns(0, 20)]
    with pytest.raises(InvalidArgument, match="initial_token_count"):
        memory.get(initial_token_count=50)
    with pytest.raises(InvalidArgument, match="20"):
        again(memory, max_tokens=19).get()
    assert again(memory, max_tokens=None).get() == memory.get_all()


async def test_an_llm_summarizes_what_no_longer_fits(address: str) -> None:
    asked: list[str | None] = []

    class Model(MockLLM):
        def chat(self, messages: list[ChatMessage], **_: Any) -> ChatResponse:
            asked.append(messages[-1].content)
            return ChatResponse(message=said(f"summary {len(asked)}", "assistant"))

        async def achat(self, messages: list[ChatMessage], **_: Any) -> ChatResponse:
            return self.chat(messages)

    memory = memory_at(address, max_tokens=60, summarizer=Model())
    memory.put_messages(turns(0, 3))
    assert len(memory.get()) == 6
    assert asked == []
    memory.put(said("q3"))
    assert texts(memory.get()) == ["summary 1", "q2", "a2", "q3"] == texts(memory.get())
    assert asked == ["user: q0\n\nassistant: a0\n\nuser: q1\n\nassistant: a1"]
    memory.put_messages([said("a3", "assistant"), *turns(4, 5), said("q5")])
    assert texts(await memory.aget()) == ["summary 2", "q5"]
    assert asked[1] is not None
    assert asked[1].startswith("system: summary 1\n\nuser: q2")
    assert len(asked) == 2
    assert memory.get()[0] == said("summary 2", "system")
    assert len(memory.get_all()) == 11


def test_tool_calls_are_part_of_the_transcript(address: str) -> None:
    asked: list[str | None] = []

    class Model(MockLLM):
        def chat(self, messages: list[ChatMessage], **_: Any) -> ChatResponse:
            asked.append(messages[-1].content)
            return ChatResponse(message=said("s", "assistant"))

    memory = memory_at(address, max_tokens=40, summarizer=Model())
    calls = [{"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]
    memory.put_messages(
        [
            said("q0"),
            ChatMessage("", role="assistant", additional_kwargs={"tool_calls": calls}),
            ChatMessage("noon", role="tool", additional_kwargs={"tool_call_id": "1"}),
            said("a0", "assistant"),
            said("q1"),
        ]
    )
    assert texts(memory.get()) == ["s", "q1"]
    assert "clock" in str(asked[0])
    assert "tool: noon" in str(asked[0])


async def test_functions_that_summarize(address: str) -> None:
    async def awaited(messages: list[ChatMessage]) -> ChatMessage:
        return said(f"of {len(messages)}", "assistant")

    memory = memory_at(address, max_tokens=60, summarizer=awaited)
    await memory.aput_messages(turns(0, 4))
    with pytest.raises(InvalidArgument, match="aget"):
        memory.get()
    for wrong in (lambda _: 7, lambda _: ""):
        with pytest.raises(InvalidValue, match="summarizer"):
            again(memory, summarizer=wrong).get()
    assert await memory.aget() == [said("of 6", "assistant"), *turns(3, 4)]


def test_what_others_put_while_a_summary_is_written_is_kept(address: str) -> None:
    def summarize(_: list[ChatMessage]) -> str:
        again(memory).put(said("in the meantime"))
        return "summary"

    memory = memory_at(address, max_tokens=60, summarizer=summarize)
    memory.put_messages(turns(0, 4))
    assert texts(memory.get()) == ["summary", "q3", "a3", "in the meantime"]
    assert texts(memory.get_all())[-1] == "in the meantime"
    assert len(memory.get_all()) == 9


def test_llama_indexs_own_summary_loses_it(address: str) -> None:
    class Model(MockLLM):
        def chat(self, messages: list[ChatMessage], **_: Any) -> ChatResponse:
            store.add_message("s", said("in the meantime"))
            return ChatResponse(message=said("summary", "assistant"))

    store = BotWireChatStore(f"test-{uuid.uuid4()}", address)
    store.set_messages("s", turns(0, 4))
    buffer = ChatSummaryMemoryBuffer.from_defaults(
        llm=Model(), chat_store=store, chat_store_key="s", token_limit=2, tokenizer_fn=str.split
    )
    buffer.get()
    assert texts(store.get_messages("s")) == ["summary", "q3", "a3"]


async def test_one_of_two_summaries_at_once_counts(address: str) -> None:
    both = asyncio.Barrier(2)

    async def summarize(_: list[ChatMessage]) -> str:
        calls.append(1)
        await both.wait()
        return f"summary {len(calls)}"

    calls: list[int] = []
    memory = memory_at(address, max_tokens=60, summarizer=summarize)
    memory.put_messages(turns(0, 4))
    first, second = await asyncio.gather(memory.aget(), again(memory, summarizer=summarize).aget())
    assert first == second == [said("summary 2", "system"), *turns(3, 4)]
    assert len(calls) == 2


def test_a_summary_of_messages_that_were_edited_is_not_stored(address: str) -> None:
    def summarize(_: list[ChatMessage]) -> str:
        memory._memory.history("s").redact(1)
        return "summary of a secret"

    memory = memory_at(address, max_tokens=60, summarizer=summarize)
    memory.put_messages(turns(0, 4))
    assert memory.get() == turns(1, 4)
    memory = again(memory, summarizer=lambda messages: ", ".join(str(one.content) for one in messages))
    assert texts(memory.get()) == ["[redacted], a0, q1, a1, q2, a2", "q3", "a3"]


def test_a_summary_that_does_not_fit_is_not_stored(address: str, caplog: pytest.LogCaptureFixture) -> None:
    memory = memory_at(address, max_tokens=60, count=len_of, summarizer=lambda _: "sEcReT" * 20)
    memory.put_messages([said("q" * 25), said("a" * 25, "assistant"), said("next")])
    memory.put(said("n" * 20))
    assert texts(memory.get()) == ["next", "n" * 20]
    assert "not stored" in caplog.text
    assert "sEcReT" not in caplog.text
    assert len(memory.get_all()) == 4


def len_of(message: ChatMessage) -> int:
    return len(message.content or "")


def test_a_greeting_that_is_left_out_needs_no_summary(address: str) -> None:
    memory = memory_at(address, max_tokens=60, summarizer=lambda _: pytest.fail("it was called"))
    memory.put_messages([said("hello", "assistant"), *turns(0, 2)])
    assert memory.get() == turns(0, 2)


def test_a_long_session_is_summarized_in_parts(address: str) -> None:
    parts: list[int] = []

    def summarize(messages: list[ChatMessage]) -> str:
        parts.append(len(messages))
        return "summary"

    memory = memory_at(address, max_tokens=60, summarizer=summarize)
    memory.put_messages(turns(0, 10))
    for _ in range(5):
        assert len(memory.get()) * 10 <= 60
    assert parts == [6, 7, 7]
    assert texts(memory.get()) == ["summary", "q9", "a9"]


async def test_a_summary_of_ones_own(address: str) -> None:
    memory = memory_at(address)
    memory.put_messages(turns(0, 4))
    memory.summarize([said("short", "system")], upto=6, if_last=8)
    assert memory.get() == [said("short", "system"), *turns(3, 4)]
    with pytest.raises(Conflict):
        await memory.asummarize([said("x")], upto=8, if_last=7)
    with pytest.raises(InvalidArgument):
        await memory.asummarize([said("x")], upto=9)
    await memory.asummarize([], upto=0)
    assert memory.get() == turns(0, 4)


async def test_set_reset_fork_and_mend(address: str) -> None:
    memory = memory_at(address, max_tokens=60, summarizer=lambda _: "summary")
    memory.put_messages(turns(0, 4))
    memory.get()
    fork = memory.fork(7)
    fork.put(said("more"))
    assert texts(fork.get()) == ["summary", "q3", "a3", "more"]
    assert len(memory.get_all()) == 8
    assert (await memory.afork("part", upto=2)).get_all() == turns(0, 1)
    with pytest.raises(Conflict):
        memory.fork("part")
    calls = [{"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]
    broken = ChatMessage("", role="assistant", additional_kwargs={"tool_calls": calls})
    await memory.aset([said("q"), broken])
    assert len(memory.mend()) == 1
    assert [message.role for message in await memory.aget()] == ["user", "assistant", "tool"]
    await memory.areset()
    assert memory.get() == memory.get_all() == await memory.amend() == []


async def test_a_session_expires(address: str) -> None:
    memory = memory_at(address, ttl=0.3)
    memory.put(said("x"))
    assert len(memory.get()) == 1
    await asyncio.sleep(0.35)
    assert memory.get() == []


def test_it_has_the_messages_of_a_chat_store(address: str) -> None:
    memory = memory_at(address)
    memory.put(said("x"))
    assert BotWireChatStore(memory.namespace, address).get_messages("s") == [said("x")]


def test_a_copy_has_its_messages_in_the_same_place(address: str) -> None:
    memory = memory_at(address, max_tokens=60, ttl=60)
    memory.put(said("x"))
    stored = JsonSerializer().serialize(memory)
    loaded = BotWireMemory.from_dict(json.loads(json.dumps(memory.to_dict())))
    for other in (
        copy.deepcopy(memory),
        pickle.loads(pickle.dumps(memory)),
        JsonSerializer().deserialize(stored),
        loaded,
    ):
        assert type(other) is BotWireMemory
        assert other.get() == [said("x")]
        assert other.to_dict() == memory.to_dict()
    assert memory.url not in repr(memory)
    secret = BotWireMemory("s", url=address, encryption_key=b"k" * 32)
    with pytest.raises(InvalidArgument, match="encryption_key"):
        BotWireMemory.from_dict(secret.to_dict())
    assert BotWireMemory.from_dict(secret.to_dict(), encryption_key=b"k" * 32).get() == []


def test_wrong_arguments(address: str) -> None:
    for wrong in ({"max_tokens": 0}, {"max_tokens": "5"}, {"count": 5}, {"ttl": 0}, {"summarizer": len}):
        with pytest.raises(InvalidArgument):
            BotWireMemory("s", url=address, **wrong)
    with pytest.raises(InvalidArgument, match="summarizer"):
        BotWireMemory("s", url=address, max_tokens=5, summarizer="gpt")
    for name in ("", "a\nb", True):
        with pytest.raises(InvalidName):
            BotWireMemory(name, url=address)
    memory = memory_at(address)
    with pytest.raises(InvalidValue):
        memory.put_messages([said("fine"), ChatMessage("x", additional_kwargs={"a": float("nan")})])
    assert memory.get_all() == []
    memory._memory.history("s").append([{"role": "nobody", "blocks": 7}])
    with pytest.raises(InvalidValue, match="message 1 of session 's'"):
        memory.get()
