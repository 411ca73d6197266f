"""Microsoft Agent Framework: a history provider, and storage for checkpoints of workflows."""

try:
    from .checkpoints import BotWireCheckpointStorage
    from .history import BotWireHistoryProvider
except ModuleNotFoundError as error:
    if error.name != "agent_framework":
        raise
    missing = "botwire.adapters.agent_framework needs agent-framework-core: pip install 'botwire[agent-framework]'"
    raise ImportError(missing, name=error.name) from None

__all__ = ["BotWireCheckpointStorage", "BotWireHistoryProvider"]
