"""The adapter for Microsoft's Agent Framework, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests


def test_with_the_newest_agent_framework() -> None:
    python = run_tests("agent-framework", "agent-framework-core")
    assert installed(python, "agent-framework-core") >= (1, 23, 0)


def test_with_the_oldest_agent_framework() -> None:
    python = run_tests("agent-framework", "agent-framework-core==1.0.0", without=["test_crashes.py"])
    assert installed(python, "agent-framework-core") == (1, 0, 0)


def test_without_agent_framework_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError,
        match=r"^botwire\.adapters\.agent_framework needs agent-framework-core: "
        r"pip install 'botwire\[agent-framework\]'$",
    ):
        import botwire.adapters.agent_framework  # noqa: F401
