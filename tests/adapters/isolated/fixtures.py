from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own memory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("BOTWIRE_URL", raising=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for tests that keep to namespaces of their own."""
    with Server(tmp_path_factory.mktemp("server") / "server.db") as server:
        yield server
        assert not [event for event in server.events() if event["level"] == "error"]


@pytest.fixture(params=["sqlite", "http"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address: of a file, and of a server."""
    if request.param == "http":
        return str(request.getfixturevalue("server").url)
    return f"sqlite:///{tmp_path}/memory.db"
