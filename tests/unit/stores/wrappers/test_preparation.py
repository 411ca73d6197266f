"""Nothing is deleted from an encrypted session before the client has read and decrypted it."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botwire import AsyncMemory, Conflict, DecryptionError, Memory, generate_key
from botwire.operations import Append, Forget, NewMessage, Pop, Put
from botwire.queries import GetEntry, ListMessages
from botwire.records import Message
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore
from botwire.timestamps import new_id

OLD, NEW = generate_key(), generate_key()


@pytest.fixture(params=["file", "server"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/a.db" if request.param == "file" else request.getfixturevalue("shared_server").url


@pytest.fixture
def namespace():
    return new_id()


@pytest.fixture
def owner(url, namespace):
    """A memory with a session of three messages under the old key."""
    with Memory(namespace, url, encryption_key=OLD) as memory:
        memory.history("s").append(["one", "two", "three"], ids=["1", "2", "3"])
        yield memory


def data_of(memory):
    return [message.data for message in memory.history("s").messages()]


POPS = [
    lambda memory: memory.history("s").pop(1),
    lambda memory: memory.history("s").pop(10_000),
    lambda memory: memory.write(Pop("s", 2), Put("k", "1")),
    lambda memory: memory.write(Put("k", "1"), Pop("s")),
    lambda memory: memory.write(Pop("s", 1, ("3",))),
    lambda memory: memory.write(Pop("s"), idempotency_key="once"),
    lambda memory: memory.write(Append("s", (NewMessage("4", '"four"'),)), Pop("s", 2)),
    lambda memory: memory.write(Pop("s"), Forget("s")),
]


@pytest.mark.parametrize("pop", POPS)
def test_a_pop_with_another_key_deletes_nothing(url, namespace, owner, pop):
    with Memory(namespace, url, encryption_key=NEW) as other:
        with pytest.raises(DecryptionError, match=r"message \d of the session: .* encrypted with another key"):
            pop(other)
        assert other.list_keys() == []
    assert data_of(owner) == ["one", "two", "three"]


@pytest.mark.parametrize("pop", POPS)
def test_an_awaited_pop_with_another_key_deletes_nothing(url, namespace, owner, pop):
    async def run():
        async with AsyncMemory(namespace, url, encryption_key=NEW) as other:
            with pytest.raises(DecryptionError, match=r"message \d of the session"):
                await pop(other)

    asyncio.run(run())
    assert data_of(owner) == ["one", "two", "three"]


def test_a_pop_takes_all_or_none(url, namespace, owner):
    with Memory(namespace, url, encryption_key=NEW) as other:
        other.history("s").append(["four"])
        with pytest.raises(DecryptionError, match="message 3"):
            other.history("s").pop(2)
        assert [message.data for message in other.history("s").pop(1)] == ["four"]
    assert data_of(owner) == ["one", "two", "three"]


@pytest.mark.parametrize("first_byte", [2, 255])
def test_a_message_of_a_later_version_is_not_popped(url, namespace, owner, first_byte):
    plain = Memory(namespace, url)
    ((last,),) = plain.write(Pop("s"))
    encrypted = bytearray(base64.b64decode(last.data))
    encrypted[0] = first_byte
    later = f'"{base64.b64encode(encrypted).decode()}"'
    plain.write(Append("s", (NewMessage(last.id, later),)))
    with pytest.raises(DecryptionError, match="message 3"):
        owner.history("s").pop()
    assert plain.history("s").messages()[-1].stored == later


def test_callers_that_pop_and_append_at_once(url, namespace, owner):
    """Each message is popped once, in threads and on an event loop, at whatever store."""
    history = owner.history("s")
    history.append([str(number) for number in range(24)])

    def pop(worker):
        found = []
        for number in range(6):
            found += history.pop(1)
            history.append([f"{worker}/{number}"])
            found += history.pop(2)
        return found

    async def pop_awaited():
        async with AsyncMemory(namespace, url, encryption_key=OLD) as memory:
            popped = await asyncio.gather(*(memory.history("s").pop() for _ in range(6)))
            return [message for messages in popped for message in messages]

    with ThreadPoolExecutor(3) as threads:
        work = [threads.submit(pop, 1), threads.submit(pop, 2), threads.submit(asyncio.run, pop_awaited())]
        popped = [message.data for done in work for message in done.result()]
    left = data_of(owner)
    appended = [f"{worker}/{number}" for worker in (1, 2) for number in range(6)]
    expected = ["one", "two", "three", *(str(number) for number in range(24)), *appended]
    assert sorted(popped + left) == sorted(expected)


@pytest.mark.parametrize("since", [(), ("five", "six")], ids=["nothing", "messages"])
def test_a_repeat_after_a_crash_returns_what_was_popped(url, namespace, owner, since):
    """The first call was killed before it got its answer. The second one reads other messages before it asks again."""
    first = owner.write(Pop("s", 2), idempotency_key="once")
    owner.history("s").append(list(since))
    with Memory(namespace, url, encryption_key=OLD) as again:
        assert again.write(Pop("s", 2), idempotency_key="once") == first
    assert [message.id for message in first[0]] == ["2", "3"]
    assert data_of(owner) == ["one", *since]


class Interrupted:
    """A store in which another client writes after each of the first reads."""

    def __init__(self, store, *writes):
        self.store = store
        self.writes = list(writes)

    def read(self, namespace, query):
        found = self.store.read(namespace, query)
        if self.writes:
            self.store.write(namespace, self.writes.pop(0))
        return found

    def write(self, namespace, operations, *, idempotency_key=None):
        return self.store.write(namespace, operations, idempotency_key=idempotency_key)


@pytest.fixture
def store(tmp_path):
    store = EncryptedStore(SqliteStore(tmp_path / "a.db"), Cipher(OLD))
    yield store
    store.close()


def test_what_others_change_since_it_was_read_is_read_again(store):
    store.write("n", [Append("s", tuple(NewMessage(name, f'"{name}"') for name in "abcd"))])
    sealed = store._encrypt("n", Append("s", (NewMessage("e", '"e"'),)), None)
    hostile = EncryptedStore(Interrupted(store.store, [Pop("s")], [sealed], [Pop("s"), Pop("s")]), Cipher(OLD))
    ((popped,),) = hostile.write("n", [Pop("s")])
    assert popped.id == "b"
    assert [message.id for message in store.read("n", ListMessages("s"))] == ["a"]


def test_the_callers_own_condition_holds(store):
    store.write("n", [Append("s", tuple(NewMessage(name, f'"{name}"') for name in "abc"))])
    for ids in (("b",), ("b", "c", "d"), ()):
        with pytest.raises(Conflict, match="does not end with the messages expected"):
            store.write("n", [Put("k", "1"), Pop("s", 1, ids)])
    interrupted = EncryptedStore(Interrupted(store.store, [Pop("s")]), Cipher(OLD))
    with pytest.raises(Conflict, match="does not end with the messages expected"):
        interrupted.write("n", [Pop("s", 1, ("c",))])
    assert [message.id for message in store.read("n", ListMessages("s"))] == ["a", "b"]
    assert store.read("n", GetEntry("k")) is None


def test_a_conflict_of_another_operation_is_not_tried_again(store):
    store.write("n", [Append("s", (NewMessage("a", "1"),)), Put("k", "1")])
    with pytest.raises(Conflict, match="key 'k'"):
        store.write("n", [Pop("s"), Put("k", "2", if_version=0)])
    assert len(store.read("n", ListMessages("s"))) == 1


IDS = st.sampled_from("abcdef")
SESSIONS = st.sampled_from("st")
OPERATIONS = st.one_of(
    st.builds(
        lambda session, ids: Append(session, tuple(NewMessage(name, f'"{name}"') for name in ids)),
        SESSIONS,
        st.lists(IDS, max_size=4),
    ),
    st.builds(Pop, SESSIONS, st.integers(0, 5)),
    st.builds(Forget, SESSIONS),
)


def shown(results):
    """Return results without times."""
    return [
        [(item.seq, item.id, item.data) if isinstance(item, Message) else item for item in result]
        if isinstance(result, list)
        else result
        for result in results
    ]


@given(st.lists(st.lists(OPERATIONS, min_size=1, max_size=6), max_size=5))
@settings(max_examples=30, deadline=None)
def test_several_operations_on_a_session_in_one_write(writes):
    """Encryption changes no result, whatever the operations of a write are."""
    plain, encrypted = SqliteStore(":memory:"), EncryptedStore(SqliteStore(":memory:"), Cipher(OLD))
    try:
        for operations in writes:
            assert shown(encrypted.write("n", operations)) == shown(plain.write("n", operations))
        for session in "st":
            query = ListMessages(session)
            assert shown([encrypted.read("n", query)]) == shown([plain.read("n", query)])
    finally:
        plain.close()
        encrypted.close()
