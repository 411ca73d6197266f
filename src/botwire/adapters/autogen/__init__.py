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
