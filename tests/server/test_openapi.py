"""The OpenAPI document against what our client sends and what a real server answers, on every route."""

from __future__ import annotations

import http.client
import json

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import validate

from botwire import wire
from botwire.operations import (
    Append,
    Clear,
    Copies,
    Delete,
    Destroy,
    Edit,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Pop,
    Put,
    Replace,
    Require,
    Retain,
    SetAbout,
    SetExpiry,
    SetVectors,
    Summarize,
    Vector,
)
from botwire.queries import Search
from botwire.server.openapi import OPERATIONS
from botwire.server.operator import OnStore

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def call(server):
    def call(method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, JSON)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    return call


@pytest.fixture
def document(call):
    return json.loads(call("GET", "/openapi.json")[1])


def check(document, schema, value):
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def body_schema(document, method, path):
    return document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]


def answer_schema(document, method, path, status="200"):
    (content,) = document["paths"][path][method]["responses"][status]["content"].values()
    return content["schema"]


VECTOR = b"\0\0\x80\x3f" * 4
WRITES = [
    Put("k", '{"a":[1,2.5]}', ttl=5.0, if_version=0),
    Put("k", b"\0\xff", keep_ttl=True),
    Delete("k"),
    Require("k", 3),
    Increment("k", 2.5),
    Append("s", (NewMessage("i", '"text"'), NewMessage("j", "null"))),
    Append("s", (), 3, 4, 5.0),
    Replace("s", (NewMessage("i", "1"),), 2, 3, 4, 5.0),
    Fork("s", "t"),
    Fork("s", "t", 3, 4, Copies((NewMessage("i", '"x"'),), '"y"', '"z"')),
    Edit("s", 1, '{"a":1}', 2, ""),
    Summarize("s", 2, '[{"role":"user"}]', 3, 4),
    Summarize("s", 2, '"encrypted"'),
    SetAbout("s", '{"title":"Trip","data":{"a":1}}', "ada", ("work",), 3),
    SetAbout("s", '"encrypted"'),
    SetExpiry("s", 5.0),
    SetExpiry("s"),
    Retain("p", 5.0, 6.0),
    Destroy(),
    Clear("a/"),
    Forget("s"),
    Pop("s", 2, ("i", "j")),
    Pop("s"),
    SetVectors("m", (Vector(VECTOR, key="k", version=3), Vector(VECTOR, session="s", id="i"))),
]
SEARCHES = [
    Search(text="x"),
    Search(
        text="x", vector=VECTOR, model="m", words=False, session="s", since=1, until=2, where={"a": 1}, half_life=2.0
    ),
]


def test_the_bodies_of_our_client_are_valid(document):
    for operations in (*([op] for op in WRITES), WRITES):
        check(document, body_schema(document, "post", "/memory/{namespace}"), json.loads(wire.encode_write(operations)))
    for query in SEARCHES:
        check(document, body_schema(document, "post", "/search/{namespace}"), json.loads(wire.encode_search(query)))


def test_unknown_operations_and_fields_are_invalid(document):
    schema = body_schema(document, "post", "/memory/{namespace}")
    for wrong in (
        {"op": "drop"},
        {"op": "delete"},
        {"op": "delete", "key": "k", "more": 1},
        {"op": "set_about", "session": "s", "title": 1},
        {"op": "set_about", "session": "s", "data": []},
        {"op": "set_about", "session": "s", "origin": ["t", 1]},
        {"op": "edit", "session": "s", "seq": 1},
    ):
        with pytest.raises(ValidationError):
            check(document, schema, {"operations": [wrong]})


def test_the_document_is_valid_and_names_every_operation(document):
    validate(document)
    items = document["components"]["schemas"]["WriteBody"]["properties"]["operations"]["items"]
    assert len(items["oneOf"]) == len(items["discriminator"]["mapping"]) == 17
    for methods in document["paths"].values():
        for operation in methods.values():
            (problem,) = operation["responses"]["default"]["content"].values()
            assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}


BROKEN = {
    "role": "assistant",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
CALLS = [
    ("put", "/memory/{namespace}/{key}", "/memory/n/k1", {"value": {"a": 1}, "ttl": 100}),
    ("put", "/memory/{namespace}/{key}", "/memory/n/k2", {"value_base64": "AP8="}),
    ("get", "/memory/{namespace}/{key}", "/memory/n/k1", None),
    ("get", "/memory/{namespace}/{key}", "/memory/n/k2", None),
    ("get", "/memory/{namespace}", "/memory/n?limit=1", None),
    ("get", "/memory/{namespace}", "/memory/n?values=true&limit=2", None),
    ("get", "/memory/{namespace}", "/memory/n?key=k1&key=no", None),
    ("get", "/memory/{namespace}", "/memory/n?count=true", None),
    ("post", "/sessions/{namespace}/{session}", "/sessions/n/s", {"messages": [{"data": "hello"}, {"data": 1, "id": "i"}]}),
    ("get", "/sessions/{namespace}/{session}", "/sessions/n/s?limit=1", None),
    ("get", "/sessions/{namespace}/{session}", "/sessions/n/s?count=true", None),
    ("post", "/sessions/{namespace}/{session}", "/sessions/n/s", {"messages": [], "if_last": 2, "if_version": 1, "ttl": 600}),
    ("post", "/memory/{namespace}", "/memory/n", {"operations": [
        {"op": "set_about", "session": "s", "title": "Trip", "data": {"a": 1}, "owner": "ada", "tags": ["work"]},
        {"op": "summarize", "session": "s", "upto": 1, "summary": [{"role": "user", "content": "short"}]},
        {"op": "edit", "session": "s", "seq": 2, "data": 3, "redacted": "asked"},
        {"op": "fork", "session": "s", "target": "t", "upto": 1},
        {"op": "replace", "session": "t", "messages": [{"data": 1}]},
        {"op": "set_expiry", "session": "t", "ttl": 600},
        {"op": "retain", "prefix": "tmp/", "idle": 60},
    ]}),
    ("get", "/sessions/{namespace}/{session}", "/sessions/n/s?about=true", None),
    ("get", "/sessions/{namespace}/{session}", "/sessions/n/t?about=true&preview=true", None),
    ("get", "/sessions/{namespace}/{session}", "/sessions/n/s?context=true&last=1&head=1", None),
    ("get", "/sessions/{namespace}/{session}", "/sessions/n/s?last=1", None),
    ("get", "/sessions/{namespace}", "/sessions/n?limit=1", None),
    ("get", "/sessions/{namespace}", "/sessions/n?order=created&preview=true&tag=work&prefix=s", None),
    ("get", "/sessions/{namespace}", "/sessions/n?session=s&about=true", None),
    ("post", "/sessions/{namespace}/{session}", "/sessions/n/broken", {"messages": [{"data": BROKEN}]}),
    ("get", "/problems/{namespace}", "/problems/n?session=broken", None),
    ("post", "/problems/{namespace}", "/problems/n?session=broken", {"policy": "cancel"}),
    ("get", "/retention/{namespace}", "/retention/n", None),
    ("get", "/sessions/{namespace}", "/sessions/n?session=s", None),
    ("get", "/search/{namespace}", "/search/n?q=hello", None),
    ("post", "/search/{namespace}", "/search/n", {"q": "a"}),
    ("get", "/texts/{namespace}", "/texts/n?model=m&limit=1", None),
    ("get", "/texts/{namespace}", "/texts/n?model=m", None),
    ("get", "/usage/{namespace}", "/usage/n", None),
    ("get", "/usage/{namespace}/history", "/usage/n/history", None),
    ("get", "/whoami", "/whoami", None),
    ("get", "/health", "/health", None),
    ("post", "/memory/{namespace}", "/memory/n", {"operations": [{"op": "increment", "key": "n", "by": 0.5}]}),
    ("post", "/memory/{namespace}", "/memory/n", {"operations": [{"op": "pop", "session": "s"}, {"op": "delete", "key": "k2"}]}),
    ("delete", "/sessions/{namespace}/{session}", "/sessions/n/s?last=1", None),
    ("post", "/sessions/{namespace}/{session}", "/sessions/n/s", {"messages": [{"data": 1}]}),
    ("delete", "/sessions/{namespace}/{session}", "/sessions/n/s", None),
    ("delete", "/memory/{namespace}/{key}", "/memory/n/k1", None),
    ("delete", "/namespaces/{namespace}", "/namespaces/n", None),
]  # fmt: skip

OPERATORS = {
    ("get", "/namespaces"),
    ("get", "/plans"),
    ("put", "/plans/{namespace}"),
    ("get", "/tokens"),
    ("post", "/tokens"),
    ("delete", "/tokens/{token}"),
    ("get", "/audit"),
}


def test_every_answer_of_a_server_is_valid(call, document):
    for method, path, target, body in CALLS:
        if body is not None:
            check(document, body_schema(document, method, path), body)
        status, answer = call(method.upper(), target, body)
        assert status == 200, (method, target, answer)
        check(document, answer_schema(document, method, path), json.loads(answer))
    assert {(method, path) for method, path, _, _ in CALLS} | OPERATORS == {
        key for key, operation in OPERATIONS.items() if operation.answer is not None
    }


def test_every_answer_to_an_operator_is_valid(server, document):
    operator = OnStore(f"sqlite:///{server.db}")
    secret = operator.create(namespaces=["*"], can=["admin"], name="", expires_in=None)["secret"]
    operator.close()
    headers = {**JSON, "Authorization": f"Bearer {secret}"}

    def ask(method, path, target, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request(method.upper(), target, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
        if body is not None:
            check(document, body_schema(document, method, path), body)
        check(document, answer_schema(document, method, path), answer)
        return answer

    token = ask("post", "/tokens", "/tokens", {"namespaces": ["a*"], "can": ["read"], "expires_in": 60})
    assert "hash" not in token
    ask("get", "/tokens", "/tokens")
    ask("get", "/whoami", "/whoami")
    ask("put", "/plans/{namespace}", "/plans/n", {"plan": "free"})
    ask("get", "/plans", "/plans")
    ask("get", "/namespaces", "/namespaces?limit=1")
    ask("get", "/audit", "/audit")
    ask("delete", "/tokens/{token}", "/tokens/" + token["id"])


def test_every_error_is_a_problem(call, document):
    for method, path, target, body in (
        ("get", "/memory/{namespace}/{key}", "/memory/n/none", None),
        ("post", "/memory/{namespace}", "/memory/n", {"operations": [{"op": "drop"}]}),
        ("get", "/tokens", "/tokens", None),
        ("get", "/search/{namespace}", "/search/n", None),
    ):
        status, answer = call(method.upper(), target, body)
        assert status >= 400
        check(document, answer_schema(document, method, path, "default"), msgspec.json.decode(answer))
