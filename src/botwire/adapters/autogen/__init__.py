"""AutoGen: memory, model context, and the state of agents and teams."""

from .._base import needs

with needs("autogen_core", "botwire.adapters.autogen needs autogen-core: pip install 'botwire[autogen]'"):
    from .context import BotWireChatCompletionContext, BotWireChatCompletionContextConfig, load_state, save_state
    from .memory import BotWireMemory, BotWireMemoryConfig

__all__ = [
    "BotWireChatCompletionContext",
    "BotWireChatCompletionContextConfig",
    "BotWireMemory",
    "BotWireMemoryConfig",
    "load_state",
    "save_state",
]

# A dumped config names its class by module. The public path stays the same when the files of this package change.
BotWireMemory.__module__ = BotWireChatCompletionContext.__module__ = __name__
