"""The adapter for Pydantic AI, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests


def test_with_the_newest_release() -> None:
    assert installed(run_tests("pydantic-ai", "pydantic-ai-slim"), "pydantic-ai-slim") >= (2, 68)


def test_with_the_oldest_release() -> None:
    pins = "pydantic-ai-slim==1.0.0", "opentelemetry-api<1.36"  # which it wants, and does not say
    python = run_tests("pydantic-ai", *pins, only=["test_histories.py", "test_agents.py"])
    assert installed(python, "pydantic-ai-slim") == (1, 0, 0)


def test_with_the_oldest_release_that_has_conversations() -> None:
    tests = ["test_stores.py::test_it_does_what_their_own_store_does", "test_agents.py"]
    python = run_tests("pydantic-ai", "pydantic-ai-slim==2.66.0", only=tests)
    assert installed(python, "pydantic-ai-slim") == (2, 66, 0)


def test_without_it_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError, match=r"^botwire\.adapters\.pydantic_ai needs pydantic-ai: pip install 'botwire\[pydantic-ai\]'$"
    ):
        import botwire.adapters.pydantic_ai  # noqa: F401
