"""Where options come from, and in which order."""

from __future__ import annotations

import json

import pytest

from botwire import Memory
from tests.cli.commands import botwire, run
from tests.servers import Server
from tests.waiting import until


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "botwire.toml"
    with Memory("n", f"sqlite:///{tmp_path / 'a.db'}") as memory:
        memory.set_many(dict.fromkeys("abcdef"))
    path.write_text(f'[keys]\nlimit = 1\nurl = "{tmp_path / "a.db"}"\n[token.list]\ndb = "{tmp_path / "a.db"}"\n')
    return path


def test_what_comes_first(config, monkeypatch):
    def listed(*options):
        return len(botwire("--config", config, "keys", "n", *options).split())

    assert listed() == 1
    monkeypatch.setenv("BOTWIRE_KEYS_LIMIT", "2")
    assert listed() == 2
    assert listed("--limit", "3") == 3
    monkeypatch.setenv("BOTWIRE_CONFIG", str(config))
    assert len(botwire("keys", "n").split()) == 2
    monkeypatch.setenv("BOTWIRE_VERSION", "1")  # is not an option
    assert len(botwire("keys", "n").split()) == 2
    assert botwire("token", "list") == ""


def test_a_file_that_is_wrong(config, tmp_path):
    for text, said in [
        ("[serv]\n", "[serv] is not one of the commands audit"),
        ("serve = 1\n", "[serve] is not one of the commands"),
        ("[serve]\nprot = 1\n", "[serve] has no option 'prot', only auth, db"),
        ("[token.mint]\n", "[mint] is not one of the commands"),
        ("x", "is not TOML"),
    ]:
        config.write_text(text)
        assert said in botwire("--config", config, "keys", "n", exit_code=1)
    assert "cannot be read" in botwire("--config", tmp_path / "none", "keys", "n", exit_code=1)


def complete_line(path):
    """Return the file's text when it ends with a newline."""
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else ""


def test_a_server_by_its_configuration(tmp_path, monkeypatch):
    path = tmp_path / "botwire.toml"
    path.write_text(f'[serve]\ndb = "{tmp_path / "b.db"}"\nmax-connections = 7\nauth = "required"\n')
    monkeypatch.setenv("BOTWIRE_CONFIG", str(path))
    into_file = ("sh", "-c", f'exec "$0" "$@" > "{tmp_path / "out"}"')
    with Server(tmp_path / "a.db", "--json", prefix=into_file) as server:
        # The log and the output are two files: the line that `Server` waits for may come before this one.
        said = json.loads(until(lambda: complete_line(tmp_path / "out"), "line in the output"))
        assert (said["url"], said["auth"], said["pid"]) == (server.url, "required", server.process.pid)
        (event,) = until(lambda: [event for event in server.events() if event["event"] == "serving"], "serving")
        assert event["auth"] == "required"
        assert event["store"].endswith("a.db")
    monkeypatch.setenv("BOTWIRE_SERVE_AUTH", "perhaps")
    done = run("serve", "--db", tmp_path / "a.db")
    assert done.returncode == 2
    assert b"perhaps" in done.stderr
