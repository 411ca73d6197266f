"""Servers are killed at each write of a turn with tools. What a tool has answered is kept, and a model can repeat the other calls."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import uvicorn  # noqa: F401 - so that not each of the servers imports it
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from botwire import Memory
from botwire.adapters.mcp import create_server, serve_http
from tests.adapters.isolated.crashes import Strike, check_end, store_at, strikes
from tests.adapters.mcp.isolated import crashing
from tests.adapters.mcp.isolated.running import call

WRITES = 6
"""The writes of a turn."""


def calls_of(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of a turn, each of which writes once. The session exists before it."""
    return [
        ("remember", {"key": f"{name}/likes", "value": "teal"}),
        ("remember", {"key": f"{name}/old", "value": 1}),
        ("forget", {"key": f"{name}/old"}),
        ("remember", {"key": f"{name}/draft/1", "value": 2}),
        ("forget", {"prefix": f"{name}/draft/"}),
        ("forget", {"session": name}),
    ]


def create_sessions(address: str, names: Iterable[str]) -> None:
    with Memory("n", address) as memory:
        for name in names:
            memory.history(name).append({"role": "user", "content": "hello"})


def stored(address: str) -> tuple[dict[str, Any], set[str]]:
    """Return the values and the names of the sessions."""
    with Memory("n", address) as memory:
        return dict(memory.items()), {session.name for session in memory.sessions()}


def serve(address: str, strike: Strike | None, announced: Connection) -> None:
    serve_http(create_server("n", store=store_at(address, strike)), host="127.0.0.1", port=0, announce=announced.send)


class Worker:
    """A client with a server of its own. When the server is killed, it starts another one, as coding agents do."""

    def __init__(self, name: str, address: str, strike: Strike | None = None) -> None:
        self._name = name
        self._address = address
        self.code = 0
        self._start(strike)

    def _start(self, strike: Strike | None) -> None:
        reader, announced = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process
        self._server = process(target=serve, args=(self._address, strike, announced), daemon=True)
        self._server.start()
        announced.close()
        try:
            self._url = reader.recv() if reader.poll(30) else ""
        except EOFError:  # killed before it was ready
            self._restart()

    def _restart(self) -> None:
        """Start another server after the first was killed."""
        self._server.join(30)
        assert self._server.exitcode == -signal.SIGKILL
        self.code = self._server.exitcode
        self._start(None)

    async def turn(self) -> None:
        """Make the calls, and the last one again if the server is killed before it answers."""
        calls = [*calls_of(self._name), ("recall", {"key": f"{self._name}/likes"})]
        answer = None
        while calls:
            try:
                async with Client(self._url) as client:
                    while calls:
                        tool, arguments = calls[0]
                        answer = await call(client, tool, **arguments)
                        del calls[0]
            except Exception:  # the SDK has several for a connection that ends
                await asyncio.to_thread(self._restart)  # a fork of this thread would have its event loop
        assert answer["value"] == "teal"

    def stop(self) -> None:
        self._server.kill()
        self._server.join()


async def turns(workers: list[Worker]) -> None:
    await asyncio.gather(*(worker.turn() for worker in workers))


@pytest.mark.parametrize("count", [1, 2])
def test_a_server_that_is_killed_at_any_write_keeps_what_it_has_answered(tmp_path: Path, count: int) -> None:
    for number, strike in enumerate(strikes(WRITES)):
        address = f"sqlite:///{tmp_path}/{number}.db"
        names = ["killed", *(f"living-{other}" for other in range(count - 1))]
        create_sessions(address, names)
        workers = [Worker(name, address, strike if name == "killed" else None) for name in names]
        asyncio.run(turns(workers))
        for worker in workers:
            worker.stop()
        check_end(workers[0].code, strike, WRITES)
        assert stored(address) == ({f"{name}/likes": "teal" for name in names}, set())


@asynccontextmanager
async def by_stdio(address: str, moment: str) -> AsyncIterator[Client]:
    """A client whose server is killed at its first write, or never."""
    command = StdioServerParameters(
        command=sys.executable, args=["-m", crashing.__name__, address, moment], env=dict(os.environ)
    )
    async with Client(stdio_client(command)) as client:
        yield client


async def test_a_server_over_stdio_that_is_killed_at_any_write_keeps_what_it_has_answered(tmp_path: Path) -> None:
    """Each call is made three times: its server is killed before the write, then after it, then never. Another client runs turns."""
    address, expected = f"sqlite:///{tmp_path}/n.db", f"sqlite:///{tmp_path}/expected.db"
    for each in (address, expected):
        create_sessions(each, ["killed"])
    async with by_stdio(address, "never") as other, by_stdio(expected, "never") as reference:
        for tool, arguments in calls_of("killed"):
            for moment in ("before", "after", "never"):
                if moment == "after":
                    answer = await call(reference, tool, **arguments)
                turn = asyncio.create_task(living(other, address))
                if moment == "never":
                    repeated = await call(other, tool, **arguments)
                    assert repeated.keys() == answer.keys()
                else:
                    async with by_stdio(address, moment) as client:
                        with pytest.raises(MCPError, match="Connection closed"):
                            await call(client, tool, **arguments)
                await turn
                assert stored(address) == stored(expected)
    assert stored(address) == ({"killed/likes": "teal"}, set())


async def living(client: Client, address: str) -> None:
    """A turn of a client whose server is not killed, which leaves nothing."""
    create_sessions(address, ["living"])
    for tool, arguments in calls_of("living"):
        await call(client, tool, **arguments)
    assert (await call(client, "forget", key="living/likes")) == {"forgotten": 1}
