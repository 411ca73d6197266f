"""BotWireMessageHistory: every message comes back, with many writers too, and with releases that have no conversations."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import pickle
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from botwire import InvalidName, InvalidValue
from botwire.adapters.pydantic_ai import BotWireConversationStore, BotWireMessageHistory

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
times = st.datetimes(timezones=st.just(UTC))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
objects = st.dictionaries(texts, values, max_size=2)
images = st.builds(ImageUrl, st.just("http://localhost/x.png")) | st.builds(
    BinaryContent, st.binary(max_size=5), media_type=st.sampled_from(["image/png", "audio/wav"])
)
asked = st.one_of(
    st.builds(SystemPromptPart, texts, timestamp=times),
    st.builds(UserPromptPart, texts | st.lists(texts | images, max_size=3), timestamp=times),
    st.builds(
        ToolReturnPart, texts, values, tool_call_id=st.sampled_from(["1", "é"]), metadata=objects, timestamp=times
    ),
    st.builds(RetryPromptPart, texts, tool_name=texts, tool_call_id=st.sampled_from(["1", "é"]), timestamp=times),
)
answered = st.one_of(
    st.builds(TextPart, texts),
    st.builds(ThinkingPart, texts, signature=st.none() | texts),
    st.builds(ToolCallPart, texts, texts | objects, tool_call_id=st.sampled_from(["1", "é"])),
)
messages = st.builds(ModelRequest, st.lists(asked, max_size=3), instructions=st.none() | texts) | st.builds(
    ModelResponse,
    st.lists(answered, max_size=3),
    usage=st.builds(RequestUsage, input_tokens=st.integers(0, 9), details=st.dictionaries(texts, st.integers())),
    model_name=st.none() | texts,
    timestamp=times,
    provider_details=st.none() | objects,
)


def request(text: str) -> ModelMessage:
    return ModelRequest([UserPromptPart(text, timestamp=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))])


@pytest.fixture
def history(address: str) -> BotWireMessageHistory:
    return BotWireMessageHistory(str(uuid.uuid4()), url=address)


@given(said=st.lists(messages, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_message_comes_back_as_pydantic_ai_reads_it_itself(address: str, said: list[ModelMessage]) -> None:
    history = BotWireMessageHistory(str(uuid.uuid4()), url=address)
    history.append(said)
    wanted = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(said))
    assert history.load() == asyncio.run(history.aload()) == wanted


async def test_a_message_history(history: BotWireMessageHistory) -> None:
    assert history.load() == []
    history.append([request("first"), request("second")])
    await history.aappend([request("last")])
    assert history.load() == await history.aload() == [request("first"), request("second"), request("last")]
    assert history.load(1) == await history.aload(1) == [request("last")]
    history.clear()
    assert history.load() == []
    await history.aappend([request("again")])
    await history.aclear()
    assert history.load() == []


def test_what_is_not_a_message(history: BotWireMessageHistory) -> None:
    for wrong in ("text", {"kind": "request"}, ModelRequest([ToolReturnPart("f", float("nan"), tool_call_id="1")])):
        with pytest.raises(InvalidValue):
            history.append([request("fine"), wrong])
    assert history.load() == []
    history._history.append([{"kind": "request", "secret": "sEcReT"}])
    with pytest.raises(InvalidValue, match="parts") as caught:
        history.load()
    assert "sEcReT" not in str(caught.value)


@pytest.mark.parametrize("number", [7, uuid.UUID(int=7)])
def test_a_number_or_a_uuid_names_a_session(number: int | uuid.UUID, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/memory.db"
    BotWireMessageHistory(number, url=url).append([request("hi")])
    assert BotWireMessageHistory(str(number), url=url).load() == [request("hi")]
    for wrong in (True, None, 7.0, b"7", "half \ud83d"):
        with pytest.raises(InvalidName):
            BotWireMessageHistory(wrong, url=url)


def test_a_pickle_or_a_copy_of_a_history_is_the_history(history: BotWireMessageHistory) -> None:
    history.append([request("hi")])
    for other in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert other.load() == asyncio.run(other.aload()) == [request("hi")]
    with pytest.raises(TypeError, match="BOTWIRE_TOKEN"):
        pickle.dumps(BotWireMessageHistory("s", url="http://127.0.0.1:9", token="sEcReT-sEcReT-sEcReT"))


def retry_without_its_input() -> ModelMessage:
    """Return a message that Pydantic AI writes, and does not read back. Releases before 2 do not write it."""
    error = {"type": "missing", "loc": ("city",), "msg": "Field required"}
    return ModelRequest([RetryPromptPart([error], tool_name="weather", tool_call_id="1")])


async def test_a_message_that_would_not_be_read_back_is_refused(history: BotWireMessageHistory) -> None:
    history.append([request("earlier")])
    with pytest.raises(InvalidValue, match=r"would not read it back: .*input|cannot be written"):
        history.append([request("fine"), retry_without_its_input()])
    with pytest.raises(InvalidValue, match="would not read it back|cannot be written"):
        await history.aappend([retry_without_its_input()])
    assert history.load() == [request("earlier")]


def test_an_unreadable_message_is_named_and_can_be_removed(history: BotWireMessageHistory) -> None:
    history.append([request("first")])
    history._history.append(["sEcReT"])
    history.append([request("last")])
    with pytest.raises(InvalidValue, match=f"message 2 of session '{history.session_id}'") as caught:
        history.load()
    assert "sEcReT" not in str(caught.value)
    assert caught.value.details == {"seq": 2, "session": history.session_id}
    assert history.load(last=1) == [request("last")]


def test_16_threads_on_one_history_lose_nothing(history: BotWireMessageHistory) -> None:
    def work(writer: int) -> None:
        for number in range(5):
            history.append([request(f"{writer}/{number}/a"), request(f"{writer}/{number}/b")])

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    found = [message.parts[0].content for message in history.load()]
    assert Counter(found) == Counter(f"{w}/{n}/{part}" for w in range(16) for n in range(5) for part in "ab")
    assert all(first[:-1] == second[:-1] for first, second in zip(found[::2], found[1::2], strict=True))


@pytest.mark.skipif(bool(importlib.util.find_spec("pydantic_ai.conversation_store")), reason="this release has them")
def test_one_line_says_what_conversations_need() -> None:
    with pytest.raises(
        ImportError,
        match=r"^BotWireConversationStore needs pydantic-ai 2\.66 or newer: pip install -U pydantic-ai-slim$",
    ):
        BotWireConversationStore()
