"""Invalid requests and answers raise a botwire error. They never cause a crash, a hang or a 500."""

from __future__ import annotations

import os
import re
import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from botwire import wire
from botwire.errors import BY_CODE, BotWireError
from botwire.operations import (
    Append,
    Clear,
    Copies,
    Delete,
    Edit,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Put,
    Replace,
    Retain,
    SetAbout,
    SetExpiry,
    Summarize,
)
from botwire.records import About, Context, Entry, Message, Session, Usage
from botwire.testing import json_values, names, values
from botwire.values import encode, encode_json
from botwire.wire import documents
from botwire.wire.responses import Entries, Messages, Sessions
from tests.environments import ROOT, environment
from tests.faults.scale import rounds
from tests.servers import Server

many = settings(max_examples=rounds(200, 5_000), deadline=None)
short = st.integers(0, 2**62)
times = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
"""The years 1 to 9999."""
messages = st.builds(NewMessage, names, json_values.map(encode_json))
several = st.lists(messages, max_size=4).map(tuple)
counts = st.none() | short
seconds = st.none() | st.floats(0.001, 1e9)
summaries = st.lists(json_values, max_size=3).map(encode_json)
abouts = st.dictionaries(st.just("data"), st.dictionaries(names, json_values, max_size=3)).map(
    lambda parts: encode_json(parts) if parts else ""
)
operations = st.one_of(
    st.builds(
        Put,
        names,
        values.map(encode),
        seconds,
        counts,
        st.booleans(),
    ),
    st.builds(Delete, names),
    st.builds(Increment, names, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(Append, names, several, counts, counts, seconds),
    st.builds(Replace, names, several, short, counts, counts, seconds),
    st.builds(
        Fork, names, names, counts, counts, st.none() | st.builds(Copies, several, st.none() | summaries, abouts)
    ),
    st.builds(Edit, names, short, json_values.map(encode_json), counts, st.none() | names),
    st.builds(Summarize, names, short, summaries, counts, counts),
    st.builds(SetAbout, names, abouts, st.none() | names, st.lists(names, max_size=3, unique=True).map(tuple), counts),
    st.builds(SetExpiry, names, seconds),
    st.builds(Retain, names | st.just(""), seconds, seconds),
    st.builds(Clear, names | st.just("")),
    st.builds(Forget, names),
)


@many
@given(st.lists(operations, max_size=5))
def test_a_write_is_decoded_unchanged(write):
    assert wire.decode_write(wire.encode_write(write)) == tuple(write)


@many
@given(
    st.lists(st.builds(Entry, names, values.map(encode), short, times, times, st.none() | times), max_size=4),
    st.lists(st.builds(Message, short, names, json_values.map(encode_json), times), max_size=4),
    st.lists(st.builds(Session, names, short, short, times, times), max_size=4),
    st.builds(Usage, names, short, st.none() | short, short, st.none() | short, times),
    st.booleans(),
)
def test_an_answer_is_decoded_unchanged(entries, found, sessions, usage, full):
    answer = wire.decode_answer(wire.encode(Entries.of(entries, full=full)))
    assert [item.record() for item in answer.entries] == entries
    assert answer.next == (entries[-1].key if full and entries else None)
    for entry in entries:
        assert wire.decode_entry(wire.encode_entry("n", entry)) == entry
    assert [item.record() for item in wire.decode_answer(wire.encode(Messages.of(found, full=full))).messages] == found
    assert [
        item.record() for item in wire.decode_answer(wire.encode(Sessions.of(sessions, full=full))).sessions
    ] == sessions
    assert wire.decode_usage(wire.encode_usage("n", usage)) == usage


@many
@given(st.sampled_from(sorted(BY_CODE)), st.text(st.characters(exclude_categories=["Cs"])), json_values)
def test_an_error_is_decoded_unchanged(code, text, detail):
    error = BY_CODE[code](text, fact=detail)
    back = wire.decode_problem(error.status, wire.encode_problem(error))
    assert (type(back), back.message, repr(back.details)) == (type(error), text, repr({"fact": detail}))


def mangled(data: bytes, draw) -> bytes:
    """Remove, repeat and change some bytes."""
    content = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 5))] = draw(st.binary(max_size=5) | st.just(b'"') | st.just(b"[{"))
    return bytes(content)


@many
@given(st.data())
def test_corrupted_data_raises_a_botwire_error(data):
    write = wire.encode_write(data.draw(st.lists(operations, max_size=3)))
    entry = Entry("k", encode(data.draw(values)), 1, data.draw(times), 2, None)
    session = Session("s", 1, 1, 0, 0, about=About(1, "ada", ("a",), '{"title":"x"}'), preview=Message(1, "i", "1", 0))
    context = Context(1, 1, 1, '["x"]', [], [Message(1, "i", "1", 0)])
    for sent in (
        write,
        wire.encode(Entries.of([entry], full=False)),
        wire.encode_entry("n", entry),
        wire.encode(documents.Session.of(session)),
        wire.encode(documents.Context.of(context)),
        b"",
    ):
        received = mangled(sent, data.draw)
        for read in (
            wire.decode_write,
            lambda body: wire.decode_put("k", body),
            lambda body: wire.decode_append("s", body),
            lambda body: [repr(item.record()) for item in wire.decode_answer(body).entries],
            lambda body: repr(wire.decode_entry(body)),
            lambda body: repr(wire.decode_session(body)),
            lambda body: repr(wire.decode_context(body)),
            wire.decode_usage,
        ):
            try:
                read(received)
            except BotWireError:
                pass
        wire.decode_problem(500, received)


def test_a_coverage_guided_fuzzer_finds_no_crash(tmp_path, figures):
    python = environment("atheris", "atheris==3.0.0")
    done = subprocess.run(
        [python, "-m", "tests.faults.fuzz", tmp_path / "corpus", str(rounds(6, 300))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-5000:]
    inputs = int(re.search(r"number_of_executed_units: +(\d+)", done.stderr)[1])
    covered = int(re.findall(r"cov: (\d+)", done.stderr)[-1])
    figures(inputs=inputs, branches_covered=covered)
    assert inputs > 1000


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "allow_header_conformance",
    "use_after_free",
)
"""All checks except those that need a schema for limits that JSON Schema cannot express, such as 512 bytes of UTF-8."""

CONFIG = """
[[operations]]
include-path = "/watch/{namespace}"
request-timeout = 2  # seconds to read a stream that has no end; 10 without this
"""


def test_schemathesis_finds_no_failure(tmp_path, figures):
    """The OpenAPI document is accurate, and no request makes the server fail."""
    python = environment("schemathesis", "schemathesis==4.32.5", with_botwire=False)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with Server(tmp_path / "a.db") as server:
        command = [python.parent / "st", "--no-color", "run", f"{server.url}/openapi.json", "--continue-on-failure"]
        command += ["--checks", ",".join(CHECKS), "--max-response-time", "10", "--generation-database", "none"]
        command += ["--seed", "1", "--phases", "coverage,fuzzing,stateful", *rounds(["-n", "8"], ["--max-time", "300"])]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2000)
        assert done.returncode == 0, done.stdout[-10_000:]
        assert [event for event in server.events() if event["level"] == "error"] == []
    figures(requests=int(re.search(r"(\d+) generated", done.stdout)[1]))
