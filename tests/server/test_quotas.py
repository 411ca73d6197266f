"""Plans: the limit is never passed by one, refusals say what to do, reads and deletes go on."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from botwire import InvalidArgument, Memory, QuotaExceeded, StorageExceeded
from botwire.operations import Append, NewMessage, Put
from botwire.plans import DAY, Plan, Plans, load_plans
from botwire.stores import open_to_serve
from botwire.stores.http.store import HttpStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import new_id, now
from tests.servers import Server

TIGHT = """
[tight]
writes_per_day = 200
max_bytes = 20_000

[small]
max_bytes = 2000
"""


@pytest.fixture
def plans_file(tmp_path):
    path = tmp_path / "plans.toml"
    path.write_text(TIGHT)
    return path


@pytest.fixture(params=["1", "2"], ids=["one process", "two processes"])
def tight(request, tmp_path, plans_file):
    yield from _serve(tmp_path / "server.db", f"sqlite:///{tmp_path / 'server.db'}", plans_file, request.param)


@pytest.fixture(params=["1", "2", "PostgreSQL"], ids=["one process", "two processes", "two processes, PostgreSQL"])
def tight_anywhere(request, tmp_path, plans_file):
    if request.param == "PostgreSQL":
        address = request.getfixturevalue("postgres")
        yield from _serve(address, address, plans_file, "2")
    else:
        yield from _serve(tmp_path / "server.db", f"sqlite:///{tmp_path / 'server.db'}", plans_file, request.param)


def _serve(db, address, plans_file, workers):
    server = Server(db, "--plans", str(plans_file), "--plan", "tight", "--workers", workers)
    server.plans_file, server.address = plans_file, address
    yield server
    server.stop()


def call(server, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response, json.loads(text)


def test_the_limit_is_never_passed_by_one(tight_anywhere):
    """Sixteen writers, half through the server and half in the same database, race for 200 writes."""
    done, refused = [], []
    plans = load_plans(tight_anywhere.plans_file, "tight")

    def work(writer):
        store = open_to_serve(tight_anywhere.address, plans) if writer % 2 else HttpStore(tight_anywhere.url)
        for number in range(40):
            try:
                store.write("q", [Put(f"{writer}/{number}", "1")])
                done.append((writer, number))
            except QuotaExceeded:
                refused.append((writer, number))
        store.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    memory = Memory("q", tight_anywhere.url)
    assert (len(done), len(refused)) == (200, 440)
    assert sorted(memory.list_keys()) == sorted(f"{writer}/{number}" for writer, number in done)
    usage = memory.usage()
    assert (usage.plan, usage.writes_today, usage.writes_per_day) == ("tight", 200, 200)


def test_the_bytes_are_never_passed_by_one(tight_anywhere):
    stored = []

    def work(writer):
        memory = Memory("b", tight_anywhere.url)
        for number in range(10):
            try:
                memory.set(f"{writer}-{number}", "x" * (297 - len(f"{writer}-{number}") + 1))
                stored.append(writer)
            except StorageExceeded:
                return

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(stored) == 20_000 // 300
    assert Memory("b", tight_anywhere.url).usage().bytes == 300 * len(stored)


def test_a_refusal_over_http(tight):
    for start in range(0, 200, 50):
        Memory("r", tight.url).set_many({f"k{number}": 1 for number in range(start, start + 50)})
    response, problem = call(tight, "PUT", "/memory/r/one-more", {"value": 1})
    assert response.status == 429
    seconds = int(response.headers["Retry-After"])
    left = (now() // DAY + 1) * DAY - now()
    assert abs(seconds - left / 1_000_000) < 5
    assert response.headers["RateLimit-Policy"] == '"writes";q=200;w=86400'
    assert response.headers["RateLimit"] == f'"writes";r=0;t={seconds}'
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == "urn:botwire:error:quota_exceeded"
    assert problem["status"] == 429
    assert (problem["plan"], problem["limit"], problem["retry_after"]) == ("tight", 200, seconds)
    # Reads and deletes go on.
    assert call(tight, "GET", "/memory/r/k1")[1]["value"] == 1
    assert call(tight, "DELETE", "/memory/r/k1")[0].status == 200
    with pytest.raises(QuotaExceeded) as caught:
        Memory("r", tight.url).set("one-more", 1)
    assert caught.value.details["limit"] == 200
    assert "one-more" not in Memory("r", tight.url)


def test_a_redaction_works_when_the_writes_are_used_up(tight_anywhere):
    memory = Memory("red", tight_anywhere.url)
    history = memory.history("s")
    history.append([{"role": "user", "content": f"a secret that is long enough {number}"} for number in range(3)])
    history.summarize(upto=2, summary=["a secret"])
    memory.set_many({f"k{number}": 1 for number in range(196)})
    assert memory.usage().writes_today == 200
    history.redact(1, reason="law")
    message = history.messages()[0]
    assert (message.data["content"], message.redacted) == ("[redacted]", "law")
    assert history.info().summarized == 0
    assert memory.usage().writes_today == 200
    # It is free once a message, or a client could write any data as the text of a redaction.
    with pytest.raises(QuotaExceeded):
        history.redact(1)
    with pytest.raises(QuotaExceeded):
        history.edit(2, "x")
    assert history.messages()[1].data["content"].startswith("a secret")


def test_full_storage_over_http(tight):
    memory = Memory("s", tight.url)
    memory.set("big", "x" * 19_000)
    response, problem = call(tight, "PUT", "/memory/s/more", {"value": "x" * 2_000})
    assert response.status == 507
    assert problem["type"] == "urn:botwire:error:storage_exceeded"
    assert problem["limit"] == 20_000
    with pytest.raises(StorageExceeded):
        memory.history("one").append(["x" * 2_000])
    assert memory.history("one").messages() == []
    assert len(memory.sessions()) == 0
    assert memory.get("big") == "x" * 19_000
    memory.set("big", "smaller")  # a write that frees is allowed
    memory.set("more", "x" * 2_000)


@pytest.mark.parametrize("full", ["writes", "bytes"])
def test_nothing_is_half_written(tight, full):
    memory = Memory("h", tight.url)
    if full == "writes":
        memory.set_many({f"k{number}": 1 for number in range(199)})
        values = {"a": 1, "b": 2}
    else:
        memory.set("big", "x" * 19_000)
        values = {"a": 1, "b": "x" * 2_000}
    before = memory.usage()
    with pytest.raises((QuotaExceeded, StorageExceeded)):
        memory.set_many(values)
    assert "a" not in memory
    assert memory.usage() == before
    memory.set("a", 1)


def test_expired_entries_do_not_count_toward_the_quota(tight):
    memory = Memory("e", tight.url)
    memory.set("big", "x" * 19_000, ttl=0.2)
    time.sleep(0.25)
    memory.set("next", "x" * 19_000)
    assert memory.list_keys() == ["next"]


def test_plan_set_while_the_server_runs(tight_anywhere):
    memory = Memory("p", tight_anywhere.url)
    memory.set_many({f"k{number}": 1 for number in range(200)})
    with pytest.raises(QuotaExceeded):
        memory.set("more", 1)
    command = [sys.executable, "-m", "botwire", "plan", "set", "p", "unlimited", "--db", tight_anywhere.db]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "p has the plan unlimited\n")
    memory.set("more", 1)
    usage = memory.usage()
    assert (usage.plan, usage.writes_today, usage.writes_per_day, usage.max_bytes) == ("unlimited", 201, None, None)
    command[5:7] = ["p", "small"]
    done = subprocess.run(
        [*command, "--plans", str(tight_anywhere.plans_file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(StorageExceeded):
        memory.set("big", "x" * 3_000)


def test_plan_set_refuses_what_is_not_there(tmp_path):
    command = [sys.executable, "-m", "botwire", "plan", "set", "p", "golden", "--db", str(tmp_path / "a.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "botwire: there is no plan 'golden'; there are: free, unlimited\n"


def test_the_free_plan_is_what_is_promised():
    plan = Plans("free").of(None)[1]
    assert (plan.writes_per_day, plan.max_bytes) == (1_000, 50_000_000)
    assert Plans().of(None) == ("unlimited", Plan(None, None))


def test_reads_are_unlimited_and_cost_nothing(tight):
    memory = Memory("u", tight.url)
    memory.set("k", 1)
    for _ in range(300):
        assert memory.get("k") == 1
    assert memory.usage().writes_today == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[free", "not a file of plans"),
        ("[x]\nwrites_per_day = 'many'\n", "not a file of plans"),
        ("[x]\nwrites = 3\n", "not a file of plans"),
        ("[x]\nwrites_per_day = -1\n", "below 0"),
        ("x = 3\n", "not a file of plans"),
    ],
)
def test_bad_files_of_plans(tmp_path, text, reason):
    (tmp_path / "plans.toml").write_text(text)
    with pytest.raises(InvalidArgument, match=reason):
        load_plans(tmp_path / "plans.toml")


def test_a_missing_file_of_plans(tmp_path):
    with pytest.raises(InvalidArgument, match="cannot be read"):
        load_plans(tmp_path / "none.toml")


def test_writers_in_threads_embedded(tmp_path):
    """The same without a server: threads of one process over the limit."""
    store = SqliteStore(tmp_path / "a.db", plans=Plans("t", {"t": Plan(writes_per_day=100)}))
    barrier = threading.Barrier(8, timeout=30)

    def work(_):
        barrier.wait()
        done = 0
        for _ in range(30):
            try:
                store.write("n", [Append("s", (NewMessage(new_id(), "1"), NewMessage(new_id(), "2")))])
                done += 2
            except QuotaExceeded:
                pass
        return done

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 100
    store.close()
