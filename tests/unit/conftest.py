"""Shared by unit tests: a memory in a file, in memory and over HTTP, in its blocking and its async form."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from botwire import AsyncMemory, Memory
from tests.memories import Awaited


@pytest.fixture(params=["file", "memory", "http"])
def address(request, tmp_path):
    if request.param == "http":
        return request.getfixturevalue("shared_server").url
    return "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/memory.db"


@pytest.fixture
def namespace():
    """A namespace that no other test uses, because the server is shared."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture(params=["blocking", "async"])
def memory(request, address, namespace):
    if request.param == "blocking":
        with Memory(namespace, address) as memory:
            yield memory
        return
    loop = asyncio.new_event_loop()
    memory = AsyncMemory(namespace, address)
    yield Awaited(loop, memory)
    loop.run_until_complete(memory.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
