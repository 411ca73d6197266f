"""Memory and History, and the same logic as AsyncMemory and AsyncHistory, in a file, in memory and over HTTP."""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import botwire
from botwire import AsyncMemory, Conflict, InvalidArgument, InvalidName, InvalidValue, Memory, StoreError, Timeout
from botwire.operations import Append, Delete, NewMessage, Put
from botwire.queries import GetEntry, ListKeys
from botwire.values import encode
from tests.memories import Awaited

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**64,
    10**300,
    -(10**25),
    0.1,
    -0.0,
    1e308,
    5e-324,
    "",
    "[1, 2]",
    "null",
    "1",
    "é\u0000\U0001f600\u2028",
    [],
    {},
    [None, [1, {"a": []}]],
    {"": {"nested": [1.5, "x"]}, "z": 1, "a": 2},
    b"",
    b"\x00\xff",
    os.urandom(1000),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_come_back_exactly(memory, value):
    memory.set("k", value)
    for found in (memory.get("k"), memory.entry("k").value, memory.get_many(["k"])["k"], memory.items()[0][1]):
        assert found == value
        assert type(found) is type(value)
        assert repr(found) == repr(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values | st.binary())
def test_any_value_comes_back_exactly(memory, value):
    memory.set("k", value)
    assert repr(memory.get("k")) == repr(value)
    if not isinstance(value, bytes):
        history = memory.history("s")
        (seq,) = history.append([value])
        assert repr(history.messages(after=seq - 1)[0].data) == repr(value)


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


knot = []
knot.append(knot)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "not a JSON number"),
        ([math.inf], "not a JSON number"),
        ({"a": -math.inf}, "not a JSON number"),
        ("\ud800", "surrogate"),
        (["x\udfff"], "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        ({1: 2}, "dict key"),
        ({None: 2}, "dict key"),
        ([{True: 2}], "dict key"),
        ({1, 2}, "set is not a JSON value"),
        ((1, 2), "tuple"),
        (object(), "object is not a JSON value"),
        (datetime.now(UTC), "datetime is not a JSON value"),
        ([b"x"], "bytes"),
        (bytearray(b"x"), "bytearray"),
        (deep(101), "nested"),
        (deep(100_000), "nested"),
        (knot, "contains itself"),
        ("x" * (16 * 1024 * 1024), "bytes"),
        (b"x" * (16 * 1024 * 1024 + 1), "bytes"),
        (SimpleNamespace(a=1), "SimpleNamespace"),
    ],
    ids=range(21),
)
def test_what_json_cannot_hold_is_refused_before_anything_is_written(memory, value, reason):
    memory.set("k", "before")
    with pytest.raises(InvalidValue, match=reason):
        memory.set("k", value)
    with pytest.raises(InvalidValue):
        memory.set_many({"other": 1, "k": value})
    with pytest.raises(InvalidValue):
        memory.history("s").append(["fine", value])
    assert memory.items() == [("k", "before")]
    assert memory.history("s").messages() == []


NAMES = [".", "..", "a//b", "%2F", "?", "#", "a/b/../c", "😀", "ключ", " ", "a b", "&x=1", "+", ";", "\\", "e\u0301",
         "/", "//", "./x", "%", "%%", "%zz", "é" * 256, "x" * 512, "\U0010ffff", "~", "'", '"', "null", "key", "a?b#c/%2e"]  # fmt: skip


def test_every_legal_name_works(memory):
    for number, name in enumerate(NAMES):
        memory.set(name, number)
        assert memory.get(name) == number
        assert memory.history(name).append([number]) == [1]
    assert memory.list_keys() == sorted(NAMES, key=str.encode)
    assert memory.get_many(NAMES) == {name: number for number, name in enumerate(NAMES)}
    assert {session.name for session in memory.sessions()} == set(NAMES)
    for number, name in enumerate(NAMES):
        assert [message.data for message in memory.history(name).messages()] == [number]
        assert memory.history(name).clear() == 1
        assert memory.list_keys(name)[0] == name
        assert memory.delete(name)
    assert memory.list_keys() == []
    assert memory.sessions() == []


@pytest.mark.parametrize("name", ["", "\n", "a\x00b", "\x7f", "\x85", "x" * 513, "é" * 257, "\ud800", 1, None, b"k"])
def test_other_names_are_refused(memory, name):
    for call in (
        lambda: memory.set(name, 1),
        lambda: memory.get(name),
        lambda: memory.delete(name),
        lambda: memory.get_many([name]),
        lambda: memory.set_many({name: 1}),
        lambda: memory.history(name),
    ):
        with pytest.raises(InvalidName):
            call()


def test_half_a_character_is_refused_everywhere(memory):
    """A lone surrogate, as JavaScript's slice() leaves it of an emoji, and as Python reads arguments that are not UTF-8."""
    memory.set("k", "tea")
    chat = memory.history("s")
    chat.append(["tea"])
    for half in ("tea \ud83d", "\udcff"):
        for call in (
            lambda: memory.search(half),
            lambda: chat.search(half),
            lambda: memory.search("tea", prefix=half),
            lambda: memory.search("tea", session=half),
            lambda: memory.search("tea", where={half: 1}),
            lambda: memory.search("tea", where={"a": [{half: 1}]}),
            lambda: memory.search("tea", kinds=half),
            lambda: memory.search("tea", by=half),
            lambda: memory.list_keys(half),
            lambda: memory.list_keys(after=half),
            lambda: memory.items(half),
            lambda: memory.clear(half),
            lambda: memory.watch(half),
            lambda: memory.watch(session=half),
            lambda: memory.write(Put("k", "1"), idempotency_key=half),
            lambda: memory.increment(half),
            lambda: memory.update("k", lambda _: half),
            lambda: memory.set("k", {half: 1}),
            lambda: chat.append([half]),
            lambda: chat.append(["x"], ids=[half]),
        ):
            with pytest.raises((InvalidArgument, InvalidName, InvalidValue), match=r"\\ud"):
                call()
    assert (memory.get("k"), len(chat)) == ("tea", 1)


def test_half_a_character_in_an_option_is_refused(tmp_path):
    half, url = "x\ud83d", f"sqlite:///{tmp_path}/memory.db"
    for options in (
        {"url": f"{url}{half}"},
        {"url": f"http://{half}/"},
        {"url": f"postgresql://{half}/x"},
        {"url": "https://host", "ca": half},
        {"url": url, "token": half * 10},
        {"url": url, "encryption_key": half},
        {"url": url, "embedder": lambda texts: [[1.0]] * len(texts), "embedding_model": half},
    ):
        with pytest.raises(InvalidArgument):
            Memory("n", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [7, uuid.UUID(int=1)])
def test_a_number_or_a_uuid_as_a_name_says_what_to_do(memory, name):
    for call in (lambda: memory.get(name), lambda: memory.history(name), lambda: Memory(name, "sqlite:///:memory:")):
        with pytest.raises(InvalidName, match=r"convert it with str\(…\)"):
            call()


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "x" * 129, "a\nb", "\ud800", 1, None])
def test_other_namespaces_are_refused(name):
    for kind in (Memory, AsyncMemory):
        with pytest.raises(InvalidName):
            kind(name, "sqlite:///:memory:")


@pytest.mark.parametrize("name", ["x" * 128, "a b", "ключ", "😀", "a.b", "%2F", "?", "#", "..."])
def test_legal_namespaces_are_kept_apart(address, name):
    with Memory(name, address) as one, Memory(name[:-1] + "X", address) as other:
        one.set("k", 1)
        assert one.get("k") == 1
        assert "k" not in other


@pytest.mark.parametrize(
    "arguments", [{"ttl": 0}, {"ttl": -1}, {"ttl": math.nan}, {"ttl": "1"}, {"if_version": -1}, {"if_version": True}]
)
def test_wrong_arguments_are_refused(memory, arguments):
    with pytest.raises(InvalidArgument):
        memory.set("k", 1, **arguments)
    assert "k" not in memory


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan, "1", None, True])
def test_wrong_timeouts_are_refused(timeout):
    with pytest.raises(InvalidArgument):
        Memory("n", "sqlite:///:memory:", timeout=timeout)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://localhost", "is not an address"),
        ("", "is not an address"),
        ("/tmp/x.db", "is not an address"),
        ("sqlite://x.db", "three|four|is not an address"),
        ("sqlite:///", "is not an address"),
        ("http://", "http"),
        ("http://user:pw@host", "pass token"),
        ("http://host:99999", "port"),
        ("http://host/?x=1", "http"),
        (7, "url is a str"),
    ],
)
def test_wrong_addresses_are_refused(url, reason):
    for kind in (Memory, AsyncMemory):
        with pytest.raises(InvalidArgument, match=reason):
            kind("n", url)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "é", 7])
def test_wrong_tokens_are_refused(token):
    with pytest.raises(InvalidArgument, match="token"):
        Memory("n", "http://127.0.0.1:9", token=token)


def test_versions_and_times(memory):
    before = datetime.now(UTC) - timedelta(seconds=5)
    first = memory.set("k", 1)
    second = memory.set("k", 2, ttl=60)
    assert second > first > 0
    entry = memory.entry("k")
    assert (entry.key, entry.value, entry.version) == ("k", 2, second)
    assert before < entry.created_at <= entry.updated_at < datetime.now(UTC) + timedelta(seconds=5)
    assert abs(entry.expires_at - entry.updated_at - timedelta(seconds=60)) < timedelta(seconds=0.01)
    assert memory.entry("missing") is None
    memory.delete("k")
    assert memory.set("k", 3) > second


def test_records_show_what_a_person_wants_to_see(memory):
    memory.set("k", {"a": 1})
    assert "value={'a': 1}, version=1, created_at=datetime" in repr(memory.entry("k"))
    memory.history("s").append(["hello"])
    assert "data='hello', created_at=datetime" in repr(memory.history("s").messages()[0])
    assert "messages=1" in repr(memory.sessions()[0])
    assert "resets_at=datetime" in repr(memory.usage())


def test_compare_and_set(memory):
    version = memory.set("k", 1, if_version=0)
    with pytest.raises(Conflict) as caught:
        memory.set("k", 2, if_version=0)
    assert caught.value.details["version"] == version
    assert memory.set("k", 2, if_version=version) > version
    with pytest.raises(Conflict):
        memory.set("k", 3, if_version=version)
    assert memory.get("k") == 2


def test_expiry(memory):
    memory.set("k", 1, ttl=0.15)
    memory.set("d", 1, ttl=timedelta(milliseconds=150))
    memory.set("stays", 1)
    assert memory.list_keys() == ["d", "k", "stays"]
    time.sleep(0.2)
    assert memory.get("k", "gone") == "gone"
    assert "k" not in memory
    assert len(memory) == 1
    assert memory.items() == [("stays", 1)]
    assert memory.delete("k") is False
    memory.set("k", 2, if_version=0)
    assert memory.increment("d") == 1


def test_listing(memory):
    memory.set_many({key: key.upper() for key in ("a/1", "a/2", "a/3", "b", "a", "ab", "ä")})
    assert memory.list_keys() == ["a", "a/1", "a/2", "a/3", "ab", "b", "ä"]
    assert memory.keys("a/") == ["a/1", "a/2", "a/3"]
    assert memory.list_keys("a", limit=2) == ["a", "a/1"]
    assert memory.list_keys("a", limit=2, after="a/1") == ["a/2", "a/3"]
    assert memory.list_keys(limit=0) == []
    assert memory.items("a/", limit=1) == [("a/1", "A/1")]
    assert list(memory) == memory.list_keys()
    assert len(memory) == 7
    assert memory.get_many(["b", "missing", "a"]) == {"b": "B", "a": "A"}
    assert memory.get_many([]) == {}
    with pytest.raises(InvalidArgument):
        memory.get_many("ab")


def test_many_at_once(memory):
    versions = memory.set_many({"a": 1, "b": 2}, ttl=60)
    assert list(versions) == ["a", "b"]
    assert memory.entry("a").version == versions["a"]
    assert memory.entry("b").expires_at is not None
    assert memory.delete_many(["a", "missing", "b"]) == 2
    assert memory.set_many({}) == {}
    assert memory.delete_many([]) == 0
    with pytest.raises(InvalidArgument, match="10,000"):
        memory.set_many({str(number): 0 for number in range(10_001)})
    memory.set_many({str(number): number for number in range(10_000)})
    assert len(memory) == 10_000
    assert memory.get_many(map(str, range(10_000))) == {str(number): number for number in range(10_000)}


def test_increment(memory):
    assert memory.increment("k") == 1
    assert memory.increment("k", 5) == 6
    assert memory.increment("k", -0.5) == 5.5
    assert memory.increment("big", 2**70) == 2**70
    assert memory.increment("big") == 2**70 + 1
    memory.set("t", "text")
    with pytest.raises(InvalidValue, match="not a number"):
        memory.increment("t")
    with pytest.raises((InvalidValue, InvalidArgument)):
        memory.increment("k", math.nan)
    with pytest.raises(InvalidArgument):
        memory.increment("k", True)
    assert memory.get("k") == 5.5


def test_update(memory):
    assert memory.update("k", lambda value: [*value, 1], default=[]) == [1]
    assert memory.update("k", lambda value: [*value, 2]) == [1, 2]
    assert memory.update("none", lambda value: value) is None
    assert "none" in memory
    with pytest.raises(ZeroDivisionError):
        memory.update("k", lambda _: 1 / 0)
    assert memory.get("k") == [1, 2]


def test_update_keeps_the_time_to_live(memory):
    memory.set("k", 1, ttl=60)
    expires = memory.entry("k").expires_at
    memory.update("k", lambda value: value + 1)
    assert memory.entry("k").expires_at == expires


def test_clear(memory):
    memory.set_many({"a/1": 1, "a/2": 2, "b": 3})
    memory.history("s").append([1])
    assert memory.clear("a/") == 2
    assert memory.clear() == 1
    assert memory.list_keys() == []
    assert len(memory.history("s")) == 1


def test_usage(memory):
    assert memory.usage().writes_today == 0
    memory.set("key", "12345678")
    memory.history("s").append(["ab"], ids=["i"])
    usage = memory.usage()
    assert (usage.plan, usage.writes_today, usage.bytes) == ("unlimited", 2, 3 + 10 + 1 + 4)
    assert (usage.writes_per_day, usage.max_bytes) == (None, None)
    assert timedelta(0) < usage.resets_at - datetime.now(UTC) <= timedelta(days=1)


def test_history(memory):
    history = memory.history("s")
    assert history.append([]) == []
    assert history.messages() == []
    assert memory.sessions() == []
    assert history.append([{"a": 1}, "two"]) == [1, 2]
    assert history.append("three") == [3]
    assert history.append([4, 5], ids=["x", "y"]) == [4, 5]
    assert history.append([6, 4], ids=["z", "x"]) == [6, 4]
    messages = history.messages()
    assert [message.seq for message in messages] == [1, 2, 3, 4, 5, 6]
    assert [message.data for message in messages] == [{"a": 1}, "two", "three", 4, 5, 6]
    assert len({message.id for message in messages}) == 6
    assert messages[3].id == "x"
    assert messages == history.messages(last=100)
    assert history.messages(last=2) == messages[-2:]
    assert history.messages(2) == messages[-2:]
    assert history.messages(after=2, limit=2) == messages[2:4]
    assert history.messages(last=4, after=4) == messages[4:]
    assert history.messages(last=0) == []
    assert list(history) == messages
    assert len(history) == 6
    (session,) = memory.sessions()
    assert (session.name, session.messages) == ("s", 6)
    with pytest.raises(InvalidArgument):
        history.messages(last=1, limit=1)
    with pytest.raises(InvalidArgument):
        history.append([1, 2], ids=["only-one"])
    assert history.clear() == 6
    assert history.clear() == 0
    assert len(history) == 0
    assert history.append(["again"], ids=["x"]) == [1]


def test_pop(memory):
    history = memory.history("s")
    assert history.pop() == []
    history.append(["one", "two", {"three": 3}])
    last = history.messages(last=1)
    assert history.pop() == last
    assert [message.data for message in history.pop(5)] == ["one", "two"]
    assert memory.sessions() == []
    assert history.append(["again"]) == [1]
    assert history.pop(0) == []
    assert memory.usage().writes_today == 4
    for wrong in (-1, 10_001, None, "1", True):
        with pytest.raises(InvalidArgument):
            history.pop(wrong)
    assert len(history) == 1


def test_sessions_newest_first(memory):
    for name in ("a", "b", "c"):
        memory.history(name).append([name])
    sessions = memory.sessions()
    assert [session.name for session in sessions] == ["c", "b", "a"]
    assert [session.name for session in memory.sessions(limit=1)] == ["c"]
    assert [session.name for session in memory.sessions(after=sessions[0], limit=1)] == ["b"]


def test_the_habits_of_a_dict(address, namespace):
    with Memory(namespace, address) as memory:
        memory["k"] = 1
        assert memory["k"] == 1
        assert "k" in memory
        assert 7 not in memory
        assert list(memory) == ["k"]
        assert len(memory) == 1
        assert dict(memory.items()) == {"k": 1}
        del memory["k"]
        for call in (lambda: memory["k"], lambda: memory.__delitem__("k")):
            with pytest.raises(KeyError):
                call()
        assert memory  # also when it is empty
        assert memory.history("s") is not None
        assert bool(memory.history("s"))


def test_a_closed_memory(address, namespace):
    memory = Memory(namespace, address)
    memory.set("k", 1)
    memory.close()
    memory.close()
    with pytest.raises(StoreError, match="closed"):
        memory.get("k")
    with pytest.raises(StoreError, match="closed"):
        memory.set("k", 1)


def test_memories_of_one_address_share_a_store(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    one, other = Memory("n", url), Memory("n", url)
    one.set("k", 1)
    one.close()
    assert other.get("k") == 1
    other.close()


def test_an_update_loses_nothing(memory):
    if isinstance(memory, Awaited):
        memory = (
            Memory(memory.namespace, memory.address)
            if "memory" not in memory.address
            else pytest.skip("one connection")
        )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: memory.update("k", lambda value: [*value, n], default=[]), range(80)))
    assert sorted(memory.get("k")) == list(range(80))


def test_tasks_at_once(address, namespace):
    async def work():
        async with AsyncMemory(namespace, address) as memory:
            await asyncio.gather(*(memory.update("k", _awaited_append(n), default=[]) for n in range(40)))
            await asyncio.gather(*(memory.history("s").append([n]) for n in range(200)))
            assert sorted(await memory.get("k")) == list(range(40))
            return await memory.history("s").messages()

    messages = asyncio.run(work())
    assert [message.seq for message in messages] == list(range(1, 201))
    assert sorted(message.data for message in messages) == list(range(200))


def _awaited_append(number):
    async def change(value):
        await asyncio.sleep(0)
        return [*value, number]

    return change


def test_loops_in_several_threads_share_an_async_memory(address, namespace):
    memory = AsyncMemory(namespace, address)

    async def work(writer):
        for number in range(20):
            await memory.history("s").append([f"{writer}-{number}"])
            await memory.get("k")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda writer: asyncio.run(work(writer)), range(4)))
    assert len(asyncio.run(_messages(memory))) == 80


@pytest.mark.skipif("sys.platform == 'win32'", reason="there is no uvloop")
def test_under_uvloop(address, namespace):
    import uvloop

    async def work():
        async with AsyncMemory(namespace, address) as memory:
            await asyncio.gather(*(memory.history("s").append([number]) for number in range(20)))
            assert await memory.history("s").length() == 20

    uvloop.run(work())


async def _messages(memory):
    messages = await memory.history("s").messages()
    await memory.close()
    return messages


def test_async_has_every_method():
    public = {name for name in dir(Memory) if not name.startswith("_")} - {"reencrypt"}
    assert public <= {name for name in dir(AsyncMemory) if not name.startswith("_")}
    public = {name for name in dir(botwire.History) if not name.startswith("_")}
    assert public <= set(dir(botwire.AsyncHistory))


def test_errors_cross_process_borders():
    error = Conflict("not now", version=3)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.details) == (Conflict, "not now", {"version": 3})
    codes = {cls.code for cls in botwire.errors.BY_CODE.values()}
    assert len(codes) == len(botwire.errors.BY_CODE) == 13
    assert issubclass(Timeout, TimeoutError)
    assert issubclass(InvalidName, ValueError)


def test_the_default_address(tmp_path, monkeypatch, server):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    memory = Memory("n")
    memory.set("k", 1)
    assert memory.address == f"sqlite:///{tmp_path}/home/botwire/botwire.db"
    assert (tmp_path / "home" / "botwire" / "botwire.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home" / "botwire").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("BOTWIRE_URL", server.url)
    assert Memory("n").address == server.url
    assert "k" not in Memory("n")


def test_a_slow_peer_in_threads(tmp_path):
    """A wait for another process that exceeds the timeout raises `Timeout`, and nothing was written."""
    url = f"sqlite:///{tmp_path}/a.db"
    memory = Memory("n", url, timeout=0.3)
    memory.set("k", 1)
    other = apsw.Connection(str(tmp_path / "a.db"))
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with pytest.raises(Timeout):
        memory.set("k", 2)
    assert time.monotonic() - begun < 4
    assert memory.get("k") == 1  # readers never wait for a writer
    other.execute("ROLLBACK")
    other.close()
    memory.set("k", 3)


def test_a_process_that_holds_the_lock(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    memory = Memory("n", url, timeout=0.3)
    memory.set("k", 1)
    with (tmp_path / "a.db-lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused = []

        def work():
            try:
                memory.set("k", 2)
            except Timeout as error:
                refused.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert time.monotonic() - begun < 4
        assert len(refused) == 4
        assert memory.get("k") == 1
    memory.set("k", 3)
    assert memory.get("k") == 3


@pytest.mark.parametrize("cancel_after", [0, 0.0005, 0.002, 0.01])
def test_cancelling_holds_no_lock(address, namespace, cancel_after):
    async def work():
        async with AsyncMemory(namespace, address, timeout=5) as memory:
            for attempt in range(25):
                task = asyncio.create_task(memory.set_many({f"{attempt}/{part}": part for part in range(3)}))
                await asyncio.sleep(cancel_after)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await memory.set("last", 1)
            keys = await memory.list_keys()
            for attempt in range(25):
                assert len([key for key in keys if key.startswith(f"{attempt}/")]) in {0, 3}

    asyncio.run(work())


def test_the_two_verbs(tmp_path):
    url = f"sqlite:///{tmp_path}/botwire.db"
    operations = [Put("a", encode(1)), Append("s", (NewMessage("id", '"hello"'),))]
    with Memory("n", url) as memory:
        assert memory.write(*operations, idempotency_key="once") == [1, [1]]
        assert memory.write(*operations, idempotency_key="once") == [1, [1]]
        with pytest.raises(InvalidArgument, match="was used for another write"):
            memory.write(Delete("a"), idempotency_key="once")
        with pytest.raises(Conflict):
            memory.write(Put("b", encode(2)), Put("a", encode(2), if_version=0))
        assert memory.read(ListKeys()) == ["a"]
        with pytest.raises(InvalidArgument, match="at most 10,000"):
            memory.write(*[Delete("a")] * 10_001)

    async def awaited():
        async with AsyncMemory("n", url) as memory:
            assert (await memory.read(GetEntry("a"))).value == 1
            assert await memory.write(Delete("a"), Delete("b"), idempotency_key="twice") == [True, False]
            assert await memory.bridge.read(ListKeys()) == []

    asyncio.run(awaited())


def test_a_key_is_in_the_memory_and_not_only_the_beginning_of_one(tmp_path):
    memory = Memory("n", f"sqlite:///{tmp_path}/a.db")
    memory["ab"] = "x"
    memory.set("old", 1, ttl=0.01)
    time.sleep(0.05)
    assert "ab" in memory
    assert "a" not in memory
    assert "abc" not in memory
    assert "old" not in memory
    assert 7 not in memory


def test_a_memory_that_is_closed_ends_its_watches(namespace, address):
    other = Memory(namespace, address)  # which keeps the store open
    memory = Memory(namespace, address)
    ended = []

    def watch():
        try:
            ended.extend(change.key for change in memory.watch())
        except StoreError as error:
            ended.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not ended:  # it has begun
        memory.set("k", 1)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    memory.close()
    thread.join(20)
    assert not thread.is_alive()
    assert "this memory is closed" in str(ended[-1])
    other.close()


def test_an_async_memory_that_is_closed_ends_its_watches(namespace, address):
    async def watch(memory, seen):
        async with memory.watch() as changes:
            async for change in changes:
                seen.append(change.key)

    async def main():
        other, memory, seen = AsyncMemory(namespace, address), AsyncMemory(namespace, address), []
        await other.get("k")  # opens the store, and keeps it open
        task = asyncio.create_task(watch(memory, seen))
        async with asyncio.timeout(20):
            while not seen:
                await memory.set("k", 1)
                await asyncio.sleep(0.1)
            await memory.close()
            with pytest.raises(StoreError, match="this memory is closed"):
                await task
            await other.close()

    asyncio.run(main())


def test_a_long_timeout_is_allowed(namespace, address):
    with Memory(namespace, address, timeout=1e300) as memory:
        memory.set("k", 1)
        assert memory.get("k") == 1


def test_threads_that_create_the_first_memory_at_once(tmp_path):
    """One of them imports asyncio, which the others find half imported."""
    code = (
        "import threading, time\n"
        "from botwire import Memory\n"
        "failed = []\n"
        "def run(number):\n"
        "    time.sleep(number * 0.006)\n"
        f"    try: Memory('n', 'sqlite:///{tmp_path}/a.db').increment('k')\n"
        "    except BaseException as error: failed.append(error)\n"
        "threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(failed, Memory('n', 'sqlite:///" + str(tmp_path) + "/a.db').get('k'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[] 6"


def test_what_is_no_query_and_no_operation_is_refused(memory):
    with pytest.raises(InvalidArgument, match="a query of botwire.queries, not NoneType"):
        memory.read(None)
    with pytest.raises(InvalidArgument, match="operations of botwire.operations, not str"):
        memory.write(Put("k", "1"), "x")
    assert memory.list_keys() == []


def test_an_encryption_key_of_another_type_is_refused():
    with pytest.raises(InvalidArgument, match="make one with generate_key"):
        Memory("n", "sqlite:///:memory:", encryption_key=5)
