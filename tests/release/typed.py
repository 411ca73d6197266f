"""A program that uses the public API of an installed botwire. A type checker must accept it."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, assert_type

from botwire import (
    AsyncMemory,
    BotWireChatHistory,
    BotWireError,
    Change,
    Entry,
    History,
    Hit,
    Memory,
    Message,
    QuotaExceeded,
    Session,
    Usage,
    __version__,
    generate_key,
)


def keys_and_values(memory: Memory) -> None:
    assert_type(memory.set("k", {"a": 1}, ttl=timedelta(hours=1)), int)
    assert_type(memory.entry("k"), Entry | None)
    assert_type(memory.list_keys("k", limit=3), list[str])
    assert_type(memory.delete("k"), bool)
    assert_type(memory.increment("n"), int | float)
    assert_type(memory.get_many(["a", "b"]), dict[str, Any])
    assert_type(memory.usage(), Usage)
    assert_type(memory.usage().resets_at, datetime)
    assert_type(memory.search("what?"), list[Hit])
    assert_type(memory.sessions(), list[Session])
    for change in memory.watch("k", wait=0):
        assert_type(change, Change)
        assert_type(change.key, str | None)
    memory["k"] = 1
    assert_type("k" in memory, bool)
    assert_type(len(memory), int)


def conversation(history: History) -> None:
    assert_type(history.append([{"role": "user", "content": "hi"}]), list[int])
    assert_type(history.messages(last=3), list[Message])
    assert_type(history.pop(), list[Message])
    for message in history:
        assert_type(message.seq, int)


async def awaited() -> None:
    async with AsyncMemory("n", "sqlite:///:memory:", timeout=3) as memory:
        assert_type(await memory.set("k", 1), int)
        assert_type(await memory.list_keys(), list[str])
        assert_type(await memory.history("s").append(["hi"]), list[int])


def main() -> None:
    try:
        with Memory("n", encryption_key=generate_key()) as memory:
            keys_and_values(memory)
            conversation(memory.history("s"))
    except QuotaExceeded as error:
        assert_type(error.details, dict[str, Any])
    except BotWireError as error:
        print(error.code, error.status, __version__)
    BotWireChatHistory(session_id="s", url="sqlite:///:memory:").add_user_message("hi")
    asyncio.run(awaited())


main()
