"""The adapter for the OpenAI Agents SDK, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests

EXTRA = "server,encryption"


@pytest.mark.timeout(600)  # crashes of 32 processes, on a file and on a server
def test_with_the_newest_release() -> None:
    assert installed(run_tests("openai-agents", "openai-agents", extra=EXTRA, timeout=500), "openai-agents") >= (0, 24)


@pytest.mark.timeout(600)
def test_with_the_oldest_release() -> None:
    python = run_tests(
        "openai-agents",
        "openai-agents==0.8.0",
        "openai<2.20",
        only=["test_session.py", "test_agents.py", "test_contexts.py"],
        extra=EXTRA,
        timeout=500,
    )
    assert installed(python, "openai-agents") == (0, 8, 0)


def test_without_it_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError, match=r"^BotWireSession needs openai-agents: pip install 'botwire\[openai-agents\]'$"
    ):
        import botwire.adapters.openai_agents  # noqa: F401
