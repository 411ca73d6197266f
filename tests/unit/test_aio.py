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
            history = memory.history("s")
            await history.edit(1, {"role": "user", "content": "tea"})
            await history.set_about(title="Tea")
            await history.summarize(upto=1, summary=["They want tea."])
            assert await history.context(100, count=lambda _: 1) == ["They want tea."]
            assert await history.mend() == await history.problems() == []
            await (await history.fork("t")).redact(1)
            assert [session.name for session in await memory.sessions(order="created")] == ["t", "s"]
            await memory.retain(sessions_idle=60, prefix="u")
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
