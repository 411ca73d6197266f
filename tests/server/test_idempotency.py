"""Idempotency keys of raw HTTP requests, as clients of any language send them."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from contextlib import closing

import apsw
import pytest

from botwire.timestamps import new_id
from tests.servers import Server
from tests.waiting import until


def ask(server, method, path, body=None, key=None):
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("fields", [[""], ["a", "b"], ["x" * 600]])
def test_a_key_that_is_none_is_refused(shared_server, fields):
    """An empty one is the mistake of a client whose write would not be protected."""
    with closing(http.client.HTTPConnection(shared_server.url.removeprefix("http://"))) as connection:
        connection.putrequest("PUT", f"/memory/{new_id()}/k")
        for name, value in (
            ("Content-Type", "application/json"),
            ("Content-Length", "11"),
            *(("Idempotency-Key", key) for key in fields),
        ):
            connection.putheader(name, value)
        connection.endheaders(b'{"value":1}')
        response = connection.getresponse()
        assert response.status == 422
        assert b"dempotency" in response.read()


@pytest.mark.parametrize(
    ("method", "path", "first", "second"),
    [
        ("PUT", "/memory/{}/k", {"value": "first"}, {"value": "second"}),
        ("PUT", "/memory/{}/k", {"value": 1}, {"value": True}),
        ("PUT", "/memory/{}/k", {"value": 1}, {"value": 1, "ttl": 60}),
        ("PUT", "/memory/{}/k", {"value": "AAAA"}, {"value_base64": "AAAA"}),
        ("POST", "/sessions/{}/s", {"messages": [{"data": "A"}]}, {"messages": [{"data": "B"}]}),
        ("POST", "/sessions/{}/s", {"messages": [{"data": 1, "id": "a"}]}, {"messages": [{"data": 1, "id": "b"}]}),
        (
            "POST",
            "/memory/{}",
            {"operations": [{"op": "put", "key": "k", "value": 1}, {"op": "put", "key": "l", "value": 2}]},
            {"operations": [{"op": "put", "key": "l", "value": 2}, {"op": "put", "key": "k", "value": 1}]},
        ),
    ],
)
def test_another_write_under_a_known_key_is_refused(shared_server, method, path, first, second):
    """The same one gets its answer again, although the server chooses ids for messages that have none."""
    path = path.format(new_id())
    status, answer = ask(shared_server, method, path, first, "k-1")
    assert status == 200
    assert ask(shared_server, method, path, second, "k-1")[0] == 422
    assert ask(shared_server, method, path, first, "k-1") == (status, answer)


def test_a_delete_of_nothing_makes_no_namespace(tmp_path):
    with Server(tmp_path / "a.db") as server, closing(apsw.Connection(str(tmp_path / "a.db"))) as beside:
        count = beside.execute("SELECT count(*) FROM namespaces").get
        for method, path, body in [
            ("DELETE", "/memory/none/k", None),
            ("DELETE", "/memory/none?all=true", None),
            ("DELETE", "/sessions/none/s", None),
            ("DELETE", "/sessions/none/s?last=1", None),
            ("POST", "/memory/none", {"operations": [{"op": "delete", "key": "k"}]}),
            ("POST", "/sessions/none/s", {"messages": []}),
        ]:
            ask(server, method, path, body, new_id())
            ask(server, method, path, body)
        assert beside.execute("SELECT count(*) FROM namespaces").get == count
        assert beside.execute("SELECT count(*) FROM answers").get == 0


def test_an_idle_server_deletes_old_records(tmp_path):
    path = tmp_path / "a.db"
    with Server(path) as server:
        for number in range(3):
            ask(server, "POST", "/sessions/n/s", {"messages": [{"data": "secret"}]}, f"a{number}")
            ask(server, "DELETE", "/sessions/n/s?last=1", None, f"p{number}")
    with closing(apsw.Connection(str(path))) as beside:
        held = "SELECT (SELECT count(*) FROM answers), (SELECT count(*) FROM popped)"
        assert beside.execute(held).get == (6, 3)
        beside.execute(
            "UPDATE answers SET created = created - 601000000; UPDATE popped SET created = created - 601000000"
        )
        with Server(path):
            assert until(lambda: beside.execute(held).get == (0, 0))
