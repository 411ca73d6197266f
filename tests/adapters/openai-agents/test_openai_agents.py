"""The adapter for the OpenAI Agents SDK, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests

EXTRA = "server,encryption"


def test_with_the_newest_release() -> None:
    assert installed(run_tests("openai-agents", "openai-agents", extra=EXTRA), "openai-agents") >= (0, 24)


def test_with_the_oldest_release() -> None:
    python = run_tests(
        "openai-agents",
        "openai-agents==0.8.0",
        "openai<2.20",
        only=["test_session.py", "test_agents.py", "test_contexts.py", "test_crashes.py"],
        extra=EXTRA,
    )
    assert installed(python, "openai-agents") == (0, 8, 0)


def test_without_it_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError, match=r"^BotWireSession needs openai-agents: pip install 'botwire\[openai-agents\]'$"
    ):
        import botwire.adapters.openai_agents  # noqa: F401
