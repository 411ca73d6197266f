"""Stores for the tests of copies."""

from __future__ import annotations

from botwire.store import OperatedStore


class InUse(OperatedStore):
    """A store over another one. A test overrides a method of it, to do something at that point."""

    address = changes = close = None

    def __init__(self, store):
        self.store = store
        self.address = store.address
        self.set_plan = store.set_plan

    def read(self, namespace, query):
        return self.store.read(namespace, query)

    def write(self, namespace, operations):
        return self.store.write(namespace, operations)
