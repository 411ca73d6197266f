"""AutoGen: memory, model context, and the state of agents and teams."""

try:
    from .context import BotWireChatCompletionContext, BotWireChatCompletionContextConfig
    from .memory import BotWireMemory, BotWireMemoryConfig
    from .state import load_state, save_state
except ModuleNotFoundError as error:
    if error.name != "autogen_core":
        raise
    missing = "botwire.adapters.autogen needs autogen-core: pip install 'botwire[autogen]'"
    raise ImportError(missing, name=error.name) from None

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
