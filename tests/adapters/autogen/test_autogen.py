"""The adapter for AutoGen, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests


def test_with_the_newest_autogen() -> None:
    python = run_tests("autogen", "autogen-agentchat", "autogen-ext", "cryptography", "sqlite-vec")
    assert installed(python, "autogen-core") >= (0, 7, 5)


def test_with_the_oldest_autogen() -> None:
    python = run_tests(
        "autogen",
        *(f"autogen-{part}==0.5.1" for part in ("agentchat", "core", "ext")),
        "cryptography",
        "sqlite-vec",
        without=["test_crashes.py"],
    )
    assert installed(python, "autogen-core") == (0, 5, 1)


def test_without_autogen_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError, match=r"^botwire\.adapters\.autogen needs autogen-core: pip install 'botwire\[autogen\]'$"
    ):
        import botwire.adapters.autogen  # noqa: F401
