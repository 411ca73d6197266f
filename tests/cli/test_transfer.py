"""Export and import: what goes out comes in, whatever is killed in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from io import BytesIO

import pytest

from botwire import InvalidArgument, Memory, Unavailable
from botwire.migrate.jsonl import export, export_file, import_file, import_lines
from botwire.operations import Put
from botwire.queries import ListSessions
from botwire.stores.sqlite.store import SqliteStore


def nothing(_, __):
    pass


def fill(memory, entries=30, messages=40):
    memory.set_many({f"key {number:05}": {"n": number, "text": "x" * 50} for number in range(entries)})
    memory.set_many({"bytes": b"\0\n\r\xff", "text": "a\nb\u2028", "big": 10**40, "nothing": None, "é/%": 1.5})
    memory.set("brief", 1, ttl=3600)
    memory.set("gone", 1, ttl=0.01)
    for session in ("s", "t"):
        memory.history(session).append(
            [{"role": "user", "content": f"{session} {number}"} for number in range(messages)]
        )
    time.sleep(0.02)


def contents(memory, *, times=True):
    def shown(record):
        return (record.created, getattr(record, "updated", None)) if times else None

    entries = [(key, repr(value), shown(memory.entry(key))) for key, value in memory.items()]
    sessions = [item.name for item in memory.sessions()]
    messages = [
        [(item.seq, item.id, repr(item.data), shown(item)) for item in memory.history(name).messages()]
        for name in sessions
    ]
    return entries, sessions, messages


@pytest.fixture
def source(tmp_path):
    with Memory("n", f"sqlite:///{tmp_path / 'source.db'}") as memory:
        fill(memory)
        yield memory


def test_out_and_in(source, tmp_path, server):
    store = SqliteStore(tmp_path / "source.db")
    out = BytesIO()
    report = export(store, "n", out, progress=nothing)
    assert (report.entries, report.messages) == (36, 80)
    lines = out.getvalue().decode().split("\n")
    assert len(lines) == 2 + 36 + 80 + 1
    assert all(json.loads(line) for line in lines[:-1])
    other = SqliteStore(tmp_path / "other.db")
    assert import_lines(other, BytesIO(out.getvalue())).entries == 36
    with Memory("n", f"sqlite:///{tmp_path / 'other.db'}") as memory:
        assert contents(memory) == contents(source)
        assert abs(memory.entry("brief").expires - source.entry("brief").expires) < 1000
        import_lines(other, BytesIO(out.getvalue()))  # a second time changes nothing
        assert contents(memory) == contents(source)
    with Memory("elsewhere", server.url) as memory:
        import_lines(memory.bridge.store, BytesIO(out.getvalue()), "elsewhere")
        assert contents(memory, times=False) == contents(source, times=False)
        back = BytesIO()
        export(memory.bridge.store, "elsewhere", back, progress=nothing)
        assert back.getvalue().count(b"\n") == len(lines) - 1
    store.close()
    other.close()


def test_values_that_came_with_line_breaks(server):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("PUT", "/memory/n/k", '{"value": {"a":\n 1e400000,\r\n "b":\t[2.50\r]}}'.replace("1e400000", "1.0"),
                       {"Content-Type": "application/json"})  # fmt: skip
    assert connection.getresponse().status == 200
    connection.close()
    out = BytesIO()
    with Memory("n", server.url) as memory:
        export(memory.bridge.store, "n", out, progress=nothing)
        line = out.getvalue().splitlines()[1]
        assert json.loads(line)["value"] == {"a": 1.0, "b": [2.5]}
        import_lines(memory.bridge.store, BytesIO(out.getvalue()), "m")
        assert Memory("m", server.url)["k"] == {"a": 1.0, "b": [2.5]}


def test_an_export_cut_at_any_byte_resumes(source, tmp_path):
    store = SqliteStore(tmp_path / "source.db")
    whole = BytesIO()
    export(store, "n", whole, progress=nothing)
    wanted = whole.getvalue()
    path = tmp_path / "n.jsonl"
    for length in [0, 1, 30, 48, 49, 50, 500, 3_000, 6_000, 9_000, len(wanted) - 13, len(wanted) - 12, len(wanted) - 1]:
        path.write_bytes(wanted[:length])
        export_file(store, "n", path, force=False, progress=nothing)
        assert path.read_bytes() == wanted, length
    with pytest.raises(InvalidArgument, match="finished export already"):
        export_file(store, "n", path, force=False, progress=nothing)
    with pytest.raises(InvalidArgument, match="not an export of namespace 'other'"):
        export_file(store, "other", path, force=False, progress=nothing)
    path.write_text("my diary\n")
    with pytest.raises(InvalidArgument, match="not from a botwire export"):
        export_file(store, "n", path, force=False, progress=nothing)
    assert path.read_text() == "my diary\n"
    export_file(store, "n", path, force=True, progress=nothing)
    assert path.read_bytes() == wanted
    store.close()


class Ending(SqliteStore):
    """A store that can no longer be reached when its sessions are read."""

    def read(self, namespace, query, **options):
        if isinstance(query, ListSessions):
            raise Unavailable("the server is gone")
        return super().read(namespace, query, **options)


def test_an_export_is_replaced_only_by_a_complete_one(source, tmp_path):
    store = SqliteStore(tmp_path / "source.db")
    path = tmp_path / "n.jsonl"
    export_file(store, "n", path, force=False, progress=nothing)
    before = path.read_bytes()
    ending = Ending(tmp_path / "source.db")
    with pytest.raises(Unavailable):
        export_file(ending, "n", path, force=True, progress=nothing)
    ending.close()
    assert path.read_bytes() == before
    store.write("n", [Put("another", "1")])
    export_file(store, "n", path, force=True, progress=nothing)
    assert b'"another"' in path.read_bytes()
    assert [file.name for file in tmp_path.iterdir() if "jsonl" in file.name] == ["n.jsonl"]
    store.close()


def test_lines_that_are_wrong(source, tmp_path):
    store = SqliteStore(tmp_path / "other.db")
    head = b'{"format":"botwire","version":1,"namespace":"n"}\n'
    for lines, said in [
        (b"", "line 1 is not from"),
        (b"{}\n", "names no supported format"),
        (b'{"format":"botwire","version":3,"namespace":"n"}\n', "names no supported format"),
        (head, "unfinished: it ends after 1 lines"),
        (head + b'{"key":"k","value":1}\n', "unfinished: it ends after 2 lines"),
        (head + b'{"key":"k"}\n', "line 2: the entry has neither"),
        (head + b'{"key":"","value":1}\n', "line 2: key '' is not allowed"),
        (head + b'{"key":"k","value":NaN}\n', "line 2 is not from"),
        (head + b'{"session":"s","id":"i"}\n', "line 2 is neither"),
        (head + b'{"key":"k","value":1}\n{"ke', "line 3 is not from"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            import_lines(store, BytesIO(lines))
    store.close()


def command(*arguments):
    return [sys.executable, "-m", "botwire", *map(str, arguments)]


def killed_until_done(arguments, grown):
    """Run a command, kill it as soon as it has done something more, and again, until it comes to its end."""
    kills = 0
    while True:
        before = grown()
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and (kills >= 2 or grown() in {before, 0}):
            time.sleep(0.001)
        process.kill()
        out, error = process.communicate()
        if process.returncode == 0:
            return kills, out
        assert process.returncode == -9, error
        kills += 1


def test_killed_again_and_again(tmp_path):
    url, lines, copy = f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "n.jsonl", tmp_path / "copy.db"
    with Memory("n", url) as memory:
        for part in range(2):
            memory.set_many({f"key {part} {number:05}": "x" * 100 for number in range(3_000)})
            memory.history(f"s{part}").append([f"message {number}" for number in range(3_000)])
        kills, _ = killed_until_done(
            command("export", "n", lines, "--url", url), lambda: lines.stat().st_size if lines.exists() else 0
        )
        assert kills > 0
        whole = BytesIO()
        store = SqliteStore(tmp_path / "a.db")
        export(store, "n", whole, progress=nothing)
        store.close()
        assert lines.read_bytes() == whole.getvalue()
        beside = tmp_path / "n.jsonl.imported"
        kills, out = killed_until_done(
            command("import", lines, "--url", copy, "--json"),
            lambda: beside.stat().st_mtime_ns if beside.exists() else 0,
        )
        assert kills > 0
        assert json.loads(out)["entries"] < 6_000  # the last try did not begin anew
        assert not beside.exists()
        with Memory("n", f"sqlite:///{copy}") as other:
            assert contents(other) == contents(memory)


def test_what_was_kept_of_another_import_does_not_count(source, tmp_path):
    path = tmp_path / "n.jsonl"
    store = SqliteStore(tmp_path / "source.db")
    export_file(store, "n", path, force=False, progress=nothing)
    store.close()
    for kept in (
        "{}",
        "x",
        json.dumps({"address": "sqlite:///elsewhere", "namespace": "n", "offset": 9999, "lines": 9}),
    ):
        (tmp_path / "n.jsonl.imported").write_text(kept)
        other = SqliteStore(tmp_path / f"{len(kept)}.db")
        assert import_file(other, path, None, progress=nothing).entries == 36
        other.close()


MEASURED = """
import pathlib, re, runpy, sys
sys.argv = ["botwire", *sys.argv[1:]]
try:
    runpy.run_module("botwire", run_name="__main__")
finally:
    # not getrusage: what that calls the most includes what the process had that started this one
    status = pathlib.Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM: *(\\d+)", status.replace(chr(9), " "))[1]) // 1024, file=sys.stderr)
"""


def test_many_rows_in_constant_memory(tmp_path):
    """A million with BOTWIRE_FAULTS=long, and the figures printed."""
    rows, text = (1_000_000, "x" * 100) if os.environ.get("BOTWIRE_FAULTS") == "long" else (20_000, "x" * 4_000)
    url, lines, copy = f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "n.jsonl", tmp_path / "copy.db"
    with Memory("n", url) as memory:
        for start in range(0, rows // 2, 5_000):
            memory.set_many({f"key {number:08}": {"text": text} for number in range(start, start + 5_000)})
            memory.history(f"s{start}").append([{"role": "user", "content": text}] * 5_000)
    for arguments in (("export", "n", lines, "--url", url), ("import", lines, "--url", copy)):
        begun = time.monotonic()
        command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes = int(done.stderr.split()[-1])
        print(f"{arguments[0]}: {rows:,} rows in {time.monotonic() - begun:.1f} s, {megabytes} MB at the most")
        assert megabytes < 80  # of which there are as many in the shorter form
    with Memory("n", f"sqlite:///{copy}") as memory:
        assert len(memory) == rows // 2
        assert sum(session.messages for session in memory.sessions()) == rows // 2
