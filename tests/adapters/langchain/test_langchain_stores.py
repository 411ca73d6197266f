"""BotWireByteStore and BotWireCache, with LangChain's newest release and the oldest that they claim."""

from __future__ import annotations

from tests.environments import installed, run_tests


def test_with_the_newest_release() -> None:
    python = run_tests("langchain", "langchain", "langchain-classic", "langchain-tests", "langgraph", "cryptography")
    assert installed(python, "langchain-core") >= (1, 8, 3)
    assert installed(python, "langchain-tests") >= (1, 1, 9)


def test_with_the_oldest_release() -> None:
    python = run_tests("langchain", "langchain-core==0.3.0", "cryptography", only=["test_stores.py"])
    assert installed(python, "langchain-core") == (0, 3, 0)
