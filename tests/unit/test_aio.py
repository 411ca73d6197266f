"""What is awaited never blocks the event loop."""

from __future__ import annotations

import subprocess
import sys

TIMEOUT = 60
WATCHED = """
import asyncio
import sys
from blockbuster import blockbuster_ctx
from botwire import AsyncMemory, BotWireChatHistory
from langchain_core.messages import HumanMessage

async def main(address):
    with blockbuster_ctx():  # every blocking call on the event loop raises an error
        history = BotWireChatHistory(session_id="u", url=address)
        await history.aadd_messages([HumanMessage("Hello")])
        assert len(await history.aget_messages()) == 1
        async with AsyncMemory("n", address) as memory:
            await memory.set("k", "tea")
            await memory.history("s").append(["tea"])
            assert await memory.get("k") == "tea"
            assert len(await memory.search("tea")) == 2
            async with memory.watch(after=0, wait=0) as changes:
                assert [change.key async for change in changes]

asyncio.run(main(sys.argv[1]))
"""


def test_no_awaited_call_blocks_the_loop(tmp_path):
    """Not even the first one, which imports the store and creates the file."""
    command = [sys.executable, "-c", WATCHED, f"sqlite:///{tmp_path}/a.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
