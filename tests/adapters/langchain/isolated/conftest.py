from __future__ import annotations

from importlib.util import find_spec

collect_ignore = (
    [] if find_spec("langchain_tests") else ["test_suite.py"]
)  # which needs a newer LangChain than the oldest
