"""BotWireChatHistory with the newest LangChain."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import enum
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_classic.agents import AgentExecutor, create_react_agent
from langchain_classic.memory import ConversationBufferMemory
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, SecretStr

from botwire import BotWireChatHistory, History, InvalidArgument, InvalidName, InvalidValue, Memory
from botwire.cli import demo
from tests.openai_stub import openai_stub

classic = pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
"""LangChain warns of its own old classes; that is not what is tested here."""

MakeHistory = Callable[..., BotWireChatHistory]


@pytest.fixture(params=["sqlite", "http"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address, in a file and on a server."""
    if request.param == "http":
        return str(request.getfixturevalue("server").url)
    return f"sqlite:///{tmp_path}/memory.db"


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def history(address: str, namespace: str) -> BotWireChatHistory:
    """A new history, in a file and on a server."""
    return BotWireChatHistory("user-42", namespace, address)


@pytest.fixture
def embedded(tmp_path: Path) -> MakeHistory:
    """Histories in one file."""

    def make(session_id: str = "user-42") -> BotWireChatHistory:
        return BotWireChatHistory(session_id, url=f"sqlite:///{tmp_path}/memory.db")

    return make


def again(history: BotWireChatHistory) -> BotWireChatHistory:
    """The same session, opened anew."""
    memory = history._memory
    return BotWireChatHistory(history.session_id, memory.namespace, memory.address)


@pytest.mark.parametrize("number", [7, uuid.UUID(int=7)])
def test_a_number_or_a_uuid_names_a_session(number: int | uuid.UUID, tmp_path: Path) -> None:
    """As in LangChain's own histories."""
    url = f"sqlite:///{tmp_path}/memory.db"
    BotWireChatHistory(number, url=url).add_user_message("hi")
    history = BotWireChatHistory(str(number), url=url)
    assert (history.session_id, len(history.messages)) == (str(number), 1)
    for wrong in (True, None, 7.0, b"7", "half \ud83d"):
        with pytest.raises(InvalidName):
            BotWireChatHistory(wrong, url=url)  # type: ignore[arg-type]


def test_a_history_in_spawned_processes_is_one(embedded: MakeHistory) -> None:
    history = embedded()
    assert asyncio.run(history.aget_messages()) == []
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.map(methodcaller("add_user_message", "hi"), [history, copy.deepcopy(history)], 1)
    assert [message.content for message in history.messages] == ["hi", "hi"]
    secret = BotWireChatHistory("s", url="http://127.0.0.1:9", token="sEcReT-sEcReT-sEcReT")
    with pytest.raises(TypeError, match="BOTWIRE_TOKEN"):
        pickle.dumps(secret)


# Every message comes back

TOOL_CALL = {"name": "weather", "args": {"city": "Zürich", "days": [1, 2.5, None]}, "id": "call-1", "type": "tool_call"}
INVALID_CALL = {"name": "weather", "args": '{"city": "Zür', "id": "call-2", "error": "cut", "type": "invalid_tool_call"}
RAW_CALLS = [{"id": "call-3", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
PARTS = [
    "plain",
    {"type": "text", "text": "hello"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
]
USAGE = {
    "input_tokens": 1,
    "output_tokens": 2,
    "total_tokens": 3,
    "input_token_details": {"cache_read": 1, "audio": 0},
    "output_token_details": {"reasoning": 2},
    "cost": 25,
}
REVIVABLE = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain", "schema", "messages", "HumanMessage"],
    "kwargs": {"content": "!"},
}

MESSAGES: dict[str, BaseMessage] = {
    "human": HumanMessage("hello"),
    "parts": HumanMessage(PARTS, name="Ada", id="m-1"),
    "empty": HumanMessage(""),
    "system": SystemMessage("be kind", additional_kwargs={"priority": 1}),
    "ai": AIMessage("hi", id="run-1", response_metadata={"model_name": "m", "logprobs": None}, usage_metadata=USAGE),
    "tool calls": AIMessage("", tool_calls=[TOOL_CALL], invalid_tool_calls=[INVALID_CALL]),
    "raw tool calls": AIMessage("", additional_kwargs={"tool_calls": RAW_CALLS, "refusal": None}),
    "big numbers": AIMessage("", additional_kwargs={"n": 2**200, "f": 1e-320, "z": -0.0}),
    "tool": ToolMessage(
        "22 °C", tool_call_id="call-1", name="weather", artifact={"raw": [1, {"a": None}]}, status="error"
    ),
    "tool, an empty artifact": ToolMessage("", tool_call_id="call-1", artifact=[]),
    "tool parts": ToolMessage(PARTS, tool_call_id="call-1"),
    "function": FunctionMessage("42", name="answer"),
    "chat": ChatMessage("objection", role="critic"),
    "remove": RemoveMessage("m-1"),
    "ai chunk": AIMessageChunk("he", id="run-1", usage_metadata=USAGE, chunk_position="last"),
    "ai chunk, tool call in parts": AIMessageChunk(
        "", tool_call_chunks=[{"name": "f", "args": '{"x": ', "id": "1", "index": 0, "type": "tool_call_chunk"}]
    ),
    "ai chunk, invalid call": AIMessageChunk("", tool_calls=[TOOL_CALL], invalid_tool_calls=[INVALID_CALL]),
    "merged chunks": AIMessageChunk("he", usage_metadata=USAGE) + AIMessageChunk("llo", usage_metadata=USAGE),
    "human chunk": HumanMessageChunk(PARTS),
    "system chunk": SystemMessageChunk("be"),
    "tool chunk": ToolMessageChunk("22", tool_call_id="call-1", artifact=[1]),
    "function chunk": FunctionMessageChunk("4", name="answer"),
    "chat chunk": ChatMessageChunk("obj", role="critic"),
    "unknown fields": HumanMessage("hello", mood={"happy": True}, example=False),
    "lc": HumanMessage("x", additional_kwargs={"a": REVIVABLE, "lc": 1}, response_metadata=REVIVABLE, extra=REVIVABLE),
    "text": HumanMessage("\x00\u2028\U0001f9e0 e\u0301 \\u0041"),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_every_message_comes_back_equal_and_of_its_class(message: BaseMessage, embedded: MakeHistory) -> None:
    before = message.model_copy(deep=True)
    embedded().add_messages([message])
    (back,) = embedded().messages
    assert back == message == before
    assert type(back) is type(message)
    assert repr(back) == repr(message)


def test_all_of_them_in_one_session_in_order(history: BotWireChatHistory) -> None:
    history.add_messages(tuple(MESSAGES.values()))
    assert again(history).messages == list(MESSAGES.values())


def test_the_table_above_has_every_class_that_langchain_can_read_back() -> None:
    from botwire.adapters.langchain.history import _TYPES

    assert {type(message) for message in MESSAGES.values()} == set(_TYPES)


def test_tool_calls_changed_after_the_message_was_made_come_back_changed(embedded: MakeHistory) -> None:
    cleared = AIMessage("", additional_kwargs={"tool_calls": RAW_CALLS})
    assert cleared.tool_calls
    cleared.tool_calls = []
    extended = AIMessage("", tool_calls=[TOOL_CALL])
    extended.tool_calls[0]["extras"] = {"signature": "abc"}  # type: ignore[typeddict-unknown-key]
    embedded().add_messages([cleared, extended])
    assert embedded().messages == [cleared, extended]


def test_data_that_looks_like_a_serialized_class_stays_data(embedded: MakeHistory) -> None:
    message = AIMessage(
        "x", additional_kwargs={"a": REVIVABLE}, tool_calls=[{"name": "f", "args": REVIVABLE, "id": "1"}]
    )
    embedded().add_messages([message, ToolMessage("y", tool_call_id="1", artifact=REVIVABLE)])
    first, second = embedded().messages
    assert isinstance(first, AIMessage)
    assert isinstance(second, ToolMessage)
    assert type(first.additional_kwargs["a"]) is dict
    assert first.tool_calls[0]["args"] == REVIVABLE
    assert second.artifact == REVIVABLE


class Mood(HumanMessage):
    """A subclass that keeps LangChain's type."""

    mood: str


class Verdict(ChatMessage):
    """A subclass with a type of its own."""

    type: Literal["verdict"] = "verdict"  # type: ignore[assignment]
    guilty: bool


class Private(AIMessageChunk):
    """A subclass with a field that is not for writing down."""

    key: str = Field(default="", exclude=True)


def test_a_subclass_comes_back_as_its_base_with_its_own_fields(embedded: MakeHistory) -> None:
    embedded().add_messages([Mood("hi", mood="good"), Verdict("no", role="judge", guilty=False), Private("x", key="s")])
    mood, verdict, private = embedded().messages
    assert mood == HumanMessage("hi", mood="good")
    assert verdict == ChatMessage("no", role="judge", guilty=False, original_type="verdict")
    assert private == AIMessageChunk("x")
    embedded("copy").add_messages([mood, verdict, private])
    assert embedded("copy").messages == [mood, verdict, private]


class Colour(enum.Enum):
    """A value that JSON does not know."""

    RED = "red"


class Point(BaseModel):
    """A nested model, such as the ``parsed`` of a structured answer."""

    x: int
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ((1, (2,)), [1, [2]]),
        ({3}, [3]),
        (OrderedDict(a=(1,)), {"a": [1]}),
        (Colour.RED, "red"),
        (b"bytes", "bytes"),
        (dt.datetime(2030, 1, 2, 3, 4, 5, 6, dt.UTC), "2030-01-02T03:04:05.000006Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Point(x=1, tags=("a",)), {"x": 1, "tags": ["a"]}),
        ({1: "a", Colour.RED: "b"}, {"1": "a", "red": "b"}),
    ],
    ids=repr,
)
def test_what_json_does_not_know_is_stored_as_pydantic_writes_it(
    value: Any, stored: Any, embedded: MakeHistory
) -> None:
    embedded().add_messages(
        [HumanMessage("x", additional_kwargs={"k": value}), ToolMessage("y", tool_call_id="1", artifact=value)]
    )
    human, tool_message = embedded().messages
    assert human.additional_kwargs == {"k": stored}
    assert isinstance(tool_message, ToolMessage)
    assert tool_message.artifact == stored


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep() -> Any:
    deep: Any = None
    for _ in range(100):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        Point.model_construct(x=float("nan")),
        b"\xff",
        "\ud800",
        object(),
        {1: "a", "1": "b"},
        SecretStr("s"),
        _circle(),
        _deep(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_be_lost_is_refused_and_nothing_is_written(value: Any, history: BotWireChatHistory) -> None:
    with pytest.raises(InvalidValue):
        history.add_messages([HumanMessage("good"), HumanMessage("x", additional_kwargs={"k": value})])
    assert history.messages == []


class Note(BaseMessage):
    """A message of no class that LangChain can read back."""

    type: str = "note"


def test_a_message_that_could_not_be_read_back_is_refused(history: BotWireChatHistory) -> None:
    broken = HumanMessage("x")
    broken.content = 5  # type: ignore[assignment]
    call = AIMessage("", tool_calls=[TOOL_CALL])
    call.tool_calls[0]["unknown"] = 1  # type: ignore[typeddict-unknown-key]
    for message in (Note("x"), BaseMessage("x", type="human"), broken, call, "text", {"type": "human", "data": {}}):
        with pytest.raises(InvalidValue):
            history.add_messages([message])  # type: ignore[list-item]
    with pytest.raises(InvalidValue, match="LangChain messages, not tuple"):
        history.add_messages(HumanMessage("a message instead of a list"))  # type: ignore[arg-type]
    assert history.messages == []


def test_something_else_in_the_session_is_named(embedded: MakeHistory) -> None:
    history = embedded()
    history.add_user_message("hello")
    raw = Memory("langchain-sessions", history._memory.address).history("user-42")
    for item in ({"role": "user", "content": "not of LangChain"}, "text", {"type": "human", "data": {"content": 5}}):
        raw.append([item])
        with pytest.raises(InvalidValue, match="message 2 of session 'user-42'"):
            _ = history.messages
        raw.clear()
        history.add_user_message("hello")


texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=3)
contents = texts | st.lists(texts | objects, max_size=3)
common = {
    "content": contents,
    "additional_kwargs": objects,
    "response_metadata": objects,
    "name": st.none() | texts,
    "id": st.none() | texts,
}
calls = st.lists(st.fixed_dictionaries({"name": texts, "args": objects, "id": st.none() | texts}), max_size=2)
broken_calls = st.lists(
    st.fixed_dictionaries({"name": st.none() | texts, "args": st.none() | texts, "id": texts, "error": texts}),
    max_size=2,
)
ai = {"tool_calls": calls, "invalid_tool_calls": broken_calls}
messages = st.one_of(
    st.builds(HumanMessage, **common),
    st.builds(SystemMessageChunk, **common),
    st.builds(AIMessage, **common, **ai),
    st.builds(AIMessageChunk, **common, **ai),
    st.builds(ChatMessage, **common, role=texts),
    st.builds(FunctionMessage, **common | {"name": texts}),
    st.builds(
        ToolMessage, **common, tool_call_id=texts, artifact=json_values, status=st.sampled_from(["success", "error"])
    ),
    texts.map(RemoveMessage),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batch=st.lists(messages, max_size=4))
def test_any_messages_come_back(batch: list[BaseMessage]) -> None:
    history = BotWireChatHistory("any", url="sqlite:///:memory:")
    history.add_messages(batch)
    assert history.messages == batch
    assert list(map(repr, history.messages)) == list(map(repr, batch))


# The history itself


def test_it_is_a_history_of_langchain_with_the_arguments_of_the_published_client(address: str, namespace: str) -> None:
    history = BotWireChatHistory("user-42", namespace, address, token=None, timeout=5.0)
    assert isinstance(history, BaseChatMessageHistory)
    assert history.session_id == "user-42"
    assert repr(history) == f"BotWireChatHistory('user-42', '{namespace}', '{address}')"
    history.add_user_message("hello")
    history.add_ai_message("hi")
    history.add_message(SystemMessage("be kind"))
    history.add_messages([])
    assert str(again(history)) == "Human: hello\nAI: hi\nSystem: be kind"
    with Memory(namespace, address) as memory:
        assert [session.name for session in memory.sessions()] == ["user-42"]
        assert [message.seq for message in memory.history("user-42")] == [1, 2, 3]


def test_the_default_namespace_is_that_of_the_published_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTWIRE_URL", f"sqlite:///{tmp_path}/memory.db")
    BotWireChatHistory("user-42").add_user_message("hello")
    assert len(Memory("langchain-sessions").history("user-42")) == 1


def test_clear_forgets_this_session_only(history: BotWireChatHistory) -> None:
    other = BotWireChatHistory("other", history._memory.namespace, history._memory.address)
    history.add_user_message("hello")
    other.add_user_message("hello")
    history.clear()
    assert history.messages == []
    assert len(other.messages) == 1
    history.add_user_message("again")
    assert [message.content for message in history.messages] == ["again"]


def test_a_message_added_twice_is_there_twice(history: BotWireChatHistory) -> None:
    message = AIMessage("yes", id="run-1")
    history.add_messages([message, message])
    history.add_message(message)
    assert history.messages == [message] * 3


def test_async_methods_see_what_the_others_write_and_the_other_way_round(history: BotWireChatHistory) -> None:
    async def talk() -> None:
        assert await history.aget_messages() == []
        await history.aadd_messages([HumanMessage("1"), AIMessage("2")])
        history.add_user_message("3")
        assert [message.content for message in await history.aget_messages()] == ["1", "2", "3"]

    asyncio.run(talk())
    assert [message.content for message in history.messages] == ["1", "2", "3"]
    asyncio.run(history.aclear())  # also on an event loop of its own
    assert history.messages == []


def test_async_and_sync_share_a_memory_that_is_in_no_file() -> None:
    history = BotWireChatHistory("user-42", url="sqlite:///:memory:")
    asyncio.run(history.aadd_messages([HumanMessage("1")]))
    history.add_user_message("2")
    assert [message.content for message in asyncio.run(history.aget_messages())] == ["1", "2"]


def test_the_address_is_settled_when_the_history_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    history = BotWireChatHistory("user-42", url="sqlite:///here.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    asyncio.run(history.aadd_messages([HumanMessage("1")]))
    assert len(history.messages) == 1


def test_async_refuses_as_the_others_do(history: BotWireChatHistory) -> None:
    with pytest.raises(InvalidValue):
        asyncio.run(history.aadd_messages([HumanMessage("good"), HumanMessage("x", bad=float("nan"))]))
    assert history.messages == []


def test_nothing_is_lost_between_16_threads(history: BotWireChatHistory) -> None:
    barrier = threading.Barrier(16, timeout=30)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = again(history) if number % 2 else history
            barrier.wait()
            for i in range(10):
                pair = [HumanMessage(f"{number}:{i}"), AIMessage(f"{number}:{i}", id="run-1")]
                if number % 4 < 2:
                    mine.add_messages(pair)
                else:
                    asyncio.run(mine.aadd_messages(pair))
                assert f"{number}:{i}" in {message.content for message in mine.messages}
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=[number], daemon=True) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = again(history).messages
    expected = [f"{number}:{i}" for number in range(16) for i in range(10)]
    assert sorted(str(message.content) for message in found) == sorted(2 * expected)
    for human, answer in zip(found[::2], found[1::2], strict=True):
        assert (human.type, answer.type, human.content) == ("human", "ai", answer.content)
    for number in range(16):
        mine = [message.content for message in found[::2] if str(message.content).startswith(f"{number}:")]
        assert mine == [f"{number}:{i}" for i in range(10)]


def test_a_wrong_address_is_refused_when_the_history_is_made() -> None:
    with pytest.raises(InvalidArgument):
        BotWireChatHistory("user-42", url="redis://127.0.0.1")


# LangChain's own users of a history


def _chain(address: str, namespace: str) -> RunnableWithMessageHistory:
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{input}")])
    model = RunnableLambda(lambda value: AIMessage(f"{len(value.to_messages())} messages, thank you", id="run-1"))
    return RunnableWithMessageHistory(
        prompt | model,
        lambda session_id: BotWireChatHistory(session_id, namespace, address),
        input_messages_key="input",
        history_messages_key="history",
    )


@classic
def test_runnable_with_message_history(address: str, namespace: str) -> None:
    config: Any = {"configurable": {"session_id": "user-42"}}
    assert _chain(address, namespace).invoke({"input": "one"}, config).content == "1 messages, thank you"
    assert _chain(address, namespace).invoke({"input": "two"}, config).content == "3 messages, thank you"
    other: Any = {"configurable": {"session_id": "other"}}
    assert _chain(address, namespace).invoke({"input": "one"}, other).content == "1 messages, thank you"
    assert [message.content for message in BotWireChatHistory("user-42", namespace, address).messages] == [
        "one",
        "1 messages, thank you",
        "two",
        "3 messages, thank you",
    ]


@classic
def test_runnable_with_message_history_async(address: str, namespace: str) -> None:
    async def talk() -> list[Any]:
        config: Any = {"configurable": {"session_id": "user-42"}}
        answers = [await _chain(address, namespace).ainvoke({"input": "one"}, config)]
        answers += [chunk async for chunk in _chain(address, namespace).astream({"input": "two"}, config)]
        return answers

    assert [answer.content for answer in asyncio.run(talk())] == ["1 messages, thank you", "3 messages, thank you"]
    assert len(BotWireChatHistory("user-42", namespace, address).messages) == 4


@classic
def test_conversation_buffer_memory(history: BotWireChatHistory) -> None:
    memory = ConversationBufferMemory(chat_memory=history, return_messages=True)
    memory.save_context({"input": "hello"}, {"output": "hi"})
    asyncio.run(memory.asave_context({"input": "and now?"}, {"output": "bye"}))
    expected = [HumanMessage("hello"), AIMessage("hi"), HumanMessage("and now?"), AIMessage("bye")]
    reopened = ConversationBufferMemory(chat_memory=again(history), return_messages=True)
    assert reopened.load_memory_variables({}) == {"history": expected}
    assert asyncio.run(reopened.aload_memory_variables({})) == {"history": expected}
    assert ConversationBufferMemory(chat_memory=history).buffer.startswith("Human: hello\nAI: hi\n")
    reopened.clear()
    assert history.messages == []


class PersistentAgent:
    """The pattern as users write it."""

    def __init__(self, session_id: str):
        self.chat_history = BotWireChatHistory(session_id=session_id)
        self.memory = ConversationBufferMemory(chat_memory=self.chat_history, return_messages=True)
        self.kv_memory = Memory(f"agent-{session_id}")

    def remember_fact(self, key, value):  # type: ignore[no-untyped-def]
        self.kv_memory.set(key, value)

    def recall_fact(self, key):  # type: ignore[no-untyped-def]
        return self.kv_memory.get(key)


@classic
def test_persistent_agent(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTWIRE_URL", address)
    session = str(uuid.uuid4())
    agent = PersistentAgent(session)
    agent.memory.save_context({"input": "I am Ada"}, {"output": "hi Ada"})
    agent.remember_fact("name", "Ada")
    agent = PersistentAgent(session)
    assert agent.recall_fact("name") == "Ada"
    assert agent.memory.load_memory_variables({})["history"] == [HumanMessage("I am Ada"), AIMessage("hi Ada")]


REACT = PromptTemplate.from_template(
    "Tools:\n{tools}\nTheir names: {tool_names}\nSo far:\n{chat_history}\nQuestion: {input}\n{agent_scratchpad}"
)


@classic
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_react_agent_with_an_openai_model(address: str, namespace: str, stream: bool) -> None:
    facts = Memory(namespace, address)

    @tool
    def remember(fact: str) -> str:
        """Remember a fact."""
        facts.set("fact", fact)
        return "remembered"

    def executor(url: str) -> AgentExecutor:
        model = ChatOpenAI(base_url=url, api_key=SecretStr("none"), model="stub", max_retries=0)
        chat_memory = BotWireChatHistory("user-42", namespace, address)
        memory = ConversationBufferMemory(chat_memory=chat_memory, memory_key="chat_history")
        agent = create_react_agent(model, [remember], REACT)
        return AgentExecutor(agent=agent, tools=[remember], memory=memory, stream_runnable=stream)

    script = (
        "Thought: I should keep this.\nAction: remember\nAction Input: Ada likes teal",
        "Thought: I now know the final answer\nFinal Answer: I will remember.",
        "Thought: I now know the final answer\nFinal Answer: Teal.",
    )
    with openai_stub(*script) as stub:
        assert executor(stub.url).invoke({"input": "I am Ada and I like teal."})["output"] == "I will remember."
        assert executor(stub.url).invoke({"input": "Which colour do I like?"})["output"] == "Teal."
    assert facts.get("fact") == "Ada likes teal"
    assert [bool(request.get("stream")) for request in stub.requests] == [stream] * 3
    assert "Human: I am Ada and I like teal.\nAI: I will remember." in stub.prompts[2]
    assert "Human:" not in stub.prompts[0]
    assert [message.content for message in BotWireChatHistory("user-42", namespace, address).messages] == [
        "I am Ada and I like teal.",
        "I will remember.",
        "Which colour do I like?",
        "Teal.",
    ]


def test_answers_of_a_model_come_back_whole(history: BotWireChatHistory) -> None:
    with openai_stub("hello", "hello") as stub:
        model = ChatOpenAI(base_url=stub.url, api_key=SecretStr("none"), model="stub", max_retries=0)
        answer = model.invoke("hi")
        chunks = list(model.stream("hi"))
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged += chunk
    assert answer.content == merged.content == "hello"
    history.add_messages([answer, merged, *chunks])
    assert history.messages == [answer, merged, *chunks]


# What is loaded, and what is missing


def _python(code: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )


def test_importing_botwire_loads_no_framework() -> None:
    code = "import sys, botwire; botwire.Memory('a', 'sqlite:///:memory:').set('k', 1); print(*sys.modules, sep='\\n')"
    done = _python(code)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "botwire" in loaded
    assert not loaded & {
        "langchain_core",
        "langchain",
        "langchain_classic",
        "pydantic",
        "fastapi",
        "starlette",
        "uvicorn",
    }


def test_without_langchain_one_line_says_what_to_install() -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "langchain_core":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from botwire import Memory
from botwire import BotWireChatHistory
"""
    done = _python(code)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: BotWireChatHistory needs langchain-core: pip install 'botwire[langchain]'"
    assert "No module named" not in done.stderr


def test_it_raises_no_warning() -> None:
    code = """
from botwire import BotWireChatHistory
history = BotWireChatHistory("user-42", url="sqlite:///:memory:")
history.add_user_message("hello")
import asyncio
asyncio.run(history.aadd_messages(history.messages))
print(history)
"""
    done = _python(code, "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Human: hello\nHuman: hello\n", "")


# The demo


def test_the_demo_remembers_and_leaves_the_memory_of_the_user_alone(tmp_path: Path) -> None:
    mine = {"XDG_DATA_HOME": str(tmp_path), "BOTWIRE_URL": f"sqlite:///{tmp_path}/mine.db", "TMPDIR": str(tmp_path)}
    done = _python("from botwire.cli.demo import main; main()", **mine)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert demo.ANSWER in done.stdout
    assert "killed with SIGKILL" in done.stdout
    assert done.stdout.splitlines()[-1] == "Nothing was lost: 4 messages and 2 facts survived the process"
    assert len(done.stdout.splitlines()) <= 25
    assert list(tmp_path.iterdir()) == []


def test_the_demo_fails_when_something_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With agents of which the second finds nothing of what the first one wrote."""

    def start(role: str, _: str) -> subprocess.Popen[str]:
        code = "import sys, time; print(sys.argv[1], flush=True); time.sleep(60)" if role == "talk" else ""
        reports = "\n".join(json.dumps({"fact": str(number)}) for number in range(len(demo.TALK) + len(demo.FACTS)))
        return subprocess.Popen([sys.executable, "-c", code, reports], stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(demo, "_start", start)
    for as_json in (True, False):
        with pytest.raises(SystemExit) as stop:
            demo.main(as_json=as_json)
        assert stop.value.code == 1
    *lines, failure = capsys.readouterr().out.rstrip().split("\n")
    assert failure.startswith("FAILED: the second process does not remember")
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"fact": "0"} in told
    assert told[-1]["survived"] is False


def test_history_is_not_an_empty_truth(history: BotWireChatHistory) -> None:
    """LangChain writes ``chat_memory or default``: an empty history must not be false."""
    assert history
    assert isinstance(history._history, History)
