"""`botwire mcp` in processes of their own, and clients of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

COMMAND = [sys.executable, "-m", "botwire", "mcp"]


@contextmanager
def served(*options: str, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `botwire mcp` by HTTP for the duration of a ``with``."""
    command = [*COMMAND, "--transport", "http", "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            said = process.stdout if "--json" in options else process.stderr
            yield re.search(r"http://[^\s\"]+", said.readline())[0], process
        finally:
            process.terminate()
    assert process.returncode in {0, -signal.SIGTERM, -signal.SIGKILL}


@asynccontextmanager
async def client(transport: str, *options: str, **more: Any) -> AsyncIterator[Client]:
    if transport == "stdio":
        command = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *options])
        async with Client(stdio_client(command), **more) as client:
            yield client
    else:
        with served(*options) as (url, _):
            async with Client(url, **more) as client:
                yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return result.content[0].text
