"""A memory as tools of the Model Context Protocol (https://modelcontextprotocol.io), for every client that speaks it."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Unpack

from ..aio import AsyncMemory
from ..errors import BotWireError, InvalidArgument
from ..memory import Options
from ..version import __version__

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import ToolAnnotations
    from pydantic import BaseModel, Field
except ModuleNotFoundError as error:
    if error.name not in {"mcp", "mcp.server.mcpserver", "mcp_types", "pydantic"}:
        raise
    missing = "botwire mcp needs mcp 2.0 or newer: pip install 'botwire[mcp]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["create_server", "serve_http", "serve_stdio"]

MAX_RESULTS = 1000
"""Keys, messages or hits in one answer: more than any model's context has room for."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Where the SDK refuses requests that another site's page made a browser send (DNS rebinding)."""

_INSTRUCTIONS = """A memory that persists after this conversation and is shared with its other users. Before you answer from nothing, \
search it or list its keys. Remember what will matter later, under short keys with slashes, such as user/ada/likes."""

Key = Annotated[str, Field(description="What it is stored under: 1 to 512 bytes, such as user/ada/likes")]
Limit = Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many at most")]


class Remembered(BaseModel):
    """What `remember` did."""

    key: str
    version: int = Field(description="It grows whenever the key is written")


class Recalled(BaseModel):
    """What is stored under a key."""

    key: str
    found: bool
    value: Any = Field(default=None, description="Any JSON value")
    value_base64: str | None = Field(default=None, description="Instead of value, when bytes are stored")
    version: int = Field(default=0, description="0: there is nothing under the key")
    updated_at: str | None = None
    expires_at: str | None = None


class Hit(BaseModel):
    """Something that was found: under a key, or in a session's messages."""

    key: str | None = None
    session: str | None = None
    seq: int | None = Field(default=None, description="The message's number in its session")
    text: str = Field(description="The part of its text that has most of the words")


class Hits(BaseModel):
    """What was found."""

    hits: list[Hit]


class Forgotten(BaseModel):
    """What `forget` did."""

    forgotten: int = Field(description="How many keys or messages there were; 0: there was nothing to forget")


class Keys(BaseModel):
    """A page of keys."""

    keys: list[str]
    next: str | None = Field(default=None, description="Pass it as after for the next page; null: there is none")


class ChatMessage(BaseModel):
    """A message of a session."""

    seq: int
    data: Any
    created_at: str


class ChatSession(BaseModel):
    """A session."""

    session: str
    messages: int
    updated_at: str


class Chat(BaseModel):
    """The messages of a session, or the sessions that there are."""

    messages: list[ChatMessage] = []
    sessions: list[ChatSession] = []


def create_server(namespace: str = "mcp", url: str | None = None, **options: Unpack[Options]) -> MCPServer[Any]:
    """Return an MCP server whose tools are a memory: remember, recall, search, forget, list and history.

    Args:
        namespace: the namespace that the tools read and write, and no other.
        url: the address of the store, as for `Memory`. None: ``$BOTWIRE_URL``, or else the file in the user's data folder.
        options: as for `Memory`.

    Raises:
        InvalidName: the namespace is not allowed.
        InvalidArgument: the address or an option is wrong.
        StoreError: the file cannot be opened.
    """
    tools = Tools(AsyncMemory(namespace, url, **options))
    server: MCPServer[Any] = MCPServer(
        "botwire", title="botwire", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    for name, tool, hints in (
        ("remember", tools.remember, {"destructive_hint": True, "idempotent_hint": True}),
        ("recall", tools.recall, {"read_only_hint": True}),
        ("search", tools.search, {"read_only_hint": True}),
        ("forget", tools.forget, {"destructive_hint": True, "idempotent_hint": True}),
        ("list", tools.list_keys, {"read_only_hint": True}),
        ("history", tools.history, {"read_only_hint": True}),
    ):
        hint_values = {"read_only_hint": False, "open_world_hint": False, **hints}
        server.add_tool(tool, name=name, title=name.capitalize(), annotations=ToolAnnotations(**hint_values))
    return server


def serve_stdio(server: MCPServer[Any]) -> None:
    """Serve one client over stdin and stdout, until it closes them."""
    server.run("stdio")


def say_where(url: str) -> None:
    """Print an address on stderr."""
    print(f"botwire mcp: {url}", file=sys.stderr, flush=True)  # noqa: T201


def serve_http(
    server: MCPServer[Any],
    *,
    host: str,
    port: int,
    open_to_all: bool = False,
    announce: Callable[[str], None] = say_where,
) -> None:
    """Serve any number of clients by streamable HTTP, until SIGTERM or Ctrl-C.

    Args:
        server: what to serve.
        host: the interface to listen on.
        port: 0 for any free one.
        open_to_all: listen on an interface that other machines can reach, although no token is needed.
        announce: called with the address when clients may connect; by default it goes to stderr.

    Raises:
        InvalidArgument: the interface can be reached from other machines and `open_to_all` was not said.
    """
    import uvicorn

    if host not in LOOPBACK and not open_to_all:
        raise InvalidArgument(
            f"{host} can be reached from other machines, and this server asks for no token: add --open if that is "
            "what you want, or put it after a proxy that authenticates, or listen on 127.0.0.1"
        )
    # No state is kept between requests, so clients continue after a restart without noticing.
    app = server.streamable_http_app(host=host, stateless_http=True, json_response=True)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False, ws="none")
    listening = config.bind_socket()
    listening.listen(config.backlog)  # so that a client that reads the address can connect
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{listening.getsockname()[1]}/mcp")
    uvicorn.Server(config).run(sockets=[listening])


class Tools:
    """The tools. What their docstrings say is what a model reads."""

    def __init__(self, memory: AsyncMemory) -> None:
        self._memory = memory

    async def remember(
        self,
        key: Key,
        value: Annotated[Any, Field(description="What to remember: any JSON value")],
        ttl: Annotated[float | None, Field(gt=0, description="Seconds until it is forgotten; null: never")] = None,
    ) -> Remembered:
        """Store a value under a key, in place of what is there. It is on disk when this returns."""
        with _told():
            return Remembered(key=key, version=await self._memory.set(key, value, ttl=ttl))

    async def recall(self, key: Key) -> Recalled:
        """Return what is stored under a key."""
        with _told():
            entry = await self._memory.entry(key)
            if entry is None:
                return Recalled(key=key, found=False)
            value, expires = entry.value, entry.expires_at
        data = {"value_base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else {"value": value}
        return Recalled(
            key=key,
            found=True,
            version=entry.version,
            updated_at=entry.updated_at.isoformat(),
            expires_at=expires.isoformat() if expires else None,
            **data,
        )

    async def search(
        self,
        query: Annotated[str, Field(min_length=1, description="A question or some words")],
        limit: Limit = 10,
        session: Annotated[str | None, Field(description="Only messages of this session")] = None,
        prefix: Annotated[str, Field(description="Only keys that begin with this")] = "",
    ) -> Hits:
        """Find keys, values and messages by the words in them; the best first."""
        with _told():
            found = await self._memory.search(query, limit=limit, session=session, prefix=prefix)
        return Hits(
            hits=[
                Hit(
                    key=hit.entry.key if hit.entry else None,
                    session=hit.session,
                    seq=hit.message.seq if hit.message else None,
                    text=hit.snippet,
                )
                for hit in found
            ]
        )

    async def forget(
        self,
        key: Annotated[str | None, Field(description="Forget what is stored under this key")] = None,
        prefix: Annotated[str | None, Field(min_length=1, description="Forget all keys that begin with this")] = None,
        session: Annotated[str | None, Field(description="Forget this session and all of its messages")] = None,
    ) -> Forgotten:
        """Forget for good: a key, all keys with a prefix, or a session. Give exactly one of the three."""
        if [key, prefix, session].count(None) != 2:
            raise ToolError("give exactly one of key, prefix and session")
        with _told():
            if key is not None:
                return Forgotten(forgotten=int(await self._memory.delete(key)))
            if prefix is not None:
                return Forgotten(forgotten=int(await self._memory.clear(prefix)))
            return Forgotten(forgotten=int(await self._memory.history(str(session)).clear()))

    async def list_keys(
        self,
        prefix: Annotated[str, Field(description="Only keys that begin with this")] = "",
        limit: Limit = 100,
        after: Annotated[
            str | None, Field(description="Continue after this key, the last one of the page before")
        ] = None,
    ) -> Keys:
        """List the keys, in the order of their bytes."""
        with _told():
            keys = await self._memory.list_keys(prefix, limit=limit + 1, after=after)
        return Keys(keys=keys[:limit], next=keys[limit - 1] if len(keys) > limit else None)

    async def history(
        self,
        session: Annotated[str | None, Field(description="Whose messages; null: which sessions there are")] = None,
        last: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many of the last ones")] = 20,
    ) -> Chat:
        """Return the last messages of a session in order; or, without one, the sessions, the newest first."""
        with _told():
            if session is None:
                found = await self._memory.sessions(limit=last)
                return Chat(
                    sessions=[
                        ChatSession(session=item.name, messages=item.messages, updated_at=item.updated_at.isoformat())
                        for item in found
                    ]
                )
            messages = await self._memory.history(session).messages(last)
            return Chat(
                messages=[
                    ChatMessage(seq=item.seq, data=item.data, created_at=item.created_at.isoformat())
                    for item in messages
                ]
            )


@contextmanager
def _told() -> Iterator[None]:
    """Report an error of botwire to the model with its own message."""
    try:
        yield
    except BotWireError as error:
        raise ToolError(error.message) from error
