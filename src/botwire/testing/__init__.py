"""The contract of a store as test classes, for stores that others write. Needs pytest and hypothesis."""

from .clock import ClockContract, WallClock
from .search import SearchContract
from .store import StoreContract
from .strategies import json_values, messages_of, names, put, values
from .vectors import VectorContract
from .watch import WatchContract

__all__ = [
    "ClockContract", "SearchContract", "StoreContract", "VectorContract", "WallClock", "WatchContract", "json_values",
    "messages_of", "names", "put", "values",
]  # fmt: skip
