"""LangChain's own tests of byte stores and caches, embedded and over HTTP."""

from __future__ import annotations

import uuid

import pytest
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    SyncCacheTestSuite,
)

from botwire.adapters.langchain import BotWireByteStore, BotWireCache


class Stores:
    @pytest.fixture
    def kv_store(self, address: str) -> BotWireByteStore:
        return BotWireByteStore(str(uuid.uuid4()), address)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\x00\xff", b""


class TestByteStore(Stores, BaseStoreSyncTests[bytes]):
    """The blocking half."""


class TestAsyncByteStore(Stores, BaseStoreAsyncTests[bytes]):
    """The half for event loops."""


class TestCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, address: str) -> BotWireCache:
        return BotWireCache(str(uuid.uuid4()), address)


class TestAsyncCache(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, address: str) -> BotWireCache:
        return BotWireCache(str(uuid.uuid4()), address)
