"""A coverage-guided fuzzer for the parsers of untrusted data: bodies, answers, values, HTTP.

``python -m tests.faults.fuzz CORPUS SECONDS``, in an environment with atheris. It stops with an error at the first input that
raises an unexpected exception, takes longer than five seconds, or uses too much memory. It keeps that input in the folder.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["botwire"]):
    from botwire import wire
    from botwire.errors import BotWireError
    from botwire.stores.http.messages import ConnectionFailed
    from botwire.stores.http.origin import Origin
    from botwire.stores.http.transport import Exchange
    from botwire.values import check_json, decode, encode_json

ORIGIN = Origin("http://127.0.0.1:1", {})


def body(data: bytes) -> None:
    for read in (lambda: wire.decode_put("k", data), lambda: wire.decode_append("s", data)):
        try:
            read()
        except BotWireError:
            pass
    try:
        operations = wire.decode_write(data)
    except BotWireError:
        return
    encoded = wire.encode_write(operations)
    assert wire.encode_write(wire.decode_write(encoded)) == encoded


def answer(data: bytes) -> None:
    for read in (wire.decode_entry, wire.decode_session, wire.decode_context, wire.decode_usage, wire.decode_answer):
        try:
            found = read(data)
        except BotWireError:
            continue
        repr(found)
        if isinstance(found, wire.Answer):
            for item in (*found.entries, *found.messages, *found.sessions):
                try:
                    repr(item.record())
                except BotWireError:
                    pass
    error = wire.decode_problem(500, data)
    assert error is None or wire.encode_problem(error)


def value(data: bytes) -> None:
    try:
        stored = check_json(data)
    except BotWireError:
        return
    assert encode_json(decode(stored)) == stored


def http(data: bytes) -> None:
    """Parse an answer in several pieces. The first byte determines their number."""
    exchange = Exchange(ORIGIN)
    size = max(1, len(data) // (data[0] % 8 + 1)) if data else 1
    pieces = [data[begin : begin + size] for begin in range(1, len(data), size)]
    try:
        for piece in (*pieces, b""):
            response = exchange.feed(piece)
            if response is not None:
                assert response.status >= 200
                assert len(response.body) <= len(data)
                return
    except ConnectionFailed:
        pass


TARGETS = (body, answer, value, http)
SEEDS = (
    rb"""\0{"value": {"a": [1, 2.5, "x"]}, "ttl": 60, "if_version": 0}""",
    rb"""\0{"value_base64": "AP8="}""",
    rb"""\0{"messages": [{"data": 1, "id": "x"}, {"data": null}]}""",
    rb"""\0{"operations": [
    {"op": "put", "key": "k", "value": 1, "ttl": 1.5, "keep_ttl": true}, {"op": "increment", "key": "k", "by": -2.5},
    {"op": "append", "session": "s", "messages": [{"data": {}}]}, {"op": "clear", "prefix": "a"},
    {"op": "forget", "session": "s"}, {"op": "delete", "key": "k"}, {"op": "pop", "session": "s", "count": 1}]}""",
    rb"""\1{"key": "k", "value": 1, "version": 3, "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00.123456Z", "expires_at": null}""",
    rb"""\1{"results": [1, true, [1, 2]], "count": 3, "next": "k", "keys": ["a"]}""",
    rb"""\1{"messages": [{"seq": 1, "id": "x", "data": {}, "created_at": "2026-01-01T00:00:00+02:00"}], "next": 1}""",
    rb"""\1{"sessions": [{"session": "s", "place": 1, "messages": 2, "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "9999-12-31T23:59:59Z"}]}""",
    rb"""\1{"plan": "free", "writes_today": 1, "writes_per_day": null, "bytes": 2, "max_bytes": 3,
    "resets_at": "0001-01-01T00:00:00Z"}""",
    rb"""\1{"type": "urn:botwire:error:conflict", "title": "t", "status": 409, "detail": "d", "version": 3}""",
    rb"""\2{"a": [1, -0.0, 1e300, "\\ud83d\\ude00", true, null, 123456789012345678901234567890]}""",
    rb"""\2[[[[[["deep"]]]]]]""",
    b"\\3\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"\\3\3HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"\\3\7HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 1\r\nConnection: close\r\n\r\nwait",
    b"\\3\1HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\0\0",
)
"""Each seed begins with the number of its target."""


def one(data: bytes) -> None:
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main(corpus: str, seconds: str) -> None:
    folder = Path(corpus)
    folder.mkdir(exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (folder / f"seed-{number}").write_bytes(bytes([int(seed[1:2])]) + seed[2:])
    # The kernel's maximum for a process includes the memory of the process that started it.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 1000
    limits = [f"-max_total_time={seconds}", "-timeout=5", f"-rss_limit_mb={most}", "-max_len=4000"]
    limits.append("-print_final_stats=1")
    atheris.Setup([sys.argv[0], corpus, f"-artifact_prefix={folder.parent}/", *limits], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
