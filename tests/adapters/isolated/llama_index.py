"""What providers require of messages in LlamaIndex's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ChatMessage


def check(messages: list[ChatMessage]) -> None:
    """Fail unless the results of all calls follow them at once, as providers require."""
    expected: set[str] = set()
    for message in messages:
        if message.role == "tool":
            expected.remove(message.additional_kwargs["tool_call_id"])
        else:
            assert not expected
            expected = {call["id"] for call in message.additional_kwargs.get("tool_calls", ())}
    assert not expected
