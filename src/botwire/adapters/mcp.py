"""A memory as tools of the Model Context Protocol (https://modelcontextprotocol.io)."""

from __future__ import annotations

import base64
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, Unpack

from ..aio import AsyncMemory
from ..errors import BotWireError, InvalidArgument
from ..limits import MAX_QUESTION_CHARS
from ..memory import Options
from ..version import __version__
from ._base import needs

with needs("mcp mcp_types pydantic", "botwire mcp needs mcp 2.0 or newer: pip install 'botwire[mcp]'"):
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.mcpserver.tools import Tool
    from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
    from mcp.server.transport_security import TransportSecuritySettings
    from mcp_types import ToolAnnotations
    from pydantic import BaseModel, Field

__all__ = ["create_server", "serve_http", "serve_stdio"]

MAX_RESULTS = 1000
"""The most keys, messages or hits in one answer. No context of a model has room for more."""
MAX_CONNECTIONS = 1000
"""Further clients over HTTP get 503."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts where the SDK refuses requests that a page of another site makes a browser send (DNS rebinding)."""

_INSTRUCTIONS = """A memory that persists after this conversation and is shared with its other users. Search it or list its \
keys before you answer. Remember what will matter later, under short keys with slashes, such as user/ada/likes."""

Key = Annotated[str, Field(description="The name of the value: 1 to 512 bytes, such as user/ada/likes")]
Limit = Annotated[int, Field(ge=1, le=MAX_RESULTS, description="The maximum number of results")]
Prefix = Annotated[str, Field(description="Only keys that begin with this")]


class Remembered(BaseModel):
    """The result of `remember`."""

    key: str
    version: int = Field(description="It grows with every write of the key")


class Recalled(BaseModel):
    """The value of a key."""

    key: str
    found: bool
    value: Any = Field(default=None, description="Any JSON value")
    value_base64: str | None = Field(default=None, description="The value if it is bytes, in place of value")
    version: int = Field(default=0, description="0: the key does not exist")
    updated_at: str | None = None
    expires_at: str | None = None


class Hit(BaseModel):
    """A value of a key, or a message of a session."""

    key: str | None = None
    session: str | None = None
    seq: int | None = Field(default=None, description="The message's number in its session")
    text: str = Field(description="The part of its text with most of the words")


class Hits(BaseModel):
    """The results of a search."""

    hits: list[Hit]


class Forgotten(BaseModel):
    """The result of `forget`."""

    forgotten: int = Field(description="The number of deleted keys or messages; 0: nothing was found")


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
    """The messages of a session, or the list of sessions."""

    messages: list[ChatMessage] = []
    sessions: list[ChatSession] = []


def create_server(namespace: str = "mcp", url: str | None = None, **options: Unpack[Options]) -> MCPServer[Any]:
    """Return an MCP server whose tools are a memory: remember, recall, search, forget, list and history.

    Args:
        namespace: the only namespace that the tools read and write.
        url, options: as for `Memory`. It also lists the errors that this may raise.
    """
    tools = Tools(AsyncMemory(namespace, url, **options))
    offered = []
    for name, call, hints in (
        ("remember", tools.remember, {"destructive_hint": True, "idempotent_hint": True}),
        ("recall", tools.recall, {"read_only_hint": True}),
        ("search", tools.search, {"read_only_hint": True}),
        ("forget", tools.forget, {"destructive_hint": True, "idempotent_hint": True}),
        ("list", tools.list_keys, {"read_only_hint": True}),
        ("history", tools.history, {"read_only_hint": True}),
    ):
        annotations = ToolAnnotations(**{"read_only_hint": False, "open_world_hint": False, **hints})
        tool = Tool.from_function(_reported(call), name=name, title=name.capitalize(), annotations=annotations)
        tool.fn_metadata = _AsSent(**dict(tool.fn_metadata))
        offered.append(tool)
    return MCPServer(
        "botwire",
        title="botwire",
        version=__version__,
        instructions=_INSTRUCTIONS,
        log_level="WARNING",
        tools=offered,
    )


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
    """Serve clients over streamable HTTP, until SIGTERM or Ctrl-C.

    Args:
        server: the server.
        host: the interface to listen on.
        port: the port; 0: any free one.
        open_to_all: listen on an interface that other machines can reach, although no token is required.
        announce: called with the address when clients can connect; by default it prints on stderr.

    Raises:
        InvalidArgument: other machines can reach the interface, and `open_to_all` is false.
    """
    import uvicorn

    from ..connections.config import Config

    if host not in LOOPBACK and not open_to_all:
        raise InvalidArgument(
            f"{host} can be reached from other machines, and this server requires no token: add --open to allow that, or use "
            "a proxy that authenticates, or listen on 127.0.0.1"
        )
    config = Config(
        None, host=host, port=port, log_level="warning", limit_concurrency=MAX_CONNECTIONS, proxy_headers=False
    )
    listening = config.bind_socket()
    port = listening.getsockname()[1]
    # No state is kept between requests, so clients continue after a restart without noticing.
    config.app = server.streamable_http_app(
        host=host, stateless_http=True, json_response=True, transport_security=_security(host, port)
    )
    listening.listen(config.backlog)  # before the address is announced
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{port}/mcp")
    uvicorn.Server(config).run(sockets=[listening])


class _AsSent(FuncMetadata):
    """The arguments as they were sent: the SDK would parse a string that happens to be JSON, and store something else."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """Parse nothing."""
        return data


def _security(host: str, port: int) -> TransportSecuritySettings | None:
    """Return which hosts and origins a server on loopback serves: its own. The SDK would allow pages of any port of this machine."""
    if host not in LOOPBACK:
        return None
    names = ["127.0.0.1", "localhost", "[::1]"]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{name}:*" for name in names],  # a tunnel may have another port
        allowed_origins=[f"http://{name}:{port}" for name in names],
    )


def _reported(tool: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Report an error of botwire to the model with its own message."""

    @wraps(tool)
    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return await tool(*args, **kwargs)
        except BotWireError as error:
            raise ToolError(error.message) from error

    return run


class Tools:
    """The tools. Models read their docstrings and descriptions."""

    def __init__(self, memory: AsyncMemory) -> None:
        self._memory = memory

    async def remember(
        self,
        key: Key,
        value: Annotated[Any, Field(description="Any JSON value")],
        ttl: Annotated[float | None, Field(gt=0, description="Seconds until it is forgotten; null: never")] = None,
    ) -> Remembered:
        """Store a value under a key and replace an existing value. It is on disk when this returns."""
        return Remembered(key=key, version=await self._memory.set(key, value, ttl=ttl))

    async def recall(self, key: Key) -> Recalled:
        """Return the value of a key."""
        entry = await self._memory.entry(key)
        if entry is None:
            return Recalled(key=key, found=False)
        value, expires = entry.value, entry.expires_at
        return Recalled(
            key=key,
            found=True,
            value=None if isinstance(value, bytes) else value,
            value_base64=base64.b64encode(value).decode() if isinstance(value, bytes) else None,
            version=entry.version,
            updated_at=entry.updated_at.isoformat(),
            expires_at=expires.isoformat() if expires else None,
        )

    async def search(
        self,
        query: Annotated[
            str, Field(min_length=1, max_length=MAX_QUESTION_CHARS, description="A question or some words")
        ],
        limit: Limit = 10,
        session: Annotated[str | None, Field(description="Only messages of this session")] = None,
        prefix: Prefix = "",
    ) -> Hits:
        """Find keys, values and messages by their words, best first."""
        hits = [
            Hit(
                key=hit.entry.key if hit.entry else None,
                session=hit.session,
                seq=hit.message.seq if hit.message else None,
                text=hit.snippet,
            )
            for hit in await self._memory.search(query, limit=limit, session=session, prefix=prefix)
        ]
        return Hits(hits=hits)

    async def forget(
        self,
        key: Annotated[str | None, Field(description="Delete this key")] = None,
        prefix: Annotated[str | None, Field(min_length=1, description="Delete all keys that begin with this")] = None,
        session: Annotated[str | None, Field(description="Delete this session and all of its messages")] = None,
    ) -> Forgotten:
        """Permanently delete a key, all keys with a prefix, or a session. Pass exactly one of the three."""
        if [key, prefix, session].count(None) != 2:
            raise ToolError("pass exactly one of key, prefix and session")
        if key is not None:
            return Forgotten(forgotten=int(await self._memory.delete(key)))
        if prefix is not None:
            return Forgotten(forgotten=int(await self._memory.clear(prefix)))
        return Forgotten(forgotten=int(await self._memory.history(str(session)).clear()))

    async def list_keys(
        self,
        prefix: Prefix = "",
        limit: Limit = 100,
        after: Annotated[str | None, Field(description="Continue after this key, the last of the page before")] = None,
    ) -> Keys:
        """List the keys, in the order of their bytes."""
        keys = await self._memory.list_keys(prefix, limit=limit + 1, after=after)
        return Keys(keys=keys[:limit], next=keys[limit - 1] if len(keys) > limit else None)

    async def history(
        self,
        session: Annotated[str | None, Field(description="The session; null: list the sessions")] = None,
        last: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many, from the end")] = 20,
    ) -> Chat:
        """Return the last messages of a session in order; without a session, list the sessions, the last used first."""
        if session is None:
            sessions = [
                ChatSession(session=item.name, messages=item.messages, updated_at=item.updated_at.isoformat())
                for item in await self._memory.sessions(limit=last)
            ]
            return Chat(sessions=sessions)
        messages = [
            ChatMessage(seq=item.seq, data=item.data, created_at=item.created_at.isoformat())
            for item in await self._memory.history(session).messages(last)
        ]
        return Chat(messages=messages)
