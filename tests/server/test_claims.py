"""Claims: which writes make one, and who may end it."""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import closing

import pytest

from botwire import Memory
from botwire.limits import ACCESS
from botwire.operations import Append, Clear, Delete, Forget, Guard, Increment, NewMessage, Pop, Put, Write
from botwire.plans import Plan, Plans
from botwire.queries import CountEntries, GetEntry, ListNamespaces
from botwire.server.operator import OnStore
from botwire.stores import open_served
from botwire.stores.postgres.store import PostgresStore
from tests.servers import Server

OWN, OTHERS = "a-token-of-my-own-making", "somebody-elses-own-token"


@pytest.fixture(scope="module")
def server(db):
    with Server(db) as server:
        yield server


def call(server, method, path, token=None, body=None, **fields):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        fields = {"Content-Type": "application/json", **fields}
        if token:
            fields["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), fields)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


NO_WRITES = [
    (409, "PUT", "/memory/%s/k", {"value": 1, "if_version": 77}),
    (404, "DELETE", "/memory/%s/k", None),
    (404, "DELETE", "/sessions/%s/s", None),
    (200, "POST", "/memory/%s", {"operations": [{"op": "clear", "prefix": ""}]}),
    (200, "POST", "/memory/%s", {"operations": [{"op": "delete", "key": "k"}]}),
    (200, "POST", "/memory/%s", {"operations": [{"op": "pop", "session": "s"}]}),
    (409, "POST", "/memory/%s", {"operations": [{"op": "put", "key": "k", "value": 1},
                                                {"op": "put", "key": "k", "value": 1, "if_version": 77}]}),
]  # fmt: skip


def test_a_write_that_changes_nothing_claims_nothing(server):
    for number, (status, method, path, body) in enumerate(NO_WRITES):
        for key in ({}, {"Idempotency-Key": f"key-{number}"}):
            name = f"nothing-{number}-{len(key)}"
            assert call(server, method, path % name, OWN, body, **key)[0] == status
            assert call(server, "PUT", f"/memory/{name}/k", None, {"value": 1})[0] == 200, body


def test_a_write_beyond_the_quota_claims_nothing(tmp_path):
    plans = tmp_path / "plans.toml"
    plans.write_text("[small]\nwrites_per_day = 1\n")
    with Server(tmp_path / "a.db", "--plans", str(plans), "--plan", "small") as server:
        body = {"operations": [{"op": "put", "key": key, "value": 1} for key in "ab"]}
        assert call(server, "POST", "/memory/n", OWN, body)[0] == 429
        assert call(server, "PUT", "/memory/n/k", None, {"value": 1})[0] == 200


def test_every_kind_of_write_claims(server):
    deleted = [{"op": "delete", "key": "k"}]
    for number, operations in enumerate(
        [
            [{"op": "put", "key": "k", "value": 1}],
            [{"op": "increment", "key": "k", "by": 0}],
            [{"op": "append", "session": "s", "messages": [{"data": 1}]}],
            deleted,
        ]
    ):
        name = f"claimed-{number}"
        if operations is deleted:
            call(server, "PUT", f"/memory/{name}/k", None, {"value": 1})
        assert call(server, "POST", f"/memory/{name}", OWN, {"operations": operations})[0] == 200
        assert call(server, "GET", f"/memory/{name}/k", OTHERS)[0] == 401


def test_the_second_write_is_applied_with_the_first_or_not_at_all(db):
    """Also in a group of writes, and under an idempotency key that is used twice."""

    async def main():
        store = open_served(db, Plans("small", {"small": Plan(writes_per_day=7)}), lambda _: None)
        message = NewMessage("id-1", "1")

        def also(number):
            return Write(ACCESS, (Put(f"also/{number}", "1"),))

        async def applied(number):
            return await store.read(ACCESS, GetEntry(f"also/{number}")) is not None

        await store.write("both", [Put("there", "1"), Append("s", (message,))])
        tried = [
            ([Put("a", "1")], None, True),
            ([Put("a", "2", if_version=77)], None, False),
            ([Delete("b")], None, False),
            ([Clear("zz")], None, False),
            ([Forget("none")], None, False),
            ([Pop("none", 1)], None, False),
            ([Append("s", (message,))], None, False),
            ([], None, False),
            ([Increment("number", 0)], "key", True),
            ([Increment("number", 0)], "key", False),
            ([Delete("there")], None, True),
            ([Put("c", "1"), Put("d", "1"), Put("e", "1"), Put("f", "1")], None, False),  # more than the quota
        ]
        writes = [
            store.write("both", ops, idempotency_key=key, also=also(number))
            for number, (ops, key, _) in enumerate(tried)
        ]
        await asyncio.gather(*writes, return_exceptions=True)
        assert [await applied(number) for number in range(len(tried))] == [wanted for *_, wanted in tried]
        # A second write that fails takes the first one back.
        refused = Write(ACCESS, (Put("also/0", "1", if_version=77),))
        results = await asyncio.gather(
            store.write("other", [Put("k", "1")], also=refused),
            store.write("other", [Put("j", "1")]),
            return_exceptions=True,
        )
        assert isinstance(results[0], Exception)
        assert await store.read("other", CountEntries("")) == 1
        await store.close()

    asyncio.run(main())


def test_no_token_revokes_one_that_it_descends_from(server, db):
    Memory("mine", server.url, token=OWN).set("k", 1)
    listed = call(server, "GET", "/tokens?namespace=mine", OWN)[1]["tokens"]
    claim = next(token["id"] for token in listed if token["claim"])

    def issue(by, *namespaces):
        status, made = call(server, "POST", "/tokens", by, {"namespaces": list(namespaces), "can": ["admin"]})
        assert status == 200
        return made

    def revoke(token, target):
        return call(server, "DELETE", f"/tokens/{target}?namespace=mine", token)[0]

    helper = issue(OWN, "mine")
    assistant = issue(helper["secret"], "mine")
    for token in (helper, assistant):
        assert revoke(token["secret"], claim) == 403
    assert revoke(assistant["secret"], helper["id"]) == 403
    with closing(OnStore(db)) as administration:
        first = administration.create(namespaces=["*"], can=["admin"], name="", expires_in=None)
        second = issue(first["secret"], "*")
        third = issue(second["secret"], "mine", "*")
        assert revoke(third["secret"], first["id"]) == 403
        assert revoke(third["secret"], second["id"]) == 403
        assert Memory("mine", server.url, token=OWN).get("k") == 1
        # Down the tree, one's own, and other people's as an operator.
        assert revoke(helper["secret"], assistant["id"]) == 200
        assert revoke(helper["secret"], helper["id"]) == 200
        assert revoke(first["secret"], third["id"]) == 200
        assert revoke(second["secret"], claim) == 200
        assert call(server, "GET", "/memory/mine/k", OWN)[0] == 401
        assert administration.revoke(first["id"])


def test_a_claim_with_a_lost_commit_happens_once(postgres):
    """The write and its claim are one transaction on PostgreSQL too: no other client sees one without the other."""
    with closing(PostgresStore(postgres)) as store:

        async def main():
            served = store.to_async()
            guard = Guard(ACCESS, (("also/n", 0),))
            also = Write(ACCESS, (Put("also/n", "1", if_version=0),))
            writes = [served.write("n", [Put(f"k{n}", "1")], guard=guard, also=also) for n in range(8)]
            return await asyncio.gather(*writes, return_exceptions=True)

        results = asyncio.run(main())
        assert sum(isinstance(result, list) for result in results) == 1
        assert store.read("n", CountEntries("")) == 1
        assert set(store.read("", ListNamespaces())) >= {"n"}
