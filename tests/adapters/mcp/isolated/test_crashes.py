"""Servers are killed at each write of a turn with tools. What a tool has answered is kept, and a model can repeat the other calls."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from botwire import Memory
from botwire.adapters.mcp import create_server, serve_http
from tests.adapters.isolated.crashes import Strike, store_at, strikes
from tests.adapters.mcp.isolated.running import call

WRITES = 5
"""The writes of a turn."""


def serve(address: str, strike: Strike | None, announced: Connection) -> None:
    serve_http(create_server("n", store=store_at(address, strike)), host="127.0.0.1", port=0, announce=announced.send)


class Worker:
    """A client with a server of its own. When the server is killed, it starts another one, as coding agents do."""

    def __init__(self, name: str, address: str, strike: Strike | None = None) -> None:
        self._name = name
        self._address = address
        self.kills = 0
        self._start(strike)

    def _start(self, strike: Strike | None) -> None:
        reader, announced = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process
        self._server = process(target=serve, args=(self._address, strike, announced), daemon=True)
        self._server.start()
        announced.close()
        self._url = reader.recv() if reader.poll(30) else ""

    async def _call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool, and again if the server is killed before it answers."""
        try:
            async with Client(self._url) as client:
                return await call(client, tool, **arguments)
        except Exception:  # the SDK has several for a connection that ends
            self._server.join(30)
            assert self._server.exitcode == -signal.SIGKILL
            self.kills += 1
            await asyncio.to_thread(
                self._start, None
            )  # this thread has an event loop, which a fork of it would have too
            async with Client(self._url) as client:
                return await call(client, tool, **arguments)

    async def turn(self) -> None:
        mine = self._name
        await self._call("remember", key=f"{mine}/likes", value="teal")
        await self._call("remember", key=f"{mine}/old", value=1)
        await self._call("forget", key=f"{mine}/old")
        await self._call("remember", key=f"{mine}/draft/1", value=2)
        await self._call("forget", prefix=f"{mine}/draft/")
        assert (await self._call("recall", key=f"{mine}/likes"))["value"] == "teal"

    def stop(self) -> None:
        self._server.kill()
        self._server.join()


async def turns(workers: list[Worker]) -> None:
    await asyncio.gather(*(worker.turn() for worker in workers))


@pytest.mark.parametrize("count", [1, 2])
def test_a_server_that_is_killed_at_any_write_keeps_what_it_has_answered(tmp_path: Path, count: int) -> None:
    kills = 0
    for number, strike in enumerate(strikes(WRITES)):
        address = f"sqlite:///{tmp_path}/{number}.db"
        workers = {"killed": Worker("killed", address, strike)}
        workers |= {f"living-{other}": Worker(f"living-{other}", address) for other in range(count - 1)}
        asyncio.run(turns(list(workers.values())))
        for worker in workers.values():
            worker.stop()
        kills += workers["killed"].kills
        assert dict(Memory("n", address).items()) == {f"{name}/likes": "teal" for name in workers}
    assert kills >= 2 * WRITES
