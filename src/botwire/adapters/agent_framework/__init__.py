"""Microsoft Agent Framework: a history provider, and storage for checkpoints of workflows."""

from .history import BotWireCheckpointStorage, BotWireHistoryProvider

__all__ = ["BotWireCheckpointStorage", "BotWireHistoryProvider"]
