"""`botwire mcp` with the newest release of the SDK and the oldest that it claims, and with a client of the generation before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import environment, installed, run_tests

OLD_CLIENT = """
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    server = StdioServerParameters(command=sys.argv[1], args=["-m", "botwire", "mcp", "--url", sys.argv[2]])
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        await session.call_tool("remember", {"key": "name", "value": {"first": "Ada"}})
        recalled = await session.call_tool("recall", {"key": "name"})
        tools = (await session.list_tools()).tools
        print(json.dumps([recalled.structuredContent["value"], [tool.annotations.readOnlyHint for tool in tools]]))

asyncio.run(main())
"""


def test_with_the_newest_release() -> None:
    assert installed(run_tests("mcp", "mcp", "typer"), "mcp") >= (2, 3)


def test_with_the_oldest_release() -> None:
    tests = ["test_tools.py::test_the_tools[stdio to a file]", "test_server.py::test_it_remembers_after_being_killed"]
    python = run_tests("mcp", "mcp==2.0.0", "typer", only=tests)
    assert installed(python, "mcp") == (2, 0, 0)


def test_with_a_client_of_the_generation_before(tmp_path: Path) -> None:
    server = environment(
        "mcp", "hypothesis", "pytest", "pytest-asyncio", "pytest-timeout", "mcp", "typer", extra="server"
    )
    client = environment("mcp-client", "mcp<2", with_botwire=False)
    assert installed(client, "mcp")[0] == 1
    command = [client, "-c", OLD_CLIENT, server, f"sqlite:///{tmp_path}/memory.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"first": "Ada"}, [False, True, True, False, True, True]]


def test_without_it_one_line_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"^botwire mcp needs mcp 2\.0 or newer: pip install 'botwire\[mcp\]'$"):
        import botwire.adapters.mcp  # noqa: F401
    done = subprocess.run([sys.executable, "-m", "botwire", "mcp"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "botwire: botwire mcp needs mcp 2.0 or newer: pip install 'botwire[mcp]'\n"
