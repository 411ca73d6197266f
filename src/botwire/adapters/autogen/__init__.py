"""AutoGen: memory, model context, and the state of agents and teams."""

from .memory import (
    BotWireChatCompletionContext,
    BotWireChatCompletionContextConfig,
    BotWireMemory,
    BotWireMemoryConfig,
    load_state,
    save_state,
)

__all__ = [
    "BotWireChatCompletionContext",
    "BotWireChatCompletionContextConfig",
    "BotWireMemory",
    "BotWireMemoryConfig",
    "load_state",
    "save_state",
]
