"""The commands for sessions, in a file and behind a server."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from botwire import Memory
from tests.cli.commands import botwire, documents

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BROKEN = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}]


@pytest.fixture
def place(url, request):
    """A namespace and the options that name its memory."""
    return f"sessions {request.node.name}", ("--url", url)


@pytest.fixture
def memory(place):
    name, (_, url) = place
    with Memory(name, url if "://" in url else f"sqlite:///{url}") as memory:
        yield memory


def names(text):
    return [line.split()[3] for line in text.splitlines()]


def test_lists_of_sessions(place, memory):
    n, at = place
    for name in ("a", "b", "c"):
        memory.history(name).append([{"role": "user", "content": f"hello from {name}\n\x1b[2J!"}])
    memory.history("b").set_about(owner="ada", tags=["work"])
    memory.history("a").append(["last"])
    assert names(botwire("sessions", n, *at))[0] == "a"
    assert names(botwire("sessions", n, "--order", "created", *at)) == ["c", "b", "a"]
    assert names(botwire("sessions", n, "--prefix", "c", *at)) == ["c"]
    assert names(botwire("sessions", n, "--owner", "ada", *at)) == ["b"]
    assert names(botwire("sessions", n, "--tag", "work", *at)) == ["b"]
    assert botwire("sessions", n, "--tag", "home", *at) == ""
    assert len(names(botwire("sessions", n, "--since", "1h", *at))) == 3
    assert len(names(botwire("sessions", n, "--since", "2020-01-31T09:00Z", *at))) == 3
    assert botwire("sessions", n, "--since", "2100-01-31", *at) == ""
    assert "is not a time" in botwire("sessions", n, "--since", "soon", *at, exit_code=2)
    assert "order" in botwire("sessions", n, "--order", "name", *at, exit_code=2)
    assert "user: hello from c [2J!" in botwire("sessions", n, "--preview", *at)
    (first,) = documents(botwire("sessions", n, "--order", "created", "--limit", "1", "--preview", "--json", *at))
    assert (first["session"], first["messages"], first["preview"]["seq"]) == ("c", 1, 1)
    more = documents(botwire("sessions", n, "--order", "created", "--after", first["cursor"], "--json", *at))
    assert [item["session"] for item in more] == ["b", "a"]
    assert more[0]["about"]["owner"] == "ada"
    assert "after is a session" in botwire("sessions", n, "--after", "x", *at, exit_code=1)


def test_titles(place, memory):
    n, at = place
    assert botwire("title", n, "s", "Trip to\tRome", *at) == "Trip to Rome\n"
    assert memory.history("s").about().title == "Trip to\tRome"
    assert botwire("sessions", n, *at).endswith("  s  Trip to Rome\n")
    assert documents(botwire("title", n, "s", "Rome", "--json", *at))[0]["title"] == "Rome"
    assert botwire("title", n, "s", "", *at) == "the title is removed\n"
    assert memory.history("s").about().title is None


def test_forks(place, memory):
    n, at = place
    memory.history("s").append(["a", "b", "c"])
    assert botwire("fork", n, "s", "t", "--upto", "2", *at) == "2 messages copied\n"
    assert documents(botwire("fork", n, "s", "u", "--json", *at)) == [{"session": "u", "messages": 3}]
    assert "session 't' exists" in botwire("fork", n, "s", "t", *at, exit_code=1)
    assert "has no message 7" in botwire("fork", n, "s", "v", "--upto", "7", *at, exit_code=1)
    assert [len(memory.history(name)) for name in "stuv"] == [3, 2, 3, 0]


def test_checks_and_repairs(place, memory):
    n, at = place
    memory.history("s").append(BROKEN)
    assert "     2  call_without_result  " in botwire("history", n, "s", "--check", *at, exit_code=1)
    assert botwire("history", n, "s", "--check", "--json", *at, exit_code=1).count("\n") == 1
    assert "     2  call_without_result  " in botwire("history", n, "s", "--mend", *at)
    assert botwire("history", n, "s", "--check", *at) == "no problems\n"
    for option in ("--check", "--mend"):
        assert "no session 'typo'" in botwire("history", n, "typo", option, *at, exit_code=1)
    assert botwire("history", n, "s", "--mend", "--json", *at) == ""
    assert len(memory.history("s")) == 3
    memory.history("t").append(BROKEN)
    assert documents(botwire("history", n, "t", "--mend", "--policy", "drop", "--json", *at))[0]["seq"] == 2
    assert len(memory.history("t")) == 1
    for wrong in (("--check", "--mend"), ("--policy", "drop"), ("--mend", "--last", "1")):
        assert "use --check" in botwire("history", n, "s", *wrong, *at, exit_code=2)


def test_sessions_are_forgotten(place, memory):
    n, at = place
    memory.history("a").append(["x", "y"])
    memory.history("b").set_about(title="no messages")
    assert botwire("forget", n, "a", "b", "none", *at) == "2 sessions and 2 messages deleted\n"
    assert memory.sessions() == []
    assert botwire("forget", n, "a", *at, exit_code=1) == "0 sessions and 0 messages deleted\n"


def test_rules(place, memory):
    n, at = place
    assert botwire("retain", n, *at) == ""
    assert botwire("retain", n, "--idle", "30d", "--age", "365d", *at) == "idle 30d  age 365d  *\n"
    assert botwire("retain", n, "--age", "90m", "--prefix", "trial-", *at) == "idle never  age 90m  trial-*\n"
    assert documents(botwire("retain", n, "--json", *at)) == [
        {"prefix": "", "idle": 30 * 86_400, "age": 365 * 86_400},
        {"prefix": "trial-", "idle": None, "age": 5_400},
    ]
    assert botwire("retain", n, "--idle", "never", "--prefix", "trial-", *at) == ""
    assert [rule.prefix for rule in memory.retention()] == [""]
    assert "--idle 'soon' is not a time" in botwire("retain", n, "--idle", "soon", *at, exit_code=2)


def test_a_namespace_is_destroyed_only_on_purpose(place, memory):
    n, at = place
    memory.set("k", 1)
    memory.history("s").append(["x"])
    assert "pass --yes" in botwire("destroy", n, *at, exit_code=2)
    assert memory["k"] == 1
    assert botwire("destroy", n, "--yes", *at) == "2 entries and messages deleted\n"
    assert (memory.keys(), memory.sessions()) == ([], [])
    assert documents(botwire("destroy", n, "--yes", "--json", *at)) == [{"namespace": n, "deleted": 0}]


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
def test_a_terminal_is_asked(tmp_path, answer, code, left):
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        memory.set("k", 1)
        screen, end = pty.openpty()
        command = [sys.executable, "-m", "botwire", "destroy", "n", "--url", f"{tmp_path}/a.db"]
        with subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            os.write(screen, answer)
            _, errors = process.communicate(timeout=60)
        os.close(end), os.close(screen)
        assert b"Delete all keys and sessions of namespace 'n'" in errors
        assert process.returncode == code
        assert len(memory) == left


def test_changes_of_sessions_are_lines(place, memory):
    n, at = place
    history = memory.history("s")
    history.append(["a", "b"])
    history.edit(1, "A")
    history.set_about(title="t")
    history.summarize(upto=1, summary=["sum"])
    history.replace(["c"], after=1)
    lines = [line.split("\t")[1:] for line in botwire("watch", n, "--after", "0", "--wait", "0s", *at).splitlines()]
    assert ["edit", "s", "1", "A"] in lines
    assert ["about", "s"] in lines
    assert ["summary", "s"] in lines
    assert ["pop", "s", "1 left"] in lines
    assert lines[-1] == ["append", "s", "c"]
