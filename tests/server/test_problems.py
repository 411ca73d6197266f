"""Problems of sessions and their repair over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import closing

import pytest

from botwire import Memory, generate_key
from botwire.server import problems
from tests.servers import Server

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BROKEN = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}]


@pytest.fixture(params=["sqlite", "postgres"])
def server(request, tmp_path):
    db = request.getfixturevalue("postgres") if request.param == "postgres" else tmp_path / "a.db"
    with Server(db) as server:
        yield server
    assert not [event for event in server.events() if event["level"] == "error"]


@pytest.fixture
def ask(server):
    def ask(method, path, body=None, **headers):
        kind = {} if body is None else {"Content-Type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), {**kind, **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    return ask


def test_a_session_is_checked_and_mended(server, ask):
    history = Memory("n", server.url).history("a/b c")
    history.append([*BROKEN, "no known format"])
    problem = {"kind": "call_without_result", "seq": 2, "id": "call_1", "action": None}
    status, found = ask("GET", "/problems/n?session=a%2Fb%20c")
    assert (status, found["unrecognized"]) == (200, 1)
    assert [{**problem, "detail": item["detail"]} for item in found["problems"]] == found["problems"]
    assert len(found["problems"]) == 1
    status, done = ask("POST", "/problems/n?session=a/b%20c", {"policy": "cancel"}, **{"Idempotency-Key": "once"})
    assert (status, [item["action"] for item in done["problems"]]) == (200, ["inserted"])
    assert history.problems() == []
    assert [message.data["role"] for message in history.messages()[:3]] == ["user", "assistant", "tool"]
    again = ask("POST", "/problems/n?session=a/b%20c", {"policy": "cancel"}, **{"Idempotency-Key": "once"})
    assert again == (200, {"problems": [], "unrecognized": 1})


def test_calls_are_dropped(server, ask):
    history = Memory("n", server.url).history("s")
    history.append(BROKEN)
    assert ask("POST", "/problems/n?session=s", {"policy": "drop"})[1]["problems"][0]["action"] == "removed"
    assert [message.data for message in history.messages()] == BROKEN[:1]


def test_wrong_requests_change_nothing(server, ask):
    history = Memory("n", server.url).history("s")
    history.append(BROKEN)
    for body in ({}, {"policy": "forget"}, {"policy": None}, {"policy": "drop", "more": 1}, []):
        assert ask("POST", "/problems/n?session=s", body)[0] == 422
    assert ask("POST", "/problems/n?session=s")[0] == 415
    for missing in ("/problems/n", "/problems/n?session="):
        assert ask("GET", missing)[0] == ask("POST", missing, {"policy": "drop"})[0] == 422
    assert (
        ask("GET", "/problems/n?session=none")[0]
        == ask("POST", "/problems/n?session=none", {"policy": "drop"})[0]
        == 404
    )
    assert len(history) == 2


def test_what_a_client_has_encrypted_is_not_called_healthy(server, ask):
    Memory("n", server.url, encryption_key=generate_key()).history("s").append(BROKEN)
    assert ask("GET", "/problems/n?session=s") == (200, {"problems": [], "unrecognized": 2})


@pytest.mark.parametrize(("count", "text"), [(problems.MAX_MESSAGES + 1, ""), (9, "x" * 1_000_000)])
def test_a_session_that_is_too_large_is_refused(server, ask, count, text):
    history = Memory("n", server.url, timeout=60).history("s")
    for first in range(0, count, 2_000):
        history.append([{"role": "user", "content": text}] * min(2_000, count - first))
    for method, body in (("GET", None), ("POST", {"policy": "drop"})):
        status, refused = ask(method, "/problems/n?session=s", body)
        assert (status, "botwire history n s --check" in refused["detail"]) == (422, True)


def test_messages_that_others_append_meanwhile_stay(server, ask):
    history = Memory("n", server.url).history("s")
    history.append(BROKEN)
    texts = [f"text {number}" for number in range(60)]
    thread = threading.Thread(target=lambda: [history.append({"role": "user", "content": text}) for text in texts])
    thread.start()
    while thread.is_alive():
        assert ask("POST", "/problems/n?session=s", {"policy": "cancel"})[0] in {200, 409}
    thread.join()
    assert ask("POST", "/problems/n?session=s", {"policy": "cancel"})[0] == 200
    assert [message.data["content"] for message in history.messages() if message.data["role"] == "user"] == [
        "x",
        *texts,
    ]
    assert history.problems() == []
