"""LangGraph's own tests of checkpointers."""

from __future__ import annotations

import uuid

from langgraph.checkpoint.conformance import checkpointer_test, validate

from botwire.adapters.langgraph import BotWireSaver

CAPABILITIES = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}
"""Every capability there is, and how many tests of it there were in version 0.0.2."""


async def test_it_has_every_capability(address: str) -> None:
    @checkpointer_test(name=f"BotWireSaver at {address}")
    async def saver():
        yield BotWireSaver(str(uuid.uuid4()), address)

    report = await validate(saver)
    assert set(report.results) == set(CAPABILITIES)
    for name, least in CAPABILITIES.items():
        result = report.results[name]
        assert result.detected, name
        assert result.passed, (name, result.failures)
        assert result.tests_passed >= least, name
        assert result.tests_failed == result.tests_skipped == 0, name
