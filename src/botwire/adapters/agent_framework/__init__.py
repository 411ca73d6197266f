"""Microsoft Agent Framework: a history provider, and storage for checkpoints of workflows."""

from .._base import needs

with needs(
    "agent_framework",
    "botwire.adapters.agent_framework needs agent-framework-core: pip install 'botwire[agent-framework]'",
):
    from .checkpoints import BotWireCheckpointStorage
    from .history import BotWireHistoryProvider

__all__ = ["BotWireCheckpointStorage", "BotWireHistoryProvider"]
