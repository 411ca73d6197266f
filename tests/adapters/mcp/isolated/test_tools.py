"""The tools, as the SDK's own client sees them: by stdio and by HTTP, with a memory in a file and on a server."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from mcp import Client

from botwire import InvalidArgument, InvalidName, Memory
from botwire.adapters.mcp import create_server
from tests.adapters.mcp.isolated.running import call, client, refused
from tests.servers import Server


@pytest.fixture(params=["stdio to a file", "http to a server"])
def place(request: pytest.FixtureRequest, tmp_path, server: Server) -> tuple[str, str]:
    """A transport, and the address of a memory."""
    return ("stdio", f"sqlite:///{tmp_path}/memory.db") if "file" in request.param else ("http", server.url)


async def test_the_tools(place: tuple[str, str]) -> None:
    transport, address = place
    namespace = f"test-{uuid.uuid4()}"
    memory = Memory(namespace, address)
    memory.history("chat").append([{"role": "user", "content": "I like Teal curtains"}, {"content": "Noted"}])
    memory.set("bytes", b"\x00\xff")
    async with client(transport, "--url", address, "--namespace", namespace) as here:
        await describes_itself(here)
        value = {"name": "Ada", "likes": ["teal", None, 2.5, True]}
        version = (await call(here, "remember", key="user/ada", value=value))["version"]
        assert version > 0
        recalled = await call(here, "recall", key="user/ada")
        assert (recalled["found"], recalled["value"], recalled["version"]) == (True, value, version)
        assert recalled["expires_at"] is None
        await call(here, "remember", key="user/otp", value="318 204", ttl=300)
        assert (await call(here, "recall", key="user/otp"))["expires_at"]
        await call(here, "remember", key="user/text", value="[1]")
        assert (await call(here, "recall", key="user/text"))["value"] == "[1]"
        await call(here, "forget", key="user/text")
        await call(here, "remember", key="user/none", value=None)
        nothing = await call(here, "recall", key="user/none")
        assert (nothing["found"], nothing["value"]) == (True, None)
        assert (await call(here, "recall", key="nobody"))["found"] is False
        assert (await call(here, "recall", key="bytes"))["value_base64"] == "AP8="

        assert (await call(here, "list"))["keys"] == ["bytes", "user/ada", "user/none", "user/otp"]
        page = await call(here, "list", prefix="user/", limit=2)
        assert page == {"keys": ["user/ada", "user/none"], "next": "user/none"}
        assert await call(here, "list", prefix="user/", limit=2, after=page["next"]) == {
            "keys": ["user/otp"],
            "next": None,
        }

        hits = (await call(here, "search", query="Who likes TEAL?"))["hits"]
        assert {(hit["key"], hit["session"], hit["seq"]) for hit in hits[:2]} == {
            ("user/ada", None, None),
            (None, "chat", 1),
        }
        assert "I like Teal curtains" in [hit["text"] for hit in hits]
        assert (await call(here, "search", query="curtain", limit=1))["hits"][0]["session"] == "chat"
        assert {hit["key"] for hit in (await call(here, "search", query="teal", session="chat"))["hits"]} == {None}
        assert (await call(here, "search", query="violet"))["hits"] == []

        messages = (await call(here, "history", session="chat", last=1))["messages"]
        assert [(message["seq"], message["data"]) for message in messages] == [(2, {"content": "Noted"})]
        assert [item["session"] for item in (await call(here, "history"))["sessions"]] == ["chat"]

        assert await call(here, "forget", key="user/ada") == {"forgotten": 1}
        assert await call(here, "forget", key="user/ada") == {"forgotten": 0}
        assert await call(here, "forget", prefix="user/") == {"forgotten": 2}
        assert await call(here, "forget", session="chat") == {"forgotten": 2}

        assert "exactly one" in await refused(here, "forget")
        assert "exactly one" in await refused(here, "forget", key="a", prefix="b")
        assert "512 bytes" in await refused(here, "remember", key="", value=1)
        assert "nested" in await refused(here, "remember", key="a", value=deep(120))
        assert "limit" in await refused(here, "list", limit=0)
        assert "value" in await refused(here, "remember", key="a")
        assert "query" in await refused(here, "search", query="")
        assert "query" in await refused(here, "search", query="teal " * 2_000)
    assert memory.list_keys() == ["bytes"]
    assert memory.sessions() == []


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


async def describes_itself(here: Client) -> None:
    """It has all that a client needs to show its tools and to decide which of them ask first."""
    assert (here.server_info.name, here.server_info.version != "") == ("botwire", True)
    tools = {tool.name: tool for tool in (await here.list_tools()).tools}
    assert list(tools) == ["remember", "recall", "search", "forget", "list", "history"]
    for name, tool in tools.items():
        reads = name not in {"remember", "forget"}
        hints = tool.annotations
        assert hints.read_only_hint is reads
        assert hints.open_world_hint is False
        assert (hints.destructive_hint, hints.idempotent_hint) == ((None, None) if reads else (True, True))
        assert tool.title
        assert tool.description
        assert tool.output_schema["type"] == "object"
        assert all("description" in part for part in tool.input_schema["properties"].values())
    assert tools["remember"].input_schema["required"] == ["key", "value"]


TEXTS = ['{"theme": "dark"}', "[1, 2]", "[]", "null", "true", "42", "1.50", '"quoted"', "{not json", " {} ", "1" * 5000]
OTHERS = [0, -1, 2**70, 1.0, 2.5, True, False, None, [], {}, ["1", 1, [None]], {"a": "[]", "b": {"c": "null"}}]


async def test_every_value_is_recalled_as_it_was_sent(address: str) -> None:
    """The SDK parses strings that look like JSON, unless it is told not to."""
    namespace = f"test-{uuid.uuid4()}"
    memory = Memory(namespace, address)
    async with Client(create_server(namespace, address)) as here:
        for value in (*TEXTS, *OTHERS):
            await call(here, "remember", key="k", value=value)
            recalled = (await call(here, "recall", key="k"))["value"]
            for found in (recalled, memory["k"]):
                assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("name", ["null", "[]", "{}", "7"])
async def test_a_name_that_is_json_is_a_name(name: str, address: str) -> None:
    namespace = f"test-{uuid.uuid4()}"
    memory = Memory(namespace, address)
    memory.history(name).append(["teal"])
    memory.history("other").append(["teal"])
    memory.set(f"{name}1", "x")
    async with Client(create_server(namespace, address)) as here:
        assert (await call(here, "list", after="!"))["keys"] == [f"{name}1"]
        assert [item["data"] for item in (await call(here, "history", session=name))["messages"]] == ["teal"]
        assert [hit["session"] for hit in (await call(here, "search", query="teal", session=name))["hits"]] == [name]
        assert await call(here, "forget", prefix=name) == {"forgotten": 1}
        assert await call(here, "forget", session=name) == {"forgotten": 1}
        assert await call(here, "forget", key=name) == {"forgotten": 0}
    assert [session.name for session in memory.sessions()] == ["other"]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InvalidName):
        create_server("a/b")
    with pytest.raises(InvalidArgument):
        create_server(url="ftp://x")
