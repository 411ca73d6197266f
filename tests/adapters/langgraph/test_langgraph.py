"""The adapters for LangGraph, with its newest release and the oldest that they claim."""

from __future__ import annotations

import importlib.util

import pytest

from tests.environments import installed, run_tests

TOOLS = ("langchain", "langgraph-checkpoint-conformance", "cryptography", "numpy", "sqlite-vec")


@pytest.mark.timeout(600)
def test_with_the_newest_release() -> None:
    python = run_tests("langgraph", "langgraph", *TOOLS, timeout=500)
    assert installed(python, "langgraph") >= (1, 2, 24)
    assert installed(python, "langgraph-checkpoint") >= (4, 3, 2)


OLDEST = ("langgraph==1.0.10", "langgraph-checkpoint==4.0.1", "langgraph-prebuilt==1.0.8")
"""The last of the three by name too: newer ones ask for what this langgraph does not have, and do not say so."""


@pytest.mark.timeout(600)
def test_with_the_oldest_release() -> None:
    python = run_tests("langgraph", *OLDEST, *TOOLS[:3], timeout=500, without=["test_crashes.py"])
    assert installed(python, "langgraph") == (1, 0, 10)
    assert installed(python, "langgraph-checkpoint") == (4, 0, 1)


@pytest.mark.skipif(importlib.util.find_spec("langgraph") is not None, reason="it is installed here")
def test_without_it_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError, match=r"^BotWireSaver and BotWireStore need langgraph: pip install 'botwire\[langgraph\]'$"
    ):
        import botwire.adapters.langgraph  # noqa: F401
