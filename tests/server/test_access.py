"""Who gets in where: every route for every kind of caller, claims, tokens, revocation, at real servers."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from botwire import AuthError, InvalidArgument, Memory
from botwire.limits import ACCESS
from botwire.operations import Guard, Put
from botwire.queries import GetEntry, ListNamespaces
from botwire.server.access.rules import TABLE
from botwire.server.app import create_app
from botwire.server.operator import OnStore, Remote
from botwire.store import GuardFailed
from botwire.stores.address import default_token
from botwire.stores.engine.statements import load_queries
from botwire.stores.http.store import HttpStore
from botwire.stores.postgres.statements import SQL_FOLDER
from botwire.stores.postgres.store import PostgresStore
from botwire.stores.sqlite.served import ServedSqliteStore
from botwire.stores.sqlite.store import SqliteStore
from tests.certificates import write_certificate
from tests.servers import Server

OWN, OTHERS = "a-token-of-my-own-making", "somebody-elses-own-token"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def required(request, tmp_path_factory):
    """Two processes on one store."""
    file = tmp_path_factory.mktemp("required") / "a.db"
    db = file if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    with Server(db, "--auth", "required", "--workers", "2") as server:
        with Memory("first", server.url, timeout=60) as memory, pytest.raises(AuthError):
            memory.get("k")  # tried until it listens
        yield server


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("open") / "a.db") as server:
        yield server


def address(server):
    return server.db if server.db.startswith("postgresql:") else f"sqlite:///{server.db}"


@pytest.fixture
def mint():
    """Mint a token on the file of a server."""

    def mint(server, *namespaces, can=("admin",), expires_in=None, name=""):
        with closing(OnStore(address(server))) as file:
            return file.create(namespaces=list(namespaces), can=list(can), name=name, expires_in=expires_in)

    return mint


def call(server, method, path, token=None, body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    fields = {"Content-Type": "application/json", **dict(headers)}
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    connection.request(method, path, None if body is None else json.dumps(body), fields)
    response = connection.getresponse()
    endless = response.headers["Content-Type"] == "text/event-stream"
    answer = response.status, response.readline() if endless else response.read(), response.headers
    connection.close()
    return answer


def code(*arguments, **options):
    return call(*arguments, **options)[0]


# The table


def routes(tmp_path):
    app = create_app(ServedSqliteStore(SqliteStore(tmp_path / "a.db")))
    return {
        (method, route.path)
        for route in app.app.routes
        for method in getattr(route, "methods", None) or {"GET"}
        if method != "HEAD"
    }


def test_every_route_has_a_rule_and_every_rule_a_route(tmp_path):
    assert routes(tmp_path) == set(TABLE)


NAMESPACE = "walk-1"
PATHS = {
    "/memory/{namespace}": "/memory/%s",
    "/memory/{namespace}/{name:path}": "/memory/%s/k",
    "/sessions/{namespace}": "/sessions/%s",
    "/sessions/{namespace}/{name:path}": "/sessions/%s/s",
    "/sessions/{namespace}/{session:path}": "/sessions/%s/s",
    "/problems/{namespace}": "/problems/%s?session=s",
    "/retention/{namespace}": "/retention/%s",
    "/namespaces/{namespace}": "/namespaces/%s",
    "/search/{namespace}": "/search/%s?q=x",
    "/texts/{namespace}": "/texts/%s?model=m",
    "/usage/{namespace}": "/usage/%s",
    "/usage/{namespace}/history": "/usage/%s/history",
    "/plans/{namespace}": "/plans/%s",
    "/console/{file}": "/console/style.css",
    "/watch/{namespace}": "/watch/%s",
    "/tokens": "/tokens?namespace=%s",
    "/tokens/{token}": "/tokens/unknown?namespace=%s",
}
BODIES = {
    ("POST", "/memory/{namespace}"): {"operations": [{"op": "put", "key": "k", "value": 1}]},
    ("PUT", "/memory/{namespace}/{name:path}"): {"value": 1},
    ("POST", "/search/{namespace}"): {"q": "x"},
    ("POST", "/sessions/{namespace}/{name:path}"): {"messages": [{"data": 1}]},
    ("POST", "/problems/{namespace}"): {"policy": "cancel"},
    ("PUT", "/plans/{namespace}"): {"plan": None},
    ("POST", "/tokens"): {"namespaces": [NAMESPACE], "can": ["read"]},
}


def walk(server, token, namespace=NAMESPACE):
    """Return what each row of the table answers: its status, and what the challenge says."""
    found = {}
    for row in sorted(TABLE):
        method, path = row
        target = PATHS.get(path, path)
        target = target % namespace if "%s" in target else target
        body = BODIES.get(row)
        if path == "/tokens" and method == "POST":
            body = {"namespaces": [namespace], "can": ["read"]}
        status, _, headers = call(server, method, target, token, body)
        challenge = headers.get("WWW-Authenticate", "")
        assert challenge.startswith('Bearer realm="botwire"') == (status in {401, 403})
        found[row] = status, challenge.partition("error=")[2].partition(",")[0].strip('"')
    return found


NO_TOKEN, INVALID, NOT_ENOUGH = (401, ""), (401, "invalid_token"), (403, "insufficient_scope")
LET_IN = {200, 404}


def expected(row, may, refusal):
    """Return what a row must answer to a caller who may do this much here."""
    scope, where = TABLE[row]
    if where == "nowhere":
        return "let in"
    if where == "caller":
        return refusal if refusal == INVALID else "let in"
    if where == "everywhere":
        return "let in" if "operate" in may else refusal
    if where == "tokens":
        if "admin" in may:
            return "let in"
        # Who has a token may ask; one that he may not revoke is to him as if it were not there.
        return (404, "") if row[0] == "DELETE" and refusal == NOT_ENOUGH else refusal
    return "let in" if scope in may else refusal


def compare(found, may, refusal):
    for row, (status, challenge) in found.items():
        if TABLE[row].where == "counts":  # see test_operations
            assert status in {200, 401, 403}
            continue
        wanted = expected(row, may, refusal)
        if wanted == "let in":
            # PostgreSQL keeps no vectors yet, and says so to those who were let in.
            assert status in LET_IN or (status == 422 and "texts" in row[1]), (row, status)
        else:
            assert (status, challenge) == wanted, row


EVERYTHING = {"read", "write", "admin"}


def test_the_whole_table_when_tokens_are_required(required, mint):
    Memory(NAMESPACE, address(required)).set_many({"k": 1})
    revoked = mint(required, "*")
    with closing(OnStore(address(required))) as file:
        file.revoke(revoked["id"])
    expired = mint(required, "*", expires_in=0.01)["secret"]
    real = mint(required, "*")["secret"]
    for token, may, refusal in [
        (None, set(), NO_TOKEN),
        ("garbage", set(), INVALID),
        (OWN, set(), INVALID),
        ("bw_", set(), INVALID),
        ("bw_0123456789ab_" + "x" * 43, set(), INVALID),
        (real[:-1], set(), INVALID),
        (real + "x", set(), INVALID),
        (revoked["secret"], set(), INVALID),
        (expired, set(), INVALID),
        (mint(required, "walk-*", can=["read"])["secret"], {"read"}, NOT_ENOUGH),
        (mint(required, "walk-*", can=["write"])["secret"], {"write"}, NOT_ENOUGH),
        (mint(required, NAMESPACE, can=["read", "write"])["secret"], {"read", "write"}, NOT_ENOUGH),
        (mint(required, "walk-*", can=["admin"])["secret"], EVERYTHING, NOT_ENOUGH),
        (mint(required, "walk", "other-*", can=["admin"])["secret"], set(), NOT_ENOUGH),
        (real, EVERYTHING | {"operate"}, None),
    ]:
        found = walk(required, token)
        if token in {"garbage", OWN}:
            # A token of somebody's own counts where he has claimed something, so he may ask about tokens, and gets none.
            for row in (("GET", "/tokens"), ("POST", "/tokens")):
                assert found.pop(row) == NOT_ENOUGH
            assert found.pop(("DELETE", "/tokens/{token}")) == (404, "")
            assert found.pop(("GET", "/whoami")) == (200, "")
        compare(found, may, refusal)


def test_the_whole_table_when_the_server_is_open(opened, mint):
    Memory("taken", opened.url, token=OWN).set("k", 1)
    reader = mint(opened, "taken", can=["read"])["secret"]
    operator = mint(opened, "*")["secret"]
    public = {row: answer for row, answer in walk(opened, None, "nobodys").items() if TABLE[row].where == "namespace"}
    compare(public, {"read", "write"}, NO_TOKEN)
    compare(walk(opened, None, "taken"), set(), NO_TOKEN)
    compare(walk(opened, reader, "taken"), {"read"}, NOT_ENOUGH)
    compare(walk(opened, operator, "taken"), EVERYTHING | {"operate"}, None)
    mine = walk(opened, OWN, "taken")
    for row in [row for row, rule in TABLE.items() if rule.where == "everywhere"]:
        assert mine.pop(row) == INVALID
    compare(mine, EVERYTHING, None)
    theirs = {
        row: answer
        for row, answer in walk(opened, OTHERS, "taken").items()
        if TABLE[row].where not in {"tokens", "caller"}
    }
    compare(theirs, set(), INVALID)


def test_a_refusal_does_not_reveal_whether_a_namespace_exists(required, mint):
    Memory("there", address(required)).set("k", 1)
    for token in (None, "garbage", OWN, mint(required, "elsewhere")["secret"]):
        for (method, path), rule in TABLE.items():
            if rule.where == "namespace":
                answers = []
                for namespace in ("there", "nowhere", "%01access", "there%00", "n" * 129):
                    target = PATHS[path] % namespace
                    status, body, headers = call(required, method, target, token, BODIES.get((method, path)))
                    del headers["Date"], headers["Content-Length"]
                    # A refusal names what the caller asked for, and nothing else differs.
                    detail = re.sub(rb"(Reading|Writing to) '[^']*'", rb"\1 it", body)
                    answers.append((status, detail, sorted(headers.items())))
                assert answers[0][0] in {401, 403}
                assert answers == answers[:1] * 5


def test_it_is_as_much_work_to_refuse(tmp_path):
    """The same statements run, whatever there is."""
    import asyncio

    from botwire.server.access.authorizer import Authorizer
    from botwire.server.access.rules import Caller

    store = ServedSqliteStore(SqliteStore(tmp_path / "a.db"))
    asked = []
    read = store.read

    async def counted(namespace, query, **options):
        asked.append((namespace, type(query)))
        return await read(namespace, query, **options)

    store.read = counted

    async def main():
        authorizer = Authorizer(store, mode="open", local_only=False)
        claim = authorizer.tokens.claim("claimed", OTHERS)
        await store.write(claim.namespace, claim.operations)
        _token, secret = await authorizer.tokens.create(namespaces=["elsewhere"], can=["read"])
        await store.write("there", [Put("k", "1")])
        authorizer = Authorizer(store, mode="required", local_only=False)
        for caller in (Caller(""), Caller(OWN), Caller(secret), Caller(secret + "x")):
            works = []
            for namespace in ("there", "claimed", "nowhere"):
                asked.clear()
                with pytest.raises(AuthError):
                    await authorizer.authorized_store(caller, namespace, "read")
                works.append(list(asked))
            assert works == works[:1] * 3

    asyncio.run(main())
    store.store.close()


def test_the_namespace_of_the_rules_is_nobodys(required, opened, mint):
    for server in (required, opened):
        operator = mint(server, "*")["secret"]
        assert code(server, "PUT", "/memory/some/k", operator, {"value": 1}) == 200
        for path in ("/memory/%01access", "/memory/%01access/audit", "/sessions/%01access/audit", "/usage/%01access"):
            assert code(server, "GET", path, operator) == 422
        assert code(server, "PUT", "/memory/%01access/token/x", operator, {"value": 1}) == 422
        names = json.loads(call(server, "GET", "/namespaces", operator)[1])["namespaces"]
        assert names
        assert all(name.isprintable() for name in names)


def test_whoami_returns_the_token_of_the_caller(required, opened, mint):
    made = mint(required, "support-*", can=["read"], name="reader")
    for server, token, operator, known in [
        (required, None, False, None),
        (required, OWN, False, None),
        (required, made["secret"], False, "reader"),
        (required, mint(required, "*", name="boss")["secret"], True, "boss"),
        (opened, None, False, None),
    ]:
        told = json.loads(call(server, "GET", "/whoami", token)[1])
        assert (told["operator"], (told["token"] or {}).get("name")) == (operator, known)
        assert told["embedder"] is None
        assert told["mode"] == ("required" if server is required else "open")
        assert "hash" not in (told["token"] or {})
    assert json.loads(call(required, "GET", "/whoami", made["secret"])[1])["token"]["namespaces"] == ["support-*"]


def test_an_operator_puts_namespaces_on_plans(required, mint):
    operator = mint(required, "*")
    secret = operator["secret"]
    plans = json.loads(call(required, "GET", "/plans", secret)[1])
    assert plans["default"] == "unlimited"
    assert plans["plans"]["free"] == {
        "writes_per_day": 1_000,
        "max_bytes": 50_000_000,
        "session_idle_days": None,
    }
    for plan, name in (("free", "free"), (None, "unlimited")):
        assert code(required, "PUT", "/plans/planned", secret, {"plan": plan}) == 200
        assert json.loads(call(required, "GET", "/usage/planned", secret)[1])["plan"] == name
        act = json.loads(call(required, "GET", "/audit", secret)[1])["messages"][-1]["data"]
        assert act == {"act": "plan.set", "by": operator["id"], "namespace": "planned", "plan": plan}
    for body in ({"plan": "gold"}, {}, {"plan": 1}, {"plan": None, "more": 1}):
        assert code(required, "PUT", "/plans/planned", secret, body) == 422
    assert code(required, "PUT", "/plans/%01access", secret, {"plan": "free"}) == 422


# Claims


def test_claiming(opened):
    memory = Memory("my-agent", opened.url, token=OWN)
    assert memory.get("k") is None
    Memory("my-agent", opened.url).set("before", 1)  # reading does not claim
    memory.set("k", 1)
    for token in (None, OTHERS, "short"):
        other = Memory("my-agent", opened.url, token=token)
        for refused in (lambda other=other: other.get("k"), lambda other=other: other.set("k", 2)):
            with pytest.raises(AuthError, match="token"):
                refused()
    assert memory.get("k") == 1
    assert Memory("my-agent", opened.url, token=OWN).get("before") == 1
    memory.history("s").append([1])
    with pytest.raises(InvalidArgument, match="at least 16 characters"):
        Memory("free", opened.url, token="short").set("k", 1)
    Memory("free", opened.url).set("k", 1)


def test_a_claim_happens_once(tmp_path):
    with Server(tmp_path / "a.db", "--workers", "2") as server:
        for round_ in range(5):
            barrier = threading.Barrier(8)

            def claim(writer, round_=round_, barrier=barrier):
                with Memory(f"race-{round_}", server.url, token=f"{OWN}-{writer}") as memory:
                    barrier.wait(20)
                    try:
                        memory.set(f"k{writer}", writer)
                    except AuthError:
                        return None
                    return writer

            with ThreadPoolExecutor(8) as threads:
                (winner,) = [writer for writer in threads.map(claim, range(8)) if writer is not None]
            assert Memory(f"race-{round_}", address(server)).keys() == [f"k{winner}"]
        with closing(OnStore(address(server))) as file:
            assert [act["act"] for act in file.audit()] == ["claim"] * 5


def test_a_write_that_was_on_its_way_when_the_namespace_was_claimed(tmp_path):
    """In the same commit, behind the claim: it is judged again."""
    import asyncio

    from botwire.server.access.authorizer import Authorizer
    from botwire.server.access.rules import Caller

    store = ServedSqliteStore(SqliteStore(tmp_path / "a.db"))

    async def main():
        authorizer = Authorizer(store, mode="open", local_only=False)
        anonymous = await authorizer.authorized_store(Caller(""), "n", "write")
        reader = await authorizer.authorized_store(Caller(""), "n", "read")
        owner = await authorizer.authorized_store(Caller(OWN), "n", "write")
        claim = asyncio.create_task(owner.write("n", [Put("k", "0")]))
        await asyncio.sleep(0)
        with pytest.raises(AuthError):
            await anonymous.write("n", [Put("k", "1")])
        await claim
        with pytest.raises(AuthError):
            await reader.read("n", GetEntry("k"))
        with pytest.raises(AuthError):
            await anonymous.read("other", GetEntry("k"))

    asyncio.run(main())
    store.store.close()


def test_those_a_claimer_mints(opened):
    Memory("team", opened.url, token=OWN).set("k", 1)
    answer = call(
        opened, "POST", "/tokens", OWN, {"namespaces": ["team"], "can": ["read"], "name": "reader", "expires_in": 60}
    )
    made = json.loads(answer[1])
    assert answer[0] == 200
    assert made.keys() >= {"secret", "id", "name", "namespaces", "can", "created", "expires"}
    assert "hash" not in made
    reader = Memory("team", opened.url, token=made["secret"])
    assert reader.get("k") == 1
    with pytest.raises(AuthError, match="This token may read 'team'. Writing to 'team' needs the write permission."):
        reader.set("k", 2)
    for namespaces in (["other"], ["team*"], ["*"], ["team", "other"]):
        assert code(opened, "POST", "/tokens", OWN, {"namespaces": namespaces, "can": ["read"]}) == 403
    listed = json.loads(call(opened, "GET", "/tokens?namespace=team", OWN)[1])["tokens"]
    assert [(item["name"], item["claim"]) for item in listed] == [("", True), ("reader", False)]
    assert code(opened, "GET", "/tokens?namespace=other", OWN) == 403
    assert code(opened, "GET", "/tokens", OWN) == 403
    assert json.loads(call(opened, "DELETE", f"/tokens/{made['id']}", OWN)[1]) == {"revoked": [made["id"]]}
    with pytest.raises(AuthError):
        reader.get("k")
    claim = listed[0]["id"]
    assert code(opened, "DELETE", f"/tokens/{claim}", OWN) == 404
    assert code(opened, "DELETE", f"/tokens/{claim}?namespace=team", OWN) == 200
    for token in (OWN, None):
        assert code(opened, "GET", "/memory/team/k", token) == 401  # still closed


def test_names_that_cannot_be(required, mint):
    for token in (OWN, mint(required, "*")["secret"]):
        for path in ("/tokens?namespace=%00", "/tokens?namespace=a/b"):
            assert code(required, "GET", path, token) == 422
        assert code(required, "DELETE", "/tokens/x?namespace=%00", token) == 422
        assert code(required, "DELETE", "/tokens/%00", token) == 422
        assert code(required, "POST", "/tokens", token, {"namespaces": ["\0"], "can": ["read"]}) == 422


def test_a_claim_on_a_name_that_looks_like_a_pattern(opened):
    Memory("a*", opened.url, token=OWN).set("k", 1)
    assert code(opened, "POST", "/tokens", OWN, {"namespaces": ["a*"], "can": ["read"]}) == 403
    assert code(opened, "GET", "/memory/a%2A/k", OWN) == 200
    Memory("abc", opened.url, token=OTHERS).set("k", 1)
    assert code(opened, "GET", "/memory/abc/k", OWN) == 401


# Tokens


def test_minting_over_http(required, mint):
    admin = mint(required, "support-*", can=["admin"], expires_in=3600)
    answer = call(
        required, "POST", "/tokens", admin["secret"], {"namespaces": ["support-1", "support-a*"], "can": ["admin"]}
    )
    child = json.loads(answer[1])
    assert child["by"] == admin["id"]
    assert child["expires"] == admin["expires"]  # never later than its maker
    assert code(required, "PUT", "/memory/support-a1/k", child["secret"], {"value": 1}) == 200
    assert code(required, "PUT", "/memory/support-2/k", child["secret"], {"value": 1}) == 403
    for namespaces in (["support"], ["sup*"], ["*"], []):
        status = code(required, "POST", "/tokens", child["secret"], {"namespaces": namespaces, "can": ["read"]})
        assert status == (403 if namespaces else 422)
    for body in ({"namespaces": ["support-1"], "can": ["reed"]}, {"namespaces": ["support-1"]}, [], {"x": 1}):
        assert code(required, "POST", "/tokens", child["secret"], body) == 422
    grandchild = json.loads(
        call(required, "POST", "/tokens", child["secret"], {"namespaces": ["support-1"], "can": ["read"]})[1]
    )
    with closing(OnStore(address(required))) as file:
        gone = file.revoke(admin["id"])
    assert set(gone) == {admin["id"], child["id"], grandchild["id"]}
    for token in (admin, child, grandchild):
        assert code(required, "GET", "/memory/support-1/k", token["secret"]) == 401


def test_a_write_token_does_not_reveal_stored_data(required, mint):
    writer = mint(required, "counted", can=["write"])["secret"]
    both = mint(required, "counted", can=["write", "read"])["secret"]
    assert code(required, "POST", "/sessions/counted/s", writer, {"messages": [{"data": 1}]}) == 200
    for op in ({"op": "increment", "key": "k", "by": 0}, {"op": "pop", "session": "s"}):
        body = {"operations": [op]}
        assert code(required, "POST", "/memory/counted", writer, body) == 403
        assert code(required, "POST", "/memory/counted", both, body) == 200
    assert code(required, "DELETE", "/sessions/counted/s?last=1", writer) == 403


def test_nothing_is_written_after_a_token_was_revoked(required, mint):
    """Writers as fast as they can, at two processes, the token revoked in a third."""
    made = mint(required, "busy", can=["read", "write"])
    stop = threading.Event()

    def write(writer):
        with Memory("busy", required.url, token=made["secret"]) as memory:
            while not stop.is_set():
                try:
                    memory.increment(f"k{writer}")
                    memory.get("k")
                except AuthError:
                    refused.append(writer)
                    return

    refused = []
    file = Memory("busy", address(required))
    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    while len(file) < 6 or min(dict(file.items()).values()) < 5:
        time.sleep(0.01)
    with closing(OnStore(address(required))) as administration:
        administration.revoke(made["id"])
    at_once = file.items()
    for thread in threads:
        thread.join(20)
    stop.set()
    assert sorted(refused) == list(range(6))
    assert file.items() == at_once


def test_in_postgresql_revoking_waits_for_writes_that_rest_on_the_token(postgres):
    import psycopg

    with closing(OnStore(postgres)) as administration, closing(PostgresStore(postgres)) as store:
        made = administration.create(namespaces=["n"], can=["write"], name="", expires_in=None)
        guard = Guard(ACCESS, ((f"token/{made['id']}", 1),))
        for statement, wait in (("rely_on_guards", administration.revoke), ("change_guarded", None)):
            with psycopg.connect(postgres) as other:
                other.execute(load_queries(SQL_FOLDER / "queries.sql")[statement])
                done = threading.Event()

                def act(wait=wait, done=done):
                    wait(made["id"]) if wait else store.write("n", [Put("k", "1")], guard=Guard(ACCESS))
                    done.set()

                thread = threading.Thread(target=act)
                thread.start()
                assert not done.wait(0.3)
                other.rollback()
                thread.join(10)
                assert done.is_set()
        with pytest.raises(GuardFailed):
            store.write("n", [Put("k", "2")], guard=guard)
        assert store.read("n", GetEntry("k")).value == 1


def test_a_token_expires(required, mint):
    token = mint(required, "brief", expires_in=1.0)["secret"]
    memory = Memory("brief", required.url, token=token)
    memory.set("k", 1)
    time.sleep(1.1)
    for refused in (lambda: memory.get("k"), lambda: memory.set("k", 2)):
        with pytest.raises(AuthError, match=r"unknown, revoked or expired"):
            refused()


def test_only_hashes_are_kept(required, opened, mint):
    secret = mint(required, "kept")["secret"]
    Memory("kept", required.url, token=secret).set("k", 1)
    Memory("kept", opened.url, token=OWN).set("k", 1)
    with closing(OnStore(address(required))) as administration:
        assert secret not in str(administration.tokens())
    for server in (required, opened):
        kept = [] if server.db.startswith("postgresql:") else Path(server.db).parent.iterdir()
        data = b"".join(file.read_bytes() for file in kept)
        assert secret.encode() not in data
        assert secret.split("_", 2)[2].encode() not in data  # there may be more of them in it
        assert OWN.encode() not in data
        assert not any(secret in line or OWN in line for line in server.log)


def test_a_refused_client_gets_an_error_that_says_what_to_do(required, opened):
    needed = r"pass token=…, or set BOTWIRE_TOKEN .* botwire token create"
    with Memory("n", required.url) as memory, pytest.raises(AuthError, match=needed):
        memory.get("k")
    unknown = "not accepted here: it is unknown, revoked or expired"
    with Memory("n", required.url, token="x") as memory, pytest.raises(AuthError, match=unknown):
        memory.get("k")
    with closing(HttpStore(opened.url)) as store, pytest.raises(AuthError, match=needed):
        store.read("", ListNamespaces())


def test_a_token_from_the_environment_goes_to_its_server_only(required, mint, monkeypatch):
    secret = mint(required, "env")["secret"]
    monkeypatch.setenv("BOTWIRE_TOKEN", secret)
    with pytest.raises(AuthError):
        Memory("env", required.url).set("k", 1)
    monkeypatch.setenv("BOTWIRE_URL", required.url)
    Memory("env").set("k", 1)
    assert Memory("env")["k"] == 1
    assert default_token() == secret


# Other sites' pages, and other machines


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_page_whose_name_leads_here(opened, host):
    """DNS rebinding: to the browser it is one origin, and only the name gives it away."""
    status, body, _ = call(opened, "GET", "/memory/n", headers={"Host": host})
    assert (status, json.loads(body)["title"]) == (
        421,
        "The request is for another host (RFC 9110, section 15.5.20); nothing was done.",
    )
    for path in ("/memory/n/k", "/health", "/docs", "/sessions/n"):
        assert code(opened, "GET", path, headers={"Host": host}) == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.2:80", "[::1]:8765", "[::1]"])
def test_names_of_this_machine(opened, host):
    assert code(opened, "GET", "/memory/n", headers={"Host": host}) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_a_page_of_another_site_is_refused(opened, site):
    """Also one on another port of this machine. What is the same for everyone is served, so that links to the console work."""
    headers = {"Sec-Fetch-Site": site, "Content-Type": "application/json"}
    for (method, route), rule in TABLE.items():
        path = re.sub(r"\{(\w+)[^}]*\}", r"\1", route)
        status, body, _ = call(opened, method, path, headers=headers)
        assert (status == 403 and b"another site" in body) == (rule.where != "nowhere"), (method, route)


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_page_of_this_server_and_its_user_are_served(opened, site):
    assert code(opened, "GET", "/search/n?q=x", headers={"Sec-Fetch-Site": site}) == 200


def test_another_name_where_tokens_are_required(required, mint):
    assert code(required, "GET", "/memory/n", mint(required, "n")["secret"], headers={"Host": "memory.example"}) == 200


def serve(tmp_path, *options):
    command = [sys.executable, "-m", "botwire", "serve", "--port", "0", "--db", str(tmp_path / "a.db"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "add --auth required, or add --open"),
        (["--host", "192.0.2.1", "--auth", "open"], "add --auth required, or add --open"),
        (["--auth", "required", "--open"], "contradict each other"),
        (["--tls-cert", "c.pem"], "--tls-cert and --tls-key go together"),
        (["--tls-key", "k.pem"], "--tls-cert and --tls-key go together"),
        (["--tls-cert", "/nowhere/c.pem", "--tls-key", "/nowhere/k.pem"], "/nowhere/c.pem does not exist"),
        (["--tls-cert", __file__, "--tls-key", __file__], "are not a certificate and its key"),
    ],
)
def test_a_server_that_refuses_to_start(tmp_path, options, said):
    done = serve(tmp_path, *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def certificate(tmp_path):
    return write_certificate(tmp_path)


def test_tls(tmp_path, certificate, monkeypatch, mint):
    cert, key = certificate
    options = ("--host", "0.0.0.0", "--auth", "required", "--tls-cert", str(cert), "--tls-key", str(key))
    with Server(tmp_path / "a.db", *options) as server:
        address = f"https://127.0.0.1:{server.port}"
        token = mint(server, "n")["secret"]
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with Memory("n", address, token=token) as memory:
            memory.set("k", 1)
            assert memory.get("k") == 1
        monkeypatch.delenv("SSL_CERT_FILE")
        with Memory("n", address, token=token, timeout=0.5) as memory, pytest.raises(Exception, match="no TLS"):
            memory.get("k")


# The command line


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "botwire", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_the_command_line(tmp_path):
    db = str(tmp_path / "a.db")
    made = run(
        "token",
        "create",
        "--namespace",
        "support-*",
        "--can",
        "read,write",
        "--expires",
        "90d",
        "--name",
        "bot",
        "--db",
        db,
    )
    secret = made.stdout.strip()
    assert secret.startswith("bw_"), made.stderr
    (listed,) = [json.loads(line) for line in run("token", "list", "--db", db).stdout.splitlines()]
    assert (listed["name"], listed["namespaces"], listed["can"]) == ("bot", ["support-*"], ["read", "write"])
    assert secret.split("_")[1] == listed["id"]
    assert "hash" not in listed
    lasts = (json.loads(json.dumps(listed))["expires"][:10], listed["created"][:10])
    assert lasts[0] > lasts[1]
    run("plan", "set", "support-1", "free", "--db", db)
    assert run("token", "revoke", listed["id"], "--db", db).stdout == f"revoked: {listed['id']}\n"
    assert run("token", "revoke", listed["id"], "--db", db).stdout == "already revoked\n"
    acts = [json.loads(line) for line in run("audit", "--db", db).stdout.splitlines()]
    assert [act["act"] for act in acts] == ["token.create", "plan.set", "token.revoke"]
    assert acts[1]["namespace"] == "support-1"
    assert run("namespaces", "--db", db).stdout == "support-1\n"
    for arguments, said in [
        (("revoke", "unknown"), "no such token"),
        (("create", "--namespace", "a*b"), "not a pattern"),
        (("create", "--namespace", "n", "--can", "fly"), "can read, write or admin, not 'fly'"),
    ]:
        done = run("token", *arguments, "--db", db)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    done = run("token", "create", "--namespace", "n", "--expires", "soon", "--db", db)
    assert (done.returncode, "use a number and s, m, h or d" in done.stderr) == (2, True), done.stderr


def test_administration_through_a_server(required, mint):
    operator = mint(required, "*")
    Memory("far", address(required)).set("k", 1)
    with closing(Remote(required.url, operator["secret"])) as remote, closing(OnStore(address(required))) as file:
        made = remote.create(namespaces=["far"], can=["read"], name="x", expires_in=60)
        assert Memory("far", required.url, token=made["secret"])["k"] == 1
        assert remote.tokens() == json.loads(json.dumps(file.tokens()))
        assert remote.revoke(made["id"]) == [made["id"]]
        assert remote.namespaces() == file.namespaces()
        assert "far" in remote.namespaces()
        assert remote.audit() == file.audit()
        assert remote.audit()[-1] | {"at": None} == {
            "at": None,
            "act": "token.revoke",
            "by": operator["id"],
            "tokens": [made["id"]],
        }
    with closing(Remote(required.url, None)) as remote, pytest.raises(AuthError):
        remote.namespaces()


def test_tokens_are_on_no_plan(tmp_path):
    plans = tmp_path / "plans.toml"
    plans.write_text("[one]\nwrites_per_day = 1\nmax_bytes = 10\n")
    with Server(tmp_path / "a.db", "--plans", str(plans), "--plan", "one") as server:
        for namespace in ("n", "m"):
            Memory(namespace, server.url, token=OWN).set("k", 1)
        assert code(server, "GET", "/memory/n/k") == 401


def test_the_rules_are_in_the_store_like_everything(tmp_path):
    with closing(OnStore(f"sqlite:///{tmp_path}/a.db")) as file:
        made = file.create(namespaces=["n"], can=["read"], name="", expires_in=None)
    store = SqliteStore(tmp_path / "a.db")
    assert json.loads(store.read(ACCESS, GetEntry(f"token/{made['id']}")).stored)["can"] == ["read"]
    assert store.read("", ListNamespaces()) == []
    store.close()
