"""The adapter for CrewAI, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests


@pytest.mark.timeout(600)  # most of it goes into importing
def test_with_the_newest_crewai() -> None:
    assert installed(run_tests("crewai", "crewai", "cryptography", timeout=500), "crewai") >= (1, 15, 30)


@pytest.mark.timeout(600)
def test_with_the_oldest_crewai() -> None:
    """Without what compares with its own backends, which did not yet sort, nor store dates."""
    adapter = (
        "it_is_a_storage_backend",
        "a_moved_record_is_in_one_place",
        "the_async_methods_do_the_same",
        "tools_remember",
    )
    tests = ["test_agents.py", *(f"test_adapter.py::test_{test}" for test in adapter)]
    python = run_tests("crewai", "crewai==1.15.0", "cryptography", timeout=500, only=tests)
    assert installed(python, "crewai") == (1, 15, 0)


def test_without_crewai_one_line_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"^botwire\.adapters\.crewai needs crewai: pip install 'botwire\[crewai\]'$"):
        import botwire.adapters.crewai  # noqa: F401
