"""BotWireChatHistory within a budget, with a summary, with a time to live, and after a turn that did not end."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from botwire import BotWireChatHistory, Conflict, InvalidArgument


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A session of a file, or of a server."""
    is_remote = getattr(request, "param", "sqlite") == "http"
    url = request.getfixturevalue("server").url if is_remote else f"sqlite:///{tmp_path}/memory.db"
    return {"session_id": "user-42", "namespace": f"test-{uuid.uuid4()}", "url": str(url)}


everywhere = pytest.mark.parametrize("place", ["sqlite", "http"], indirect=True)


def turn(number: int) -> list[BaseMessage]:
    return [
        HumanMessage(f"question {number}"),
        AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": f"call-{number}"}]),
        ToolMessage(f"result {number}", tool_call_id=f"call-{number}"),
        AIMessage(f"answer {number}"),
    ]


SYSTEM = SystemMessage("Be kind.")
TURNS = [turn(number) for number in range(5)]
ALL = [SYSTEM, *itertools.chain(*TURNS)]


@pytest.fixture
def filled(place: dict[str, Any]) -> dict[str, Any]:
    BotWireChatHistory(**place).add_messages(ALL)
    return place


def both(**arguments: Any) -> list[BaseMessage]:
    """What a history returns, blocking and awaited."""
    history = BotWireChatHistory(**arguments)
    found = history.messages
    assert asyncio.run(BotWireChatHistory(**arguments).aget_messages()) == found
    return found


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (100, ALL),
        (9, [SYSTEM, *TURNS[3], *TURNS[4]]),
        (8, [SYSTEM, *TURNS[4]]),
        (5, [SYSTEM, *TURNS[4]]),
        (4, [SYSTEM, *TURNS[4][1:]]),  # the newest turn alone has as many, so it begins within that
        (3, [SYSTEM, TURNS[4][3]]),  # a result never comes without its call
    ],
)
def test_the_last_messages(filled: dict[str, Any], last: int, expected: list[BaseMessage]) -> None:
    assert both(**filled, last=last) == expected


def test_a_budget_of_tokens_by_the_callers_counter(filled: dict[str, Any]) -> None:
    def count(message: BaseMessage) -> int:
        return count_tokens_approximately([message])

    for budget in (*range(60, 200, 20), 10_000):
        found = both(**filled, max_tokens=budget, count=count)
        assert sum(map(count, found)) <= budget
        assert found == [SYSTEM, *ALL[len(ALL) - len(found) + 1 :]]
        assert isinstance(found[1], HumanMessage)
    assert both(**filled, max_tokens=10_000, last=6, count=count) == [SYSTEM, *TURNS[4]]
    assert both(**filled, max_tokens=70, last=17, count=count) == both(**filled, max_tokens=70, count=count)


def test_a_budget_that_nothing_fits_into_is_refused(filled: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="Pass at least") as caught:
        both(**filled, max_tokens=7)
    least = caught.value.details["minimum"]
    assert both(**filled, max_tokens=least) == [SYSTEM, *TURNS[4]]
    with pytest.raises(InvalidArgument, match="count failed for message .*ZeroDivisionError"):
        both(**filled, max_tokens=7, count=lambda _: 1 / 0)


@pytest.mark.parametrize(
    "wrong", [{"last": 0}, {"last": True}, {"max_tokens": 0}, {"max_tokens": 1.5}, {"count": 7}, {"ttl": 0}]
)
def test_wrong_arguments_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        BotWireChatHistory("user-42", **wrong)


@everywhere
def test_a_summary_replaces_the_first_messages(filled: dict[str, Any]) -> None:
    history, summary = BotWireChatHistory(**filled), HumanMessage("Summary: they asked 0 to 2.")
    with pytest.raises(InvalidArgument, match="its last is 21"):
        history.summarize([summary], upto=22)
    with pytest.raises(Conflict):
        history.summarize([summary], upto=13, if_last=20)
    history.summarize([summary], upto=13, if_last=21)
    assert both(**filled) == [SYSTEM, summary, *TURNS[3], *TURNS[4]]
    assert both(**filled, last=6) == [SYSTEM, summary, *TURNS[4]]
    assert history.all_messages() == asyncio.run(BotWireChatHistory(**filled).aall_messages()) == ALL

    later = SystemMessage("Summary: they asked 0 to 3.")
    asyncio.run(BotWireChatHistory(**filled).asummarize([later], upto=17))
    assert both(**filled) == [SYSTEM, later, *TURNS[4]]
    history.summarize([], upto=0)
    assert both(**filled) == ALL


def test_a_summary_loses_nothing_that_others_add(filled: dict[str, Any]) -> None:
    """It is made while another client adds a hundred messages."""
    added = [HumanMessage(f"meanwhile {number}") for number in range(100)]

    def add() -> None:
        history = BotWireChatHistory(**filled)
        for message in added:
            history.add_message(message)

    writer = threading.Thread(target=add)
    writer.start()
    history, upto = BotWireChatHistory(**filled), 0
    while writer.is_alive() or upto < 121:
        upto = len(history.all_messages())
        history.summarize([SystemMessage(f"{upto} messages")], upto=upto)
        found = history.messages
        assert [message.content for message in found[2:]] == [m.content for m in history.all_messages()[upto:]][
            : len(found) - 2
        ]
    writer.join()
    assert history.all_messages() == [*ALL, *added]
    assert history.messages == [SYSTEM, SystemMessage("121 messages")]


@pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
def test_a_chain_gets_the_context_and_adds_what_is_new(filled: dict[str, Any]) -> None:
    """With each form of input that LangChain has, for which it reads the history at the start and at the end of a run."""
    place = {name: filled[name] for name in ("namespace", "url")}
    seen: list[Any] = []

    class Model(FakeListChatModel):
        def _call(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> str:
            seen.append(messages)
            return super()._call(messages, *args, **kwargs)

    model = Model(responses=["fine"])
    at: Any = {"configurable": {"session_id": "user-42"}}

    def make(session_id: str) -> BotWireChatHistory:
        return BotWireChatHistory(session_id, last=5, **place)

    with_list = RunnableWithMessageHistory(model, make)
    with_list.invoke([HumanMessage("one")], at)
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{input}")])
    with_keys = RunnableWithMessageHistory(
        prompt | model, make, input_messages_key="input", history_messages_key="history"
    )
    with_keys.invoke({"input": "two"}, at)
    assert seen[0] == [SYSTEM, *TURNS[4], HumanMessage("one")]
    assert [message.content for message in seen[1]] == ["Be kind.", "one", "fine", "two"]
    contents = [message.content for message in make("user-42").all_messages()[len(ALL) :]]
    assert contents == ["one", "fine", "two", "fine"]


def test_langchains_own_trimmer_takes_the_context(filled: dict[str, Any]) -> None:
    found = trim_messages(
        both(**filled, last=9), max_tokens=5, token_counter=len, include_system=True, start_on="human"
    )
    assert found == [SYSTEM, *TURNS[4]]


@everywhere
def test_a_session_expires_after_its_last_message(place: dict[str, Any]) -> None:
    history = BotWireChatHistory(**place, ttl=3)
    history.add_messages(TURNS[0])
    time.sleep(1.8)
    asyncio.run(BotWireChatHistory(**place, ttl=3).aadd_messages(TURNS[1]))
    time.sleep(1.8)
    assert history.messages == [*TURNS[0], *TURNS[1]]
    time.sleep(3)
    assert history.messages == history.all_messages() == []
    history.add_messages(TURNS[2])
    assert history.messages == TURNS[2]


def test_a_turn_that_did_not_end_is_mended(place: dict[str, Any]) -> None:
    history = BotWireChatHistory(**place)
    history.add_messages([*TURNS[0], *TURNS[1][:2], *TURNS[2]])
    (done,) = history.mend()
    assert (done.kind, done.id, done.action) == ("call_without_result", "call-1", "inserted")
    cancelled = history.messages[6]
    assert isinstance(cancelled, ToolMessage)
    assert (cancelled.tool_call_id, cancelled.status) == ("call-1", "error")
    assert [message for message in history.messages if message != cancelled] == [*TURNS[0], *TURNS[1][:2], *TURNS[2]]
    assert history.mend() == asyncio.run(BotWireChatHistory(**place).amend()) == []
