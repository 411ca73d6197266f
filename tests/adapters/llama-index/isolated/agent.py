"""A chat engine of LlamaIndex that talks, is killed, and goes on: ``agent.py talk|resume ADDRESS…``.

Its model answers with what it was asked, all messages of it, so that the answer shows what the engine remembers.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer, Memory

from botwire.adapters.llama_index import BotWireChatStore, BotWireMemoryStore


def memories(address: str) -> dict:
    store = BotWireChatStore(url=address)
    found = {"buffer": ChatMemoryBuffer.from_defaults(chat_store=store, chat_store_key="ada", tokenizer_fn=str.split)}
    if "chat_store" in inspect.signature(Memory.from_defaults).parameters:
        options = {"tokenizer_fn": str.split, "token_limit": 30, "token_flush_size": 5}
        found["memory"] = Memory.from_defaults(session_id="ada", chat_store=BotWireMemoryStore(url=address), **options)
    return found


async def main(role: str, *addresses: str) -> None:
    reports = []
    for address in addresses:
        report = {}
        for name, memory in memories(address).items():
            engine = SimpleChatEngine.from_defaults(llm=MockLLM(), memory=memory)
            answer = await engine.achat("I am Ada." if role == "talk" else "Who am I?")
            report[name] = [answer.response, len(await memory.aget_all())]
        reports.append(report)
    print(json.dumps(reports), flush=True)
    if role == "talk":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
