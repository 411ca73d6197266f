from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.chromium import HOW_TO_GET_IT, find_chromium
from tests.environments import ROOT
from tests.postgres import database, emptied
from tests.servers import Server

settings.register_profile("botwire", deadline=None, print_blob=True)
settings.load_profile("botwire")


def pytest_sessionstart(session):
    """Print how to install Chromium if the tests of the console run without it."""
    runs_console = any(
        (ROOT / "tests" / "console").is_relative_to(Path(item).resolve()) for item in session.config.args
    )
    if runs_console and not hasattr(session.config, "workerinput") and find_chromium() is None:
        session.config.get_terminal_writer().line(HOW_TO_GET_IT, yellow=True)


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    """Give every test its own data folder, so that it does not use the user's memory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("BOTWIRE_URL", raising=False)


@pytest.fixture
def server(tmp_path):
    """A server for one test."""
    yield from _run(tmp_path)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """A server for tests that each use their own namespaces."""
    yield from _run(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def postgres_database():
    """The address of a PostgreSQL database, shared by all tests that use `postgres`."""
    with database() as address:
        yield address


@pytest.fixture
def postgres(postgres_database):
    """The address of `postgres_database`, emptied."""
    emptied(postgres_database)
    return postgres_database


def _run(folder):
    server = Server(folder / "server.db")
    yield server
    server.stop()
    assert server.events()[-1]["event"] == f"Finished server process [{server.process.pid}]"
    assert "stopped" in [event["event"] for event in server.events()]
    assert not [event for event in server.events() if event["level"] == "error"]
