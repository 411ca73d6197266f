"""The adapter for CrewAI, with its newest release.

It claims no older one than that of the day it was written: those pin what no longer fits together, so that 1.15.0, installed
today, cannot be imported.
"""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests


@pytest.mark.timeout(600)  # most of it goes into importing
def test_with_the_newest_crewai() -> None:
    assert installed(run_tests("crewai", "crewai", "cryptography", timeout=500), "crewai") >= (1, 15, 30)


def test_without_crewai_one_line_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"^botwire\.adapters\.crewai needs crewai: pip install 'botwire\[crewai\]'$"):
        import botwire.adapters.crewai  # noqa: F401
