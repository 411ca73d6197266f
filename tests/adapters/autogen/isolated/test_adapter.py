"""Beside AutoGen's own classes: the same operations, the same answers; and what those do not have to do."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import uuid

import pytest
from autogen_core import CancellationToken, ComponentModel, FunctionCall, Image
from autogen_core.memory import ListMemory, MemoryContent, MemoryMimeType
from autogen_core.memory import Memory as AutoGenMemory
from autogen_core.model_context import (
    BufferedChatCompletionContext,
    ChatCompletionContext,
    TokenLimitedChatCompletionContext,
    UnboundedChatCompletionContext,
)
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    SystemMessage,
    UserMessage,
)
from autogen_ext.models.replay import ReplayChatCompletionClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pixels

from botwire import InvalidArgument, InvalidName, InvalidValue, Memory, generate_key
from botwire.adapters.autogen import BotWireChatCompletionContext, BotWireMemory, load_state, save_state
from tests.servers import Server

IMAGE = Image.from_pil(Pixels.new("RGB", (2, 3), (0, 128, 128)))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=3)
contents = st.builds(
    MemoryContent,
    content=texts | st.binary(max_size=20) | objects,
    mime_type=st.sampled_from(MemoryMimeType) | st.sampled_from(["text/plain", "image/png", "text/html"]),
    metadata=st.none() | objects,
)
calls = st.builds(FunctionCall, id=texts, name=texts, arguments=texts)
results = st.builds(
    FunctionExecutionResult, content=texts, name=texts, call_id=texts, is_error=st.none() | st.booleans()
)
messages = st.one_of(
    st.builds(SystemMessage, content=texts),
    st.builds(UserMessage, content=texts | st.lists(texts, max_size=2), source=texts),
    st.builds(AssistantMessage, content=texts | st.lists(calls, max_size=2), source=texts, thought=st.none() | texts),
    st.builds(FunctionExecutionResultMessage, content=st.lists(results, min_size=1, max_size=2)),
)


def name() -> str:
    return str(uuid.uuid4())


def client() -> ReplayChatCompletionClient:
    """A model whose tokens are words, as far as this test is concerned."""
    return ReplayChatCompletionClient(["x"])


def same(ours: list[MemoryContent], theirs: list[MemoryContent]) -> bool:
    return ours == theirs and [type(item.mime_type) for item in ours] == [type(item.mime_type) for item in theirs]


@given(steps=st.lists(contents | st.sampled_from(["clear", "context", "again"]), max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_memory_answers_as_list_memory_does(steps: list, tmp_path_factory) -> None:
    async def run() -> None:
        url = f"sqlite:///{tmp_path_factory.getbasetemp()}/memories.db"
        ours: AutoGenMemory = BotWireMemory(name(), url=url)
        theirs = ListMemory()
        for step in steps:
            if isinstance(step, MemoryContent):
                await ours.add(step)
                await theirs.add(step)
            elif step == "clear":
                await ours.clear()
                await theirs.clear()
            elif step == "again":
                ours = AutoGenMemory.load_component(ours.dump_component())
            else:
                contexts = UnboundedChatCompletionContext(), UnboundedChatCompletionContext()
                found = [
                    await memory.update_context(context)
                    for memory, context in zip((ours, theirs), contexts, strict=False)
                ]
                assert same(found[0].memories.results, found[1].memories.results)
                if not any(isinstance(item.content, bytes) for item in found[0].memories.results):
                    assert await contexts[0].get_messages() == await contexts[1].get_messages()
        assert same((await ours.query("anything")).results, (await theirs.query("anything")).results)

    asyncio.run(run())


@given(
    steps=st.lists(messages | st.sampled_from(["clear", "state", "again"]), max_size=12),
    kind=st.sampled_from(["unbounded", "buffered", "tokens", "room"]),
    initial=st.none() | st.lists(messages, max_size=2),
)
@settings(max_examples=60, deadline=None)
@example(steps=["clear"], kind="unbounded", initial=[SystemMessage(content="be kind")])
def test_a_context_answers_as_those_of_autogen_do(
    steps: list, kind: str, initial: list | None, tmp_path_factory
) -> None:
    view, theirs = {
        "unbounded": ({}, UnboundedChatCompletionContext(initial)),
        "buffered": ({"buffer_size": 2}, BufferedChatCompletionContext(2, initial)),
        "tokens": (
            {"model_client": client(), "token_limit": 3},
            TokenLimitedChatCompletionContext(client(), token_limit=3, initial_messages=initial),
        ),
        "room": ({"model_client": client()}, TokenLimitedChatCompletionContext(client(), initial_messages=initial)),
    }[kind]
    url = f"sqlite:///{tmp_path_factory.getbasetemp()}/contexts.db"

    async def run() -> None:
        ours: ChatCompletionContext = BotWireChatCompletionContext(name(), url=url, initial_messages=initial, **view)
        cleared = False
        for step in steps:
            if step == "clear":
                await ours.clear()
                await theirs.clear()
                cleared = True
            elif step == "state":
                state = await ours.save_state()
                assert state == await theirs.save_state()
                await ours.add_message(SystemMessage(content="to be forgotten"))
                await ours.load_state(state)
            elif step == "again" and not cleared:
                ours = ChatCompletionContext.load_component(ours.dump_component())
            elif step != "again":
                await ours.add_message(step)
                await theirs.add_message(step)
        assert await ours.get_messages() == await theirs.get_messages()

    asyncio.run(run())


async def test_images_and_bytes_come_back(address: str) -> None:
    memory = BotWireMemory(name(), url=address)
    kinds = [
        MemoryContent(content=IMAGE, mime_type=MemoryMimeType.IMAGE, metadata={"of": "teal"}),
        MemoryContent(content=b"\xff\x00", mime_type="application/x-own"),
        MemoryContent(content={"data": IMAGE.to_base64()}, mime_type=MemoryMimeType.JSON),
    ]
    for kind in kinds:
        await memory.add(kind)
    image, raw, json = (await memory.query()).results
    assert isinstance(image.content, Image)
    assert image.content.to_base64() == IMAGE.to_base64()
    assert (image.mime_type, image.metadata) == (MemoryMimeType.IMAGE, {"of": "teal"})
    assert (raw, json) == (kinds[1], kinds[2])
    context = BotWireChatCompletionContext(name(), url=address)
    await memory.update_context(context)
    (told,) = await context.get_messages()
    assert "1. (an image of 2 x 3)\n2. (2 bytes)\n" in told.content
    await context.add_message(UserMessage(content=["look", IMAGE], source="user"))
    _, asked = await context.get_messages()
    assert asked.content[1].to_base64() == IMAGE.to_base64()


async def test_fields_of_subclasses_are_kept(address: str) -> None:
    class Mood(UserMessage):
        mood: str

    class Loud(AssistantMessage):
        type: str = "Loud"

    class Rated(MemoryContent):
        stars: int

    context = BotWireChatCompletionContext(name(), url=address)
    await context.add_message(Mood(content="hi", source="user", mood="good"))
    await context.add_message(Loud(content="HI", source="helper"))
    await context.load_state(await context.save_state())
    mood, loud = await context.get_messages()
    assert isinstance(mood, UserMessage)
    assert (mood.content, mood.mood) == ("hi", "good")
    assert isinstance(loud, AssistantMessage)
    assert (loud.type, loud.original_type) == ("AssistantMessage", "Loud")
    memory = BotWireMemory(name(), url=address)
    await memory.add(Rated(content="teal", mime_type="text/plain", stars=5))
    assert (await memory.query()).results[0].stars == 5


async def test_only_what_the_model_sees_is_read_and_all_is_kept(address: str) -> None:
    session = name()
    short = BotWireChatCompletionContext(session, url=address, buffer_size=2)
    for number in range(5):
        await short.add_message(UserMessage(content=str(number), source="user"))
    assert [message.content for message in await short.get_messages()] == ["3", "4"]
    assert len(await BotWireChatCompletionContext(session, url=address).get_messages()) == 5
    memory = BotWireMemory(session, url=address, limit=1)
    for number in range(3):
        await memory.add(MemoryContent(content=str(number), mime_type="text/plain"))
    assert [item.content for item in (await memory.query()).results] == ["2"]


async def test_k_memories_that_answer_the_question(address: str) -> None:
    memory = BotWireMemory(name(), url=address, k=2)
    for text in ("Ada likes teal.", "Bob sails.", {"born": "Ada, in London"}, "Carl cooks."):
        await memory.add(MemoryContent(content=text, mime_type="text/plain"))
    context = BotWireChatCompletionContext(name(), url=address)
    assert len((await memory.update_context(context)).memories.results) == 4  # nothing was asked yet
    await context.clear()
    await context.add_message(UserMessage(content="Which colour does Ada like?", source="user"))
    found = (await memory.update_context(context)).memories.results
    assert [item.content for item in found] == ["Ada likes teal.", {"born": "Ada, in London"}]
    assert (await memory.query(MemoryContent(content="sailing", mime_type="text/plain"))).results[
        0
    ].content == "Bob sails."
    assert len((await memory.query()).results) == 4
    whole_document = "Who sails? " + "Nobody knows. " * 10_000
    assert (await memory.query(whole_document)).results[0].content == "Bob sails."
    assert memory.dump_component().config["k"] == 2
    with pytest.raises(InvalidArgument, match="together"):
        BotWireMemory(name(), url=address, k=2, limit=2)


async def test_with_an_embedder_what_means_the_same_is_found_too(address: str) -> None:
    def embedder(texts: list[str]) -> list[list[float]]:
        return [[("cat" in text or "feline" in text) + 0.1, ("sail" in text) + 0.1] for text in texts]

    memory = BotWireMemory(name(), url=address, k=1, embedder=embedder)
    for text in ("Bob sails.", "My feline sleeps."):
        await memory.add(MemoryContent(content=text, mime_type="text/plain"))
    assert [item.content for item in (await memory.query("cat")).results] == ["My feline sleeps."]
    by_words = AutoGenMemory.load_component(memory.dump_component())
    assert (await by_words.query("cat")).results == []


async def test_sixteen_tasks_and_sixteen_threads_lose_nothing(address: str) -> None:
    first = SystemMessage(content="be kind")
    context = BotWireChatCompletionContext(name(), url=address, initial_messages=[first])
    memory = BotWireMemory(name(), url=address)

    async def add(task: int) -> None:
        for number in range(5):
            text = f"{task}/{number}"
            await context.add_message(UserMessage(content=text, source="user"))
            await memory.add(MemoryContent(content=text, mime_type="text/plain"))

    await asyncio.gather(*map(add, range(16)))
    threads = [threading.Thread(target=lambda task=task: asyncio.run(add(task))) for task in range(16, 32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    wanted = sorted(f"{task}/{number}" for task in range(32) for number in range(5))
    begin, *rest = await context.get_messages()
    assert begin == first
    assert sorted(message.content for message in rest) == wanted
    found = [item.content for item in (await memory.query()).results]
    assert sorted(found) == wanted
    for task in range(32):
        assert [text for text in found if text.startswith(f"{task}/")] == [f"{task}/{number}" for number in range(5)]


async def test_secrets_are_hidden_in_a_config_that_is_text(tmp_path) -> None:
    key, session, url = generate_key(), name(), f"sqlite:///{tmp_path}/memory.db"
    options = {"url": url, "token": "hush-hush", "timeout": 3.0, "encryption_key": [key, b"k" * 32]}
    memory = BotWireMemory(session, "n", limit=3, **options)
    await memory.add(MemoryContent(content="x", mime_type="text/plain"))
    context = BotWireChatCompletionContext(session, "n2", model_client=client(), **options)
    for component in (memory, context):
        dumped = component.dump_component()
        text = dumped.model_dump_json()
        assert not any(secret in f"{dumped!r} {text}" for secret in ("hush-hush", key, "k" * 32))
        assert type(component).load_component(dumped)._place == component._place
        with pytest.raises(InvalidArgument, match="set them again"):
            type(component).load_component(ComponentModel.model_validate_json(text))
    again = BotWireMemory.load_component(memory.dump_component())
    assert [item.content for item in (await again.query()).results] == ["x"]
    plain = BotWireMemory("m", "n", url, timeout=3.0).dump_component()
    assert plain.config == {"name": "m", "namespace": "n", "url": url, "timeout": 3.0}
    assert BotWireMemory.load_component(ComponentModel.model_validate_json(plain.model_dump_json())).name == "m"


class OwnMemory(BotWireMemory):
    """A subclass, which is what its config makes again."""


def test_a_subclass_is_loaded_as_itself(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("BOTWIRE_URL", f"sqlite:///{tmp_path}/memory.db")
    dumped = BotWireMemory("m").dump_component()
    assert dumped.provider == "botwire.adapters.autogen.BotWireMemory"
    assert "url" not in dumped.config  # $BOTWIRE_URL decides, where it is loaded too
    assert OwnMemory("m").dump_component().provider.endswith(".OwnMemory")


async def test_what_cannot_come_back_is_refused(address: str) -> None:
    memory, context = BotWireMemory(name(), url=address), BotWireChatCompletionContext(name(), url=address)
    with pytest.raises(InvalidValue, match="tuple"):
        await memory.add(MemoryContent(content={"a": (1,)}, mime_type=MemoryMimeType.JSON))
    with pytest.raises(InvalidValue, match="messages of AutoGen, not dict"):
        await context.add_message({"type": "UserMessage"})
    with pytest.raises(InvalidValue, match="not a message of AutoGen"):
        await context.load_state({"messages": [{"type": "Path", "content": "x"}]})
    assert (await memory.query()).results == await context.get_messages() == []
    with pytest.raises(ValueError, match="buffer_size must be greater than 0"):
        BotWireChatCompletionContext("s", url=address, buffer_size=0)
    with pytest.raises(InvalidArgument, match="not both"):
        BotWireChatCompletionContext("s", url=address, buffer_size=1, model_client=client())
    with pytest.raises(InvalidArgument, match="model_client"):
        BotWireChatCompletionContext("s", url=address, token_limit=1)
    with pytest.raises(InvalidName):
        BotWireMemory("", url=address)


@pytest.mark.parametrize("number", [7, uuid.UUID(int=7)])
async def test_a_number_or_a_uuid_names_a_session(number: int | uuid.UUID, tmp_path) -> None:
    url, said = f"sqlite:///{tmp_path}/memory.db", UserMessage(content="hi", source="user")
    await BotWireChatCompletionContext(number, url=url).add_message(said)
    again = BotWireChatCompletionContext.load_component(BotWireChatCompletionContext(number, url=url).dump_component())
    assert (again.session_id, await again.get_messages()) == (str(number), [said])
    for wrong in (True, None, 7.0, b"7", "half \ud83d"):
        with pytest.raises(InvalidName):
            BotWireChatCompletionContext(wrong, url=url)


async def test_what_would_not_be_read_back_is_refused(address: str) -> None:
    """Pydantic does not check an attribute that is set later, nor what `model_construct` is given."""
    memory, context = BotWireMemory(name(), url=address), BotWireChatCompletionContext(name(), url=address)
    said = UserMessage(content="x", source="user")
    said.content = 5
    for message in (
        said,
        AssistantMessage.model_construct(content=[1], source="a", type="AssistantMessage"),
        FunctionExecutionResultMessage.model_construct(content="x", type="FunctionExecutionResultMessage"),
    ):
        with pytest.raises(InvalidValue, match="would not come back"):
            await context.add_message(message)
        with pytest.raises(InvalidValue, match="would not come back"):
            await context.load_state({"messages": [message]})
    for content in (
        MemoryContent.model_construct(content="a", mime_type=5, metadata=None),
        MemoryContent.model_construct(content="a", mime_type="text/plain", metadata="sEcReT"),
    ):
        with pytest.raises(InvalidValue, match="would not come back") as caught:
            await memory.add(content)
        assert "sEcReT" not in str(caught.value)
    assert (await memory.query()).results == await context.get_messages() == []


async def test_data_names_no_classes(address: str) -> None:
    """What somebody else writes into a session becomes a message of AutoGen or an error, whatever it says."""
    session = name()
    for item in (
        {"type": "subprocess.Popen", "args": ["true"]},
        {"provider": "subprocess.Popen", "config": {"args": ["true"]}},
        {"kind": "pickle", "content": "gASV"},
        [1],
    ):
        Memory("autogen-contexts", address).history(session).append([item])
        with pytest.raises(InvalidValue, match=f"message 1 of session '{session}' is not one of AutoGen"):
            await BotWireChatCompletionContext(session, url=address).get_messages()
        Memory("autogen-contexts", address).history(session).clear()
        Memory("autogen-memory", address).history(session).append([item])
        with pytest.raises(InvalidValue, match=f"message 1 of session '{session}' is not one of AutoGen"):
            await BotWireMemory(session, url=address).query()
        Memory("autogen-memory", address).history(session).clear()


async def test_a_state_is_kept_under_a_name(address: str) -> None:
    saved, empty = (BotWireChatCompletionContext(name(), url=address) for _ in range(2))
    await saved.add_message(UserMessage(content="hi", source="user"))
    key = name()
    assert not await load_state(empty, key, url=address)
    await save_state(saved, key, url=address)
    assert await load_state(empty, key, url=address)
    assert await empty.get_messages() == await saved.get_messages()


async def test_a_state_may_have_any_number_of_messages(address: str) -> None:
    context, other = (BotWireChatCompletionContext(name(), url=address) for _ in range(2))
    said = [UserMessage(content=str(number), source="user") for number in range(10_001)]
    await context.load_state({"messages": said})
    assert await context.get_messages() == said
    await other.add_message(said[0])
    await other.load_state(await context.save_state())
    assert await other.get_messages() == said
    await other.load_state({"messages": []})
    assert await other.get_messages() == []


async def test_pickles_and_copies_have_the_same_messages(address: str) -> None:
    context, memory = BotWireChatCompletionContext(name(), url=address), BotWireMemory(name(), url=address)
    await context.add_message(UserMessage(content="hi", source="user"))
    await memory.add(MemoryContent(content="x", mime_type="text/plain"))
    for others in (pickle.loads(pickle.dumps((context, memory))), copy.deepcopy((context, memory))):
        assert await others[0].get_messages() == await context.get_messages()
        assert (await others[1].query()).results == (await memory.query()).results
    for secret in (BotWireMemory, BotWireChatCompletionContext):
        with pytest.raises(TypeError, match="BOTWIRE_TOKEN"):
            pickle.dumps(secret("s", url="http://127.0.0.1:9", token="sEcReT-sEcReT-sEcReT"))


async def test_a_cancelled_call_is_cancelled(address: str) -> None:
    token = CancellationToken()
    token.cancel()
    memory = BotWireMemory(name(), url=address)
    with pytest.raises(asyncio.CancelledError):
        await memory.add(MemoryContent(content="x", mime_type="text/plain"), token)
    assert (await memory.query()).results == []


async def test_close_lets_go_and_forgets_nothing(address: str, server: Server) -> None:
    session = name()
    memory = BotWireMemory(session, url=address)
    await memory.add(MemoryContent(content="x", mime_type="text/plain"))
    await memory.close()
    assert len((await BotWireMemory(session, url=address).query()).results) == 1
