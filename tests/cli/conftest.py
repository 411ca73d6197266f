"""Where the memory of a command is."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["file", "path", "server"])
def url(request, tmp_path):
    path = tmp_path / "a.db"
    if request.param == "server":
        yield request.getfixturevalue("shared_server").url
    else:
        yield str(path) if request.param == "path" else f"sqlite:///{path}"
