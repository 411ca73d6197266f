"""A token that expires ends everything that rests on it: requests under way, slow bodies and open watches."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from contextlib import closing

import pytest

from botwire import Memory
from botwire.limits import ACCESS
from botwire.operations import Guard, Put
from botwire.plans import Plans
from botwire.queries import GetEntry, ListChanges, Search
from botwire.server.operator import OnStore
from botwire.server.watch import HEARTBEAT
from botwire.store import GuardFailed
from botwire.stores import open_to_serve
from botwire.timestamps import now
from tests.servers import Server


@pytest.fixture(scope="module")
def server(db):
    with Server(db, "--auth", "required", "--workers", "2") as server:
        rest(send(server, "GET", "/health", "none"))  # answered when it serves
        yield server


def create(db, expires_in, *can, namespace="n"):
    with closing(OnStore(db)) as administration:
        return administration.create(namespaces=[namespace], can=list(can), name="", expires_in=expires_in)["secret"]


def issued(db):
    """Return the ids of tokens that others than the command line issued. Other tests may have used the database."""
    with closing(OnStore(db)) as administration:
        return {token["id"] for token in administration.tokens() if token["by"] != "cli"}


def send(server, method, path, token, body=b""):
    """Send a request without its last byte if it has a body."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body[:-1])
    return connection


def rest(connection):
    """Return everything until the server closes the connection, or what there is before its first heartbeat."""
    told, end = b"", time.monotonic() + HEARTBEAT - 3
    with connection, contextlib.suppress(TimeoutError):
        while time.monotonic() < end:
            connection.settimeout(end - time.monotonic())
            if not (part := connection.recv(65_536)):
                break
            told += part
    return told


def test_a_watch_ends_when_its_token_expires(server, db):
    """No write and no heartbeat is needed, and no later write is told."""
    watch = send(server, "GET", "/watch/n", create(db, 2.0, "read"))
    told = watch.recv(65_536)
    assert b"200 OK" in told
    told += rest(watch)
    assert b"unknown, revoked or expired" in told
    Memory("n", db).set("after", "told to nobody")
    assert b"after" not in told


def test_a_body_that_ends_after_the_expiry_changes_nothing(server, db):
    Memory("n", db).set("k", "before")
    requests = [
        ("PUT", "/memory/n/k", {"value": 1}),
        ("POST", "/memory/n", {"operations": [{"op": "delete", "key": "k"}]}),
        ("POST", "/sessions/n/s", {"messages": [{"data": 1}]}),
        ("POST", "/search/n", {"q": "before"}),
        ("POST", "/tokens", {"namespaces": ["n"], "can": ["read"]}),
        ("PUT", "/plans/n", {"plan": "free"}),
    ]
    before = issued(db)
    token = create(db, 2.0, "admin", namespace="*")
    open_requests = []
    for method, path, body in requests:
        data = json.dumps(body).encode()
        open_requests.append((send(server, method, path, token, data), data))
    time.sleep(2.2)
    for (connection, data), (_, path, _) in zip(open_requests, requests, strict=True):
        connection.sendall(data[-1:])
        assert rest(connection).startswith(b"HTTP/1.1 401 "), path
    memory = Memory("n", db)
    assert (memory.get("k"), len(memory.history("s")), memory.usage().plan) == ("before", 0, "unlimited")
    assert issued(db) == before


def test_every_store_refuses_a_guard_after_its_end(db):
    store = open_to_serve(db, Plans())
    with closing(store):
        store.write("guarded", [Put("k", '"text"')])
        held, ended = Guard(ACCESS, until=now() + 60_000_000), Guard(ACCESS, until=now())
        for query in (GetEntry("k"), ListChanges(after=0), Search(text="text")):
            store.read("guarded", query, guard=held)
            ended.version = held.version
            with pytest.raises(GuardFailed):
                store.read("guarded", query, guard=ended)
        store.write("guarded", [Put("k", '"held"')], guard=held)
        with pytest.raises(GuardFailed):
            store.write("guarded", [Put("k", '"ended"')], guard=ended)
        assert store.read("guarded", GetEntry("k")).value == "held"
