"""The adapter for LlamaIndex, with its newest release and the oldest that it claims."""

from __future__ import annotations

import pytest

from tests.environments import installed, run_tests


def test_with_the_newest_release() -> None:
    assert installed(run_tests("llama-index", "llama-index-core", "cryptography"), "llama-index-core") >= (0, 14, 25)


def test_with_the_oldest_release() -> None:
    tests = ["test_stores.py", "test_agents.py", "test_memory.py", "test_function_agents.py"]
    python = run_tests("llama-index", "llama-index-core==0.13.0", "cryptography", only=tests)
    assert installed(python, "llama-index-core") == (0, 13, 0)


def test_without_it_one_line_says_what_to_install() -> None:
    with pytest.raises(
        ImportError,
        match=r"^botwire\.adapters\.llama_index needs llama-index-core: pip install 'botwire\[llama-index\]'$",
    ):
        import botwire.adapters.llama_index  # noqa: F401
