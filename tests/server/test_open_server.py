"""What clients without a token can make an open server hold: new namespaces, and the last of its disk."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, closing

import httpx
import pytest

from botwire import Memory, Unavailable
from botwire.limits import ACCESS
from botwire.plans import Plans
from botwire.queries import ListKeys
from botwire.server.access import newcomers
from botwire.server.access.newcomers import network_of
from botwire.server.app import create_app
from botwire.server.operator import OnStore
from botwire.stores import open_served
from tests.servers import Server

OWN = "a-token-of-my-own-making"


@asynccontextmanager
async def opened(db, limit=3):
    """An open server's app over a store: a function that returns the client at an address."""
    store = open_served(db, Plans(), lambda _: None)
    app = create_app(store, local_only=False, namespaces_per_address=limit)

    def at(host, token=None):
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app, client=(host, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://botwire", headers=fields)

    at.recorder = app.app.state.authorizer.recorder
    at.store = store
    yield at
    await store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def db(request, tmp_path):
    return request.getfixturevalue("postgres") if request.param == "postgres" else f"sqlite:///{tmp_path / 'a.db'}"


async def put(client, namespace, **more):
    return await client.put(f"/memory/{namespace}/k", json={"value": 1, **more})


def test_an_address_may_use_so_many_new_namespaces_in_a_day(db):
    with closing(OnStore(db)) as administration:
        issued = administration.create(namespaces=["*"], can=["write"], name="", expires_in=None)["secret"]

    async def main():
        async with opened(db) as at:
            stranger, claimer, other = at("203.0.113.5"), at("203.0.113.5", OWN), at("203.0.113.6")
            # What changes nothing is not counted.
            for number in range(5):
                assert (await put(stranger, f"none{number}", if_version=7)).status_code == 409
                assert (await stranger.delete(f"/memory/none{number}/k")).status_code == 404
                assert (await stranger.get(f"/memory/none{number}/k")).status_code == 404
            await at.recorder.record()
            assert await at.store.read(ACCESS, ListKeys("usage/")) == []
            assert (await put(stranger, "one")).status_code == 200
            session = {"messages": [{"data": 1}]}
            assert (await stranger.post("/sessions/two/s", json=session)).status_code == 200
            assert (await put(claimer, "three")).status_code == 200
            increment = {"operations": [{"op": "increment", "key": "k", "by": 0}]}
            # Each way to make a namespace, or to claim one.
            for refused in (
                await put(stranger, "four"),
                await put(claimer, "four"),
                await put(claimer, "one"),
                await stranger.post("/memory/four", json=increment),
                await stranger.post("/sessions/four/s", json=session),
                await stranger.delete("/memory/four/k", headers={"Idempotency-Key": "key"}),
            ):
                assert refused.status_code == 429
                assert 0 < int(refused.headers["Retry-After"]) <= 86_400
                assert refused.headers["RateLimit-Policy"] == '"namespaces";q=3;w=86400'
                assert "--namespaces-per-address" in refused.json()["detail"]
            # Whatever exists works as before, and so do reads.
            for client, name in ((stranger, "one"), (stranger, "two"), (claimer, "three")):
                assert (await put(client, name)).status_code == 200
                assert (await client.delete(f"/memory/{name}/k")).status_code == 200
            # Others are not concerned, nor who has an issued token, nor this machine.
            assert (await put(other, "four")).status_code == 200
            for client in (at("203.0.113.5", issued), at("127.0.0.1"), at("::1")):
                for number in range(5):
                    assert (await put(client, f"free-{number}")).status_code == 200
            metrics = (await stranger.get("/metrics")).text
            assert 'botwire_refusals_total{reason="namespaces"} 6.0' in metrics
            assert "botwire_namespaces_per_address 3.0" in metrics

    asyncio.run(main())


def test_writes_at_the_same_time_do_not_exceed_the_limit(db):
    async def main():
        async with opened(db) as at:
            stranger = at("203.0.113.5")
            answers = await asyncio.gather(*(put(stranger, f"n{number}") for number in range(20)))
            assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 17

    asyncio.run(main())


def test_the_table_of_addresses_is_bounded(tmp_path, monkeypatch):
    """Addresses beyond it share one allowance, and those in it keep theirs."""
    monkeypatch.setattr(newcomers, "MAX_ADDRESSES", 4)

    async def main():
        async with opened(f"sqlite:///{tmp_path / 'a.db'}", limit=2) as at:
            codes = [(await put(at(f"203.0.113.{n}"), f"a{n}")).status_code for n in range(10)]
            assert codes == [200] * 6 + [429] * 4
            assert [(await put(at(f"203.0.113.{n}"), f"b{n}")).status_code for n in range(10)] == [200] * 4 + [429] * 6

    asyncio.run(main())


def test_addresses():
    assert network_of("203.0.113.5") == network_of("::ffff:203.0.113.5") == "203.0.113.5"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1%eth0") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert {network_of(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "testclient")} == {None}


def test_a_server_on_another_interface_counts(tmp_path):
    """The command itself, by an address of this machine that is not loopback, if it has one."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no other address")
        host = probe.getsockname()[0]
    options = "--open", "--host", "0.0.0.0", "--namespaces-per-address", "3"
    with Server(tmp_path / "a.db", *options) as server:
        for name, wanted in (("a", 200), ("b", 200), ("c", 200), ("d", 429), ("a", 200)):
            with closing(http.client.HTTPConnection(host, server.port, timeout=20)) as connection:
                connection.request("PUT", f"/memory/{name}/k", b'{"value":1}', {"Content-Type": "application/json"})
                assert connection.getresponse().status == wanted


def test_a_nearly_full_disk_refuses_what_stores_and_takes_deletes(tmp_path):
    """More is to be kept free than any disk has."""
    file = tmp_path / "a.db"
    with Memory("n", f"sqlite:///{file}") as memory:
        memory.set_many({f"k{number}": 1 for number in range(5)})
        memory.history("s").append([1, 2])
    with Server(file, "--keep-free", str(2**40)) as server:

        def call(method, path, body=None):
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
                fields = {"Content-Type": "application/json"}
                connection.request(method, path, None if body is None else json.dumps(body), fields)
                response = connection.getresponse()
                return response.status, response.headers, response.read()

        def operations(*ops):
            return call("POST", "/memory/n", {"operations": list(ops)})

        put = {"op": "put", "key": "k", "value": 1}
        vector = {"key": "k0", "version": 1, "vector": "AACAPw=="}
        for status, headers, body in (
            call("PUT", "/memory/n/k", {"value": 1}),
            call("POST", "/sessions/n/s", {"messages": [{"data": 1}]}),
            operations({"op": "delete", "key": "k0"}, put),
            operations({"op": "increment", "key": "number", "by": 1}),
            operations({"op": "append", "session": "s", "messages": [{"data": 1}]}),
            operations({"op": "set_vectors", "model": "m", "vectors": [vector]}),
        ):
            assert (status, headers["Retry-After"]) == (503, "30"), body
            assert b"--keep-free" in body
        for status, _, body in (
            call("GET", "/memory/n/k0"),
            call("GET", "/search/n?q=x"),
            call("DELETE", "/memory/n/k0"),
            call("DELETE", "/sessions/n/s?last=1"),
            operations(
                {"op": "delete", "key": "k1"}, {"op": "clear", "prefix": "k2"}, {"op": "forget", "session": "s"}
            ),
        ):
            assert status == 200, body
        metrics = call("GET", "/metrics")[2].decode()
        assert 'botwire_refusals_total{reason="disk"} 6.0' in metrics
        found = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("botwire_disk"))
        assert float(found["botwire_disk_reserve_bytes"]) == 2**60 > float(found["botwire_disk_free_bytes"]) > 0
        with Memory("n", server.url, timeout=3) as memory, pytest.raises(Unavailable, match="disk"):
            memory.set("k", 1)
        command = [sys.executable, "-m", "botwire", "doctor", "--url", server.url]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert found.returncode == 1
        assert "✗ free space" in found.stdout
        assert "1,000 new namespaces a day for each address" in found.stdout
    with Server(file) as server, Memory("n", server.url) as memory:
        memory.set("k", 1)
