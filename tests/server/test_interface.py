"""The HTTP interface as others use it: status codes, bodies, problem documents, the published client, OpenAPI, logs."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlencode

import pytest

from botwire import Memory
from tests.environments import environment
from tests.servers import Server
from tests.signals import WITH_CTRL_C

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def call(server):
    def call(method, path, body=None, headers=JSON):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text), response.headers

    return call


def test_entries(call):
    status, body, _ = call("PUT", "/memory/n/k", {"value": {"theme": "dark"}})
    assert (status, body) == (200, {"namespace": "n", "key": "k", "version": 1})
    status, body, _ = call("GET", "/memory/n/k")
    assert status == 200
    assert (body["namespace"], body["key"], body["value"], body["version"]) == ("n", "k", {"theme": "dark"}, 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", body["created_at"])
    assert body["expires_at"] is None
    assert call("GET", "/memory/n")[1]["keys"] == ["k"]
    assert call("DELETE", "/memory/n/k")[:2] == (200, {"results": [True]})
    status, body, headers = call("DELETE", "/memory/n/k")
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert (body["type"], body["status"]) == ("urn:botwire:error:not_found", 404)
    assert call("GET", "/memory/n/k")[0] == 404


def test_bytes_travel_as_base64(call):
    call("PUT", "/memory/n/b", {"value_base64": "AP8="})
    assert call("GET", "/memory/n/b")[1]["value_base64"] == "AP8="


def test_sessions(call):
    assert call("POST", "/sessions/n/s", {"messages": [{"data": 1}, {"data": 2, "id": "x"}]})[1] == {"seqs": [1, 2]}
    assert call("POST", "/sessions/n/s", {"messages": [{"data": 2, "id": "x"}]})[1] == {"seqs": [2]}
    page = call("GET", "/sessions/n/s?after=0&limit=1")[1]
    assert ([m["data"] for m in page["messages"]], page["next"]) == ([1], 1)
    assert [m["seq"] for m in call("GET", "/sessions/n/s?last=1")[1]["messages"]] == [2]
    sessions = call("GET", "/sessions/n")[1]["sessions"]
    assert [(s["session"], s["messages"]) for s in sessions] == [("s", 2)]
    assert call("POST", "/sessions/n/s", {"messages": [{"data": [3]}, {"data": 4}]})[1] == {"seqs": [3, 4]}
    popped = call("DELETE", "/sessions/n/s?last=2")[1]["messages"]
    assert [(m["seq"], m["data"]) for m in popped] == [(3, [3]), (4, 4)]
    assert call("DELETE", "/sessions/n/t?last=2")[0] == 404
    pop = {"operations": [{"op": "pop", "session": "s", "count": 0}, {"op": "pop", "session": "t", "if_ids": []}]}
    assert call("POST", "/memory/n", pop)[1] == {"results": [[], []]}
    assert call("DELETE", "/sessions/n/s")[:2] == (200, {"count": 2})
    assert call("DELETE", "/sessions/n/s")[0] == 404


def write(call, **operation):
    status, body, _ = call("POST", "/memory/n", {"operations": [operation]})
    assert status == 200, body
    return body["results"][0]


def test_what_is_known_about_a_session(call):
    call("POST", "/sessions/n/s", {"messages": [{"data": number} for number in range(3)], "ttl": 600})
    about = {"title": "Trip", "data": {"to": ["Oslo"]}, "owner": "ada", "tags": ["work", "travel"]}
    version = write(call, op="set_about", session="s", if_version=0, **about)
    session = call("GET", "/sessions/n/s?about=true&preview=true")[1]
    assert session["about"] == {**about, "version": version}
    assert (session["session"], session["messages"], session["preview"]["data"]) == ("s", 3, 2)
    assert session["expires_at"] > session["created_at"]
    assert (session["origin"], session["summarized"]) == (None, 0)
    refused = call("POST", "/memory/n", {"operations": [{"op": "set_about", "session": "s", "if_version": 0}]})
    assert (refused[0], refused[1]["version"]) == (409, version)
    assert write(call, op="set_expiry", session="s") is True
    assert call("GET", "/sessions/n?session=s&about=true")[1]["expires_at"] is None
    write(call, op="set_about", session="s")
    assert "title" not in call("GET", "/sessions/n/s?about=true")[1]["about"]
    assert write(call, op="fork", session="s", target="a/b", upto=2) == 2
    fork = call("GET", "/sessions/n?session=a/b&about=true&preview=true")[1]
    assert (fork["origin"], fork["messages"], fork["preview"]["seq"]) == ({"session": "s", "seq": 2}, 2, 2)
    assert fork["preview"]["created_at"] == call("GET", "/sessions/n/s")[1]["messages"][1]["created_at"]


def test_lists_of_sessions(call):
    for number in range(5):
        call("POST", f"/sessions/n/s{number}", {"messages": [{"data": number}]})
        write(call, op="set_about", session=f"s{number}", owner="ada" if number % 2 else "bob", tags=[f"t{number}"])
    call("POST", "/sessions/n/s0", {"messages": [{"data": "again"}]})

    def listed(**query):
        found = call("GET", "/sessions/n?" + urlencode(query))[1]["sessions"]
        return " ".join(session["session"] for session in found)

    assert listed() == "s0 s4 s3 s2 s1"
    assert listed(order="created") == "s4 s3 s2 s1 s0"
    assert listed(where='{"owner":"ada"}') == "s3 s1"
    assert listed(where='{"tags.0":"t2"}') == listed(tag="t2") == "s2"
    assert listed(prefix="s1") == "s1"
    assert listed(prefix="t") == listed(since="2999-01-01T00:00:00Z") == ""
    pages, after = [], ""
    while after is not None:
        page = call("GET", f"/sessions/n?limit=2&preview=true&after={after}")[1]
        pages.append([session["preview"]["data"] for session in page["sessions"]])
        after = page["next"]
    assert pages == [["again", 4], [3, 2], [1]]
    updated = call("GET", "/sessions/n/s3?about=true")[1]["updated_at"]
    assert listed(since=updated) == "s0 s4 s3"


def test_a_context(call):
    call("POST", "/sessions/n/s", {"messages": [{"data": number} for number in range(1, 10)]})
    empty = call("GET", "/sessions/n/none?context=true")[1]
    assert (empty["last"], empty["messages"], empty["summary"], empty["next"]) == (0, [], None, None)
    version = write(call, op="summarize", session="s", upto=3, summary=["short"], if_last=9)

    def asked(query):
        found = call("GET", f"/sessions/n/s?context=true&{query}")[1]
        assert (found["version"], found["last"], found["summarized"], found["summary"]) == (version, 9, 3, ["short"])
        return [message["data"] for message in found["messages"]], found["next"]

    assert asked("") == ([4, 5, 6, 7, 8, 9], None)
    assert asked("last=4") == ([6, 7, 8, 9], 6)
    assert asked("last=4&before=6") == ([4, 5], None)
    assert asked("last=2&before=4") == ([2, 3], 2)  # what the summary covers, if it is asked for
    assert asked("last=2&before=2") == ([1], None)
    head = call("GET", "/sessions/n?session=s&context=true&last=1&head=2")[1]["head"]
    assert [message["seq"] for message in head] == [1, 2]


def test_edits_and_redactions(call):
    call("POST", "/sessions/n/s", {"messages": [{"data": "secret"}, {"data": 2}]})
    assert set(call("GET", "/sessions/n/s")[1]["messages"][0]) == {"seq", "id", "data", "created_at"}
    write(call, op="edit", session="s", seq=1, data="[redacted]", redacted="asked")
    first, second = call("GET", "/sessions/n/s")[1]["messages"]
    assert (first["seq"], first["data"], first["redacted"]) == (1, "[redacted]", "asked")
    assert first["edited_at"] >= first["created_at"]
    assert "edited_at" not in second


def test_rules_and_a_namespace_that_is_destroyed(call):
    assert call("GET", "/retention/n")[1] == {"rules": []}
    write(call, op="retain", prefix="tmp/", age=60)
    write(call, op="retain", idle=3600)
    rules = [{"prefix": "", "idle": 3600.0, "age": None}, {"prefix": "tmp/", "idle": None, "age": 60.0}]
    assert call("GET", "/retention/n")[1] == {"rules": rules}
    call("POST", "/sessions/n/s", {"messages": [{"data": 1}, {"data": 2}]})
    call("PUT", "/memory/n/k", {"value": 1})
    assert call("DELETE", "/namespaces/n")[:2] == (200, {"count": 3})
    assert call("DELETE", "/namespaces/n")[:2] == (200, {"count": 0})
    assert call("GET", "/retention/n")[1] == {"rules": []}
    assert call("GET", "/sessions/n")[1]["sessions"] == []


def test_an_idempotency_key(call):
    for _ in range(2):
        status, body, _ = call(
            "POST",
            "/memory/n",
            {"operations": [{"op": "increment", "key": "k", "by": 2}]},
            JSON | {"Idempotency-Key": "once"},
        )
        assert (status, body) == (200, {"results": [2]})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", "/memory/n/k", b"{", 422, "invalid_argument"),
        ("PUT", "/memory/n/k", b'{"value": NaN}', 422, "invalid_argument"),
        ("PUT", "/memory/n/k", b'{"value": 1, "value_base64": "AP8="}', 422, "invalid_value"),
        ("PUT", "/memory/n/k", b"{}", 422, "invalid_value"),
        ("PUT", "/memory/n/k", b'{"value": 1, "tll": 3}', 422, "invalid_argument"),
        ("PUT", "/memory/n/k", b'{"value": 1, "ttl": -3}', 422, "invalid_argument"),
        ("PUT", "/memory/n/k", b'{"value": ' + b"[" * 200 + b"]" * 200 + b"}", 422, "invalid_value"),
        ("PUT", "/memory/n/k", b'{"value": ' + b"[" * 5000 + b"]" * 5000 + b"}", 422, "invalid_value"),
        ("PUT", "/memory/n/k", b'{"value": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 422, "invalid_value"),
        ("PUT", "/memory/n/k", b'{"value": "\xff"}', 422, "invalid_value"),
        ("PUT", "/memory/n/k%00", b'{"value": 1}', 422, "invalid_name"),
        ("PUT", "/memory/" + "n" * 129 + "/k", b'{"value": 1}', 422, "invalid_name"),
        ("PUT", "/memory/n/" + "k" * 513, b'{"value": 1}', 422, "invalid_name"),
        ("PUT", "/memory/n/k", b'{"value": 1, "if_version": 7}', 409, "conflict"),
        ("POST", "/memory/n", b'{"operations": [{"op": "drop"}]}', 422, "invalid_argument"),
        ("POST", "/memory/n", b'{"operations": [{"op": "put", "value": 1}]}', 422, "invalid_argument"),
        ("POST", "/sessions/n/s", b'{"messages": [{"id": ""}]}', 422, "invalid_argument"),
        ("GET", "/sessions/n/s?last=x", None, 422, "invalid_argument"),
        ("DELETE", "/sessions/n/s?last=0", None, 422, "invalid_argument"),
        ("POST", "/memory/n", {"operations": [{"op": "pop", "session": "s", "count": -1}]}, 422, "invalid_argument"),
        ("POST", "/memory/n", {"operations": [{"op": "pop", "session": "s", "count": 10001}]}, 422, "invalid_argument"),
        ("POST", "/memory/n", {"operations": [{"op": "pop", "session": "s", "if_ids": [""]}]}, 422, "invalid_name"),
        (
            "POST",
            "/memory/n",
            {"operations": [{"op": "pop", "session": "s", "if_ids": ["x"] * 10_001}]},
            422,
            "invalid_argument",
        ),
        ("GET", "/sessions/n/s?limit=10001", None, 422, "invalid_argument"),
        ("GET", "/memory/n?limit=-1", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?before=5", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?last=1", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?about=true", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?order=newest", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?after=7", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?where=owner", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?where=%5B%5D", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?where=%7B%22name%22:1%7D", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?since=2026-01-01T00:00:00", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?since=yesterday", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?since=0.5", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?preview=null", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?head=x", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?tag=", None, 422, "invalid_name"),
        ("GET", "/sessions/n?prefix=%00", None, 422, "invalid_name"),
        ("GET", "/sessions/n?limit=10001", None, 422, "invalid_argument"),
        ("GET", "/sessions/n?preview=7", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?about=yes", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?about=true&count=true", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?about=true", None, 404, "not_found"),
        ("GET", "/sessions/n?session=s&about=true", None, 404, "not_found"),
        ("GET", "/sessions/n/s?context=true&last=-1", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?context=true&last=10001", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?context=true&head=10001", None, 422, "invalid_argument"),
        ("GET", "/sessions/n/s?context=true&before=x", None, 422, "invalid_argument"),
        ("POST", "/sessions/n/s", {"messages": [{"data": 1}], "if_last": 1}, 409, "conflict"),
        ("POST", "/sessions/n/s", {"messages": [{"data": 1}], "if_version": -1}, 422, "invalid_argument"),
        (
            "POST",
            "/memory/n",
            {"operations": [{"op": "edit", "session": "s", "seq": 1, "data": 1}]},
            422,
            "invalid_argument",
        ),
        ("POST", "/memory/n", {"operations": [{"op": "fork", "session": "s", "target": "t"}]}, 422, "invalid_argument"),
        ("POST", "/memory/n", {"operations": [{"op": "destroy"}, {"op": "clear"}]}, 422, "invalid_argument"),
        (
            "POST",
            "/memory/n",
            {
                "operations": [
                    {"op": "put", "key": "k", "value": 1},
                    {"op": "summarize", "session": "s", "upto": 1, "summary": []},
                ]
            },
            422,
            "invalid_argument",
        ),
        (
            "POST",
            "/memory/n",
            {
                "operations": [
                    {"op": "put", "key": "k", "value": 1},
                    {"op": "set_about", "session": "s", "if_version": 1},
                ]
            },
            409,
            "conflict",
        ),
        ("GET", "/nothing", None, 404, None),
        ("PATCH", "/memory/n/k", b"{}", 405, None),
    ],
)
def test_refusals_are_problem_documents(call, method, path, body, status, code):
    got, problem, headers = call(method, path, body)
    assert (got, headers["Content-Type"]) == (status, "application/problem+json")
    assert problem["type"] == (f"urn:botwire:error:{code}" if code else "about:blank")
    assert problem["status"] == status
    assert problem["title"]
    assert call("GET", "/memory/n")[1]["keys"] == []


def test_other_sites_pages_are_kept_out(call):
    """A page can make a browser send a form or plain text anywhere; only JSON is taken."""
    for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        status, problem, _headers = call("PUT", "/memory/n/k", b'{"value": 1}', kind)
        assert (status, problem["type"]) == (415, "urn:botwire:error:unsupported_media_type")
    assert call("OPTIONS", "/memory/n/k", None, {"Origin": "https://example.org"})[0] == 405
    assert "Access-Control-Allow-Origin" not in call("GET", "/memory/n")[2]


def test_a_body_that_is_too_large(call, server):
    status, problem, _ = call("PUT", "/memory/n/k", b'{"value": "' + b"x" * 33 * 1024 * 1024 + b'"}')
    assert (status, problem["type"]) == (413, "urn:botwire:error:too_large")
    assert call("PUT", "/memory/n/k", b'{"value": "' + b"x" * 17 * 1024 * 1024 + b'"}')[0] == 422


def test_health(call):
    status, body, _ = call("GET", "/health")
    assert (status, body["status"]) == (200, "ok")


def test_search(call):
    found = lambda *request: [hit.get("entry") for hit in call(*request)[1]["hits"]]  # noqa: E731
    call("PUT", "/memory/n/k", {"value": {"text": "a blue bicycle", "n": 1}})
    call("POST", "/sessions/n/s", {"messages": [{"data": {"role": "user", "content": "Whose bicycles?"}}]})
    status, answer, _ = call("GET", "/search/n?q=bicycle&limit=5&kind=entries&kind=messages&neighbours=0")
    assert status == 200
    message, entry = sorted(answer["hits"], key=lambda hit: "entry" in hit)
    assert (entry["entry"]["key"], entry["entry"]["value"]) == ("k", {"text": "a blue bicycle", "n": 1})
    assert (message["session"], message["message"]["seq"], message["snippet"]) == ("s", 1, "Whose bicycles?")
    assert found("GET", "/search/n?q=bicycle&where=%7B%22n%22:1%7D") == [entry["entry"]]
    assert found("GET", "/search/n?q=bicycle&since=2999-01-01T00:00:00Z") == []
    assert found("POST", "/search/n", {"q": "bicycle", "kinds": ["entries"]}) == [entry["entry"]]
    assert found("POST", "/search/n", {"q": "bicycle " * 1_000, "prefix": "k"}) == [entry["entry"]]
    assert call("GET", "/search/other?q=bicycle")[1] == {"hits": []}
    for wrong in (
        "",
        "?q=a&limit=x",
        "?q=a&limit=1001",
        "?q=a&kind=people",
        "?q=a&by=luck",
        "?q=a&where=1",
        "?q=a&since=2026-01-01T00:00:00",
        "?q=" + "a" * 8_001,
        "?q=a&where=" + json.dumps(dict.fromkeys(map(str, range(33)), 1), separators=(",", ":")),
    ):
        assert call("GET", f"/search/n{wrong}")[0] == 422, wrong
    status, refused, _ = call("GET", "/search/n?q=a&by=meaning")
    assert (status, "botwire serve --embedder minilm" in refused["detail"]) == (422, True)
    for wrong in (
        {},
        {"q": 1},
        {"q": "a", "neighbours": 99},
        {"q": "a", "sql": "x"},
        {"q": "a", "half_life": -1},
        {"q": "ﷺ" * 8_001},
        {"q": "a", "where": {".".join("a" * 101): 1}},
        {"q": "a", "where": {"a": "x" * 10_000}},
        {"q": "a", "kinds": ["x" * 100] * 10_000},
    ):
        assert call("POST", "/search/n", wrong)[0] == 422, wrong


def test_openapi_describes_what_is_there(call):
    status, document, _ = call("GET", "/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1")
    paths = {path: sorted(operations) for path, operations in document["paths"].items()}
    assert paths == {
        "/memory/{namespace}": ["get", "post"],
        "/memory/{namespace}/{key}": ["delete", "get", "put"],
        "/sessions/{namespace}": ["get"],
        "/sessions/{namespace}/{session}": ["delete", "get", "post"],
        "/problems/{namespace}": ["get", "post"],
        "/retention/{namespace}": ["get"],
        "/search/{namespace}": ["get", "post"],
        "/texts/{namespace}": ["get"],
        "/usage/{namespace}": ["get"],
        "/watch/{namespace}": ["get"],
        "/usage/{namespace}/history": ["get"],
        "/namespaces": ["get"],
        "/namespaces/{namespace}": ["delete"],
        "/plans": ["get"],
        "/plans/{namespace}": ["put"],
        "/whoami": ["get"],
        "/tokens": ["get", "post"],
        "/tokens/{token}": ["delete"],
        "/audit": ["get"],
        "/metrics": ["get"],
        "/health": ["get"],
    }
    ids = [op["operationId"] for operations in document["paths"].values() for op in operations.values()]
    assert len(set(ids)) == len(ids)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            for response in operation["responses"].values():
                assert response["description"]
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))):
        assert reference in document["components"]["schemas"]


def test_openapi_is_valid(call):
    from openapi_spec_validator import validate

    validate(call("GET", "/openapi.json")[1])


def test_docs_are_served(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/docs")
    assert connection.getresponse().status == 200
    connection.close()


def test_logs_hold_no_values_and_no_tokens(tmp_path):
    server = Server(tmp_path / "a.db", "--log-level", "debug")
    memory = Memory("n", server.url, token="tok-sEcReT-of-its-own")
    memory.set("kEy-sEcReT", "vAlUe-sEcReT")
    memory.history("sEsSiOn-sEcReT").append(["mEsSaGe-sEcReT"])
    with pytest.raises(Exception, match="not a number"):
        memory.increment("kEy-sEcReT")
    assert memory.get("kEy-sEcReT") == "vAlUe-sEcReT"
    server.stop()
    text = "".join(server.log)
    assert "serving" in text
    assert "sEcReT" not in text
    assert all(json.loads(line).keys() >= {"time", "level", "logger", "event"} for line in server.log)


def test_a_clean_shutdown_finishes_what_is_under_way(tmp_path):
    """Writers send as fast as they can; at SIGTERM each gets its answer, and what was answered is on disk."""
    server = Server(tmp_path / "a.db")
    acknowledged = []

    def work(writer):
        with Memory("n", server.url, timeout=1) as memory:
            for number in range(100_000):
                try:
                    memory.set(f"{writer}-{number}", number)
                except Exception:
                    return
                acknowledged.append(f"{writer}-{number}")

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    server.stop()
    for thread in threads:
        thread.join(20)
    assert len(acknowledged) > 50
    assert [event["event"] for event in server.events()][-2:] == [
        "Application shutdown complete.",
        f"Finished server process [{server.process.pid}]",
    ]
    with Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:  # as it closes, it removes the log
        assert set(acknowledged) <= set(memory.list_keys())
    left = {path.name: path.stat().st_size for path in tmp_path.glob("a.db-wal*")}
    assert left.get("a.db-wal", 0) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_interfaces_are_refused(tmp_path, host):
    command = [sys.executable, "-m", "botwire", "serve", "--host", host, "--db", str(tmp_path / "a.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "add --open" in done.stderr


def test_ctrl_c_ends_it(tmp_path):
    server = Server(tmp_path / "a.db", prefix=WITH_CTRL_C)
    server.process.send_signal(signal.SIGINT)
    server.process.wait(30)
    server._reader.join(10)
    server.process.stderr.close()
    assert "stopped" in [event["event"] for event in server.events()]
    assert not any("Traceback" in line for line in server.log)


PUBLISHED = """
import botwire
from botwire import Memory
assert botwire.__file__ and "site-packages" in botwire.__file__
memory = Memory("old-agent")
memory.set("k", {"a": [1, 2]})
assert memory.get("k") == {"a": [1, 2]}
assert memory.get("missing", "default") == "default"
assert "k" in memory and "other" not in memory
memory.set("text", "plain")
assert memory.get("text") == "plain"
keys = memory.keys() if hasattr(memory, "keys") else memory.list_keys()
assert sorted(keys) == ["k", "text"], keys
memory.delete("k")
assert memory.get("k") is None
from botwire import BotWireChatHistory
from langchain_core.messages import AIMessage, HumanMessage
history = BotWireChatHistory(session_id="user-42")
history.add_message(HumanMessage("hello"))
history.add_message(AIMessage("hi"))
again = BotWireChatHistory(session_id="user-42")
assert [message.content for message in again.messages] == ["hello", "hi"], again.messages
again.clear()
assert BotWireChatHistory(session_id="user-42").messages == []
print("all of it works")
"""


def test_the_published_client_works_unchanged(server):
    python = environment("published", "botwire==0.2.1", "langchain-core", with_botwire=False)
    done = subprocess.run(
        [python, "-c", PUBLISHED],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "BOTWIRE_URL": server.url},
        cwd=python.parent,
    )
    assert (done.returncode, done.stdout) == (0, "all of it works\n"), done.stderr
