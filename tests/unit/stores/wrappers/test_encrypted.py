"""Encryption: what the database sees, and what it cannot change without an error."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import typing

import msgspec
import pytest

from botwire import (
    AsyncMemory,
    BotWireChatHistory,
    DecryptionError,
    InvalidArgument,
    InvalidValue,
    Memory,
    StoreError,
    Unavailable,
    generate_key,
)
from botwire.operations import (
    Append,
    Clear,
    Delete,
    Expire,
    Forget,
    Fork,
    Increment,
    NewMessage,
    Operation,
    Pop,
    Put,
    SetAbout,
)
from botwire.queries import GetEntry, ListMessages, Query
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore
from tests.unit.stores.wrappers.samples import BEFORE, OPERATIONS, QUERIES


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/a.db"


@pytest.fixture
def database(url):
    store = SqliteStore(url.removeprefix("sqlite:///"))
    yield store
    store.close()


def test_nothing_readable_is_in_the_file(url, tmp_path):
    key = generate_key()
    with Memory("n", url, encryption_key=key) as memory:
        memory.set("k", {"secret": "vAlUe-sEcReT"})
        memory.set("b", b"bYtEs-sEcReT")
        memory.history("s").append([{"content": "mEsSaGe-sEcReT"}])
    history = BotWireChatHistory("chat", "n", url, encryption_key=key)
    history.add_user_message("cHaT-sEcReT")
    assert [message.content for message in history.messages] == ["cHaT-sEcReT"]
    assert [message.content for message in asyncio.run(history.aget_messages())] == ["cHaT-sEcReT"]
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"sEcReT" not in data
    assert key.encode() not in data
    with Memory("n", url, encryption_key=key) as memory:
        assert (memory["k"], memory["b"]) == ({"secret": "vAlUe-sEcReT"}, b"bYtEs-sEcReT")
        assert memory.keys() == ["b", "k"]
        assert [message.data for message in memory.history("s").messages()] == [{"content": "mEsSaGe-sEcReT"}]


def test_a_server_sees_no_value(server):
    key = generate_key()
    memory = Memory("n", server.url, encryption_key=key)
    memory.set("k", [1, "two"])
    memory.history("s").append(["hello"])
    assert memory["k"] == [1, "two"]
    assert [message.data for message in memory.history("s").messages(last=1)] == ["hello"]
    assert memory.increment("n", 2) == 2
    seen = Memory("n", server.url)
    assert isinstance(seen["k"], bytes)
    assert "hello" not in str(seen.history("s").messages())

    async def main():
        async with AsyncMemory("n", server.url, encryption_key=key) as other:
            assert await other.get("k") == [1, "two"]
            assert await other.increment("n") == 3
            assert [message.data async for message in other.history("s")] == ["hello"]
            assert await other.reencrypt() == 0

    asyncio.run(main())


def test_the_same_value_is_encrypted_differently_each_time(url, database):
    memory = Memory("n", url, encryption_key=generate_key())
    seen = set()
    for _ in range(20):
        memory["k"] = 1
        seen.add(database.read("n", GetEntry("k")).stored)
    assert len(seen) == 20


def test_another_key_decrypts_nothing(url):
    with Memory("n", url, encryption_key=generate_key()) as memory:
        memory["k"] = 1
        memory.history("s").append(["hello"])
    other = Memory("n", url, encryption_key=generate_key())
    for read in (
        lambda: other["k"],
        other.items,
        lambda: other.get_many(["k"]),
        lambda: other.increment("k"),
    ):
        with pytest.raises(DecryptionError, match=r"key 'k': .*encrypted with another key: add that one"):
            read()
    with pytest.raises(DecryptionError, match="message 1 of the session"):
        other.history("s").messages()
    assert other.keys() == ["k"]
    assert issubclass(DecryptionError, StoreError)


def test_what_is_not_encrypted_is_refused(url):
    with Memory("n", url) as plain:
        plain.set_many({"json": {"a": 1}, "bytes": b"\x01\x00", "empty": b""})
        plain.history("s").append(["hello", {"botwire": 1}])
    memory = Memory("n", url, encryption_key=generate_key())
    for key in ("json", "bytes", "empty"):
        with pytest.raises(DecryptionError, match="not encrypted"):
            memory.get(key)
    with pytest.raises(DecryptionError, match="not encrypted"):
        memory.history("s").messages()


def tampered(database, key, change):
    entry = database.read("n", GetEntry(key))
    database.write("n", [Put(key, change(entry.stored))])


@pytest.mark.parametrize(
    "change",
    [
        lambda encrypted: encrypted[:-1],
        lambda encrypted: encrypted[:20],
        lambda encrypted: encrypted + b"\0",
        lambda encrypted: bytes([2]) + encrypted[1:],
        lambda encrypted: encrypted[:1] + bytes([encrypted[1] ^ 1]) + encrypted[2:],
        lambda encrypted: encrypted[:15] + bytes([encrypted[15] ^ 1]) + encrypted[16:],
        lambda encrypted: encrypted[:25] + bytes([encrypted[25] ^ 1]) + encrypted[26:],
        lambda encrypted: "1",
    ],
    ids=["cut", "cut short", "longer", "another format", "another kind", "another nonce", "another text", "plain"],
)
def test_a_value_that_was_changed(url, database, change):
    memory = Memory("n", url, encryption_key=generate_key())
    memory["k"] = {"a": "value"}
    assert memory["k"] == {"a": "value"}
    tampered(database, "k", change)
    with pytest.raises(DecryptionError):
        memory.get("k")


def test_a_value_that_was_moved(url, database):
    key = generate_key()
    memory, other = Memory("n", url, encryption_key=key), Memory("other", url, encryption_key=key)
    memory.set_many({"a": 1, "b": 2})
    encrypted = database.read("n", GetEntry("a")).stored
    database.write("n", [Put("b", encrypted)])
    database.write("other", [Put("a", encrypted)])
    with pytest.raises(DecryptionError, match="belongs to another place"):
        memory.get("b")
    with pytest.raises(DecryptionError, match="belongs to another place"):
        other.get("a")
    assert memory["a"] == 1


def test_a_message_that_was_moved(url, database):
    key = generate_key()
    memory = Memory("n", url, encryption_key=key)
    memory.history("s").append(["one", "two"], ids=["1", "2"])
    one, _ = database.read("n", ListMessages("s"))
    as_value = msgspec.json.decode(one.stored)
    for session, identity in (("other", "1"), ("s", "3")):
        database.write("n", [Append(session, (NewMessage(identity, one.stored),))])
        with pytest.raises(DecryptionError, match="belongs to another place"):
            memory.history(session).messages()
    import base64

    database.write("n", [Put("s", base64.b64decode(as_value))])
    with pytest.raises(DecryptionError, match="belongs to another place"):
        memory.get("s")


class Liar:
    """A store that answers with another entry than the one asked for."""

    address = "liar:"

    def __init__(self, store):
        self.store = store

    def read(self, namespace, query):
        return self.store.read(namespace, GetEntry("b"))

    def close(self):
        pass


def test_another_entry_than_asked(database):
    cipher = Cipher(generate_key())
    EncryptedStore(database, cipher).write("n", [Put("a", "1"), Put("b", "2")])
    with pytest.raises(DecryptionError, match="answered with key 'b' instead of key 'a'"):
        EncryptedStore(Liar(database), cipher).read("n", GetEntry("a"))


def test_rotation(url, database):
    old, new = generate_key(), generate_key()
    with Memory("n", url, encryption_key=old) as memory:
        memory.set_many({f"k{n}": n for n in range(250)})
        memory.set("gone", 1, ttl=1000)
        memory.history("s").append(["old"])
    with Memory("n", url, encryption_key=[new, old]) as memory:
        memory["new"] = "new"
        memory.history("s").append(["new"])
        assert memory["k7"] == 7
        expires = memory.entry("gone").expires_at
        assert memory.reencrypt() == 251
        assert memory.reencrypt() == 0
        assert memory.entry("gone").expires_at == expires
    with Memory("n", url, encryption_key=new) as memory:
        assert dict(memory.items("k")) == {f"k{n}": n for n in range(250)}
        assert memory["new"] == "new"
        with pytest.raises(DecryptionError, match="message 1"):
            memory.history("s").messages()
    with Memory("n", url, encryption_key=[new, old]) as memory:
        assert [message.data for message in memory.history("s").messages()] == ["old", "new"]


def test_what_was_plain_can_be_encrypted(url):
    with Memory("n", url) as plain:
        plain.set_many({"a": {"x": 1}, "b": b"bytes"})
        with pytest.raises(InvalidArgument, match="no encryption_key"):
            plain.reencrypt()
    memory = Memory("n", url, encryption_key=generate_key())
    with pytest.raises(DecryptionError):
        memory.reencrypt()
    assert memory.reencrypt(plain=True) == 2
    assert dict(memory.items()) == {"a": {"x": 1}, "b": b"bytes"}


LOOKS_ENCRYPTED = b"\x01\x00" + b"z" * 60


@pytest.mark.parametrize("awaited", [False, True])
def test_reencrypting_continues_after_what_it_cannot_decrypt(url, database, awaited):
    old, new, lost = generate_key(), generate_key(), generate_key()
    with Memory("n", url) as plain:
        plain.set_many({"a": LOOKS_ENCRYPTED, "b": "text", "z": b"bytes"})
    for key, secret in (("c", lost), ("d", old)):
        with Memory("n", url, encryption_key=secret) as memory:
            memory[key] = key
    # Someone wrote a value that begins like one under the new key.
    database.write("n", [Put("forged", Cipher(new).encrypt("1", b"another place"))])
    before = {key: database.read("n", GetEntry(key)) for key in ("a", "c", "forged")}
    message = "3 values cannot be decrypted .*: 'a', 'c', 'forged'. 3 others were encrypted again"

    async def reencrypt():
        async with AsyncMemory("n", url, encryption_key=[new, old]) as other:
            await other.reencrypt(plain=True)

    with Memory("n", url, encryption_key=[new, old]) as memory:
        with pytest.raises(DecryptionError, match=message) as caught:
            asyncio.run(reencrypt()) if awaited else memory.reencrypt(plain=True)
        assert caught.value.details == {"keys": ["a", "c", "forged"], "changed": 3}
        with pytest.raises(DecryptionError, match="0 others were encrypted again"):
            memory.reencrypt()
    assert {key: database.read("n", GetEntry(key)) for key in before} == before
    with Memory("n", url, encryption_key=new) as memory:
        assert memory.get_many(["b", "d", "z"]) == {"b": "text", "d": "d", "z": b"bytes"}
        memory["a"] = LOOKS_ENCRYPTED  # as the error says
    with Memory("n", url, encryption_key=[new, lost]) as memory:
        memory.delete("forged")
        assert memory.reencrypt() == 1


class Failing:
    """A store that fails at a write, as a server that goes away."""

    def __init__(self, store, writes):
        self.store = store
        self.left = writes

    def read(self, namespace, query):
        return self.store.read(namespace, query)

    def write(self, namespace, operations, *, idempotency_key=None):
        self.left -= 1
        if self.left < 0:
            raise Unavailable("it is gone")
        return self.store.write(namespace, operations, idempotency_key=idempotency_key)


@pytest.mark.parametrize("plain", [False, True])
def test_an_interrupted_run_continues(database, plain):
    old, new = generate_key(), generate_key()
    before = database if plain else EncryptedStore(database, Cipher(old))
    before.write("n", [Put(f"k{n:03}", str(n)) for n in range(250)])
    done = 0
    for writes in (1, 120, 60):
        with pytest.raises(Unavailable):
            EncryptedStore(Failing(database, writes), Cipher([new, old])).reencrypt("n", plain=plain)
        done += writes
    assert EncryptedStore(database, Cipher([new, old])).reencrypt("n", plain=plain) == 250 - done
    after = EncryptedStore(database, Cipher(new))
    assert [after.read("n", GetEntry(f"k{n:03}")).value for n in range(250)] == list(range(250))


def test_reencrypting_loses_no_write(url):
    old, new = generate_key(), generate_key()
    with Memory("n", url, encryption_key=old) as memory:
        memory.set_many({f"k{n}": 0 for n in range(50)})
    done = threading.Event()

    def write():
        with Memory("n", url, encryption_key=[old, new]) as memory:
            while not done.is_set():
                for n in range(50):
                    memory.increment(f"k{n}")
                    sums[n] += 1

    sums = [0] * 50
    thread = threading.Thread(target=write)
    thread.start()
    with Memory("n", url, encryption_key=[new, old]) as memory:
        while min(sums) < 2:
            memory.reencrypt()
        done.set()
        thread.join()
        assert [memory[f"k{n}"] for n in range(50)] == sums


def test_keys():
    key = generate_key()
    assert key != generate_key()
    encrypted = Cipher(key).encrypt("1", b"place")
    assert Cipher([b"x" * 32, key]).decrypt(encrypted, b"place") == "1"
    assert len(encrypted) == 38 + 1
    for wrong in ("", "secret", key[:-1], key + "x", "bwk_" + "!" * 43, b"short", [], [key, None], [key, "x"]):
        with pytest.raises(InvalidArgument, match="key"):
            Cipher(wrong)


def test_what_is_too_large_when_encrypted(url):
    memory = Memory("n", url, encryption_key=generate_key())
    memory["most"] = b"x" * (16 * 1024 * 1024 - 38)
    with pytest.raises(InvalidValue, match="when encrypted"):
        memory["k"] = b"x" * (16 * 1024 * 1024 - 37)
    with pytest.raises(InvalidValue, match="when encrypted"):
        memory.history("s").append(["x" * (13 * 1024 * 1024)])


def test_unknown_operations_and_queries_are_refused(database):
    class Peek(msgspec.Struct):
        key: str

    store = EncryptedStore(database, Cipher(generate_key()))
    with pytest.raises(InvalidArgument, match="Peek does not work on encrypted"):
        store.read("n", Peek("k"))
    with pytest.raises(InvalidArgument, match="Peek does not work on encrypted"):
        store.write("n", [Peek("k")])


class Recorder:
    """A store that records what is written to another one."""

    def __init__(self, store):
        self.store = store
        self.written = []

    def read(self, namespace, query):
        return self.store.read(namespace, query)

    def write(self, namespace, operations, *, idempotency_key=None):
        self.written += operations
        return self.store.write(namespace, operations, idempotency_key=idempotency_key)


def test_every_operation_is_encrypted_or_refused_as_it_says(database):
    """A new operation fails here until its `values` is set, and its values are encrypted or it is refused."""
    assert set(OPERATIONS) == set(typing.get_args(Operation))
    cipher = Cipher(generate_key())
    for number, (kind, operation) in enumerate(OPERATIONS.items()):
        namespace = f"n{number}"
        store = EncryptedStore(recorder := Recorder(database), cipher)
        store.write(namespace, BEFORE)
        recorder.written.clear()
        if vars(kind)["values"] == "plain":
            with pytest.raises(InvalidArgument, match=f"{kind.__name__} does not work on encrypted"):
                store.write(namespace, [operation])
            assert recorder.written == []
            continue
        store.write(namespace, [operation])
        (written,) = recorder.written
        match vars(kind)["values"]:
            case "none":
                assert written == operation
            case "returned":
                assert is_what_was_read(operation, written)
            case "sealed":
                assert type(written) is kind
                assert is_encrypted(operation, written)
            case "computed":
                assert type(written) is Put
                assert cipher.is_current(written.stored)


def is_what_was_read(operation, written):
    if isinstance(operation, Pop):
        return written == Pop(operation.session, if_ids=("before",))
    (copy,) = written.copies.messages
    assert is_encrypted(NewMessage(copy.id, "0"), copy)
    return written == Fork("s", "t", upto=1, if_version=written.if_version, copies=written.copies)


def is_encrypted(operation, written):
    for one, other in zip([operation, *messages_of(operation)], [written, *messages_of(written)], strict=True):
        if hasattr(one, "stored") and (one.stored == other.stored or len(other.stored) < 38):
            return False
    return True


def messages_of(operation):
    return getattr(operation, "messages", ())


def test_every_query_is_decrypted_or_refused_as_it_says(database):
    assert set(QUERIES) == set(Query.__subclasses__())
    store = EncryptedStore(database, Cipher(generate_key()))
    store.write("n", [Put("k", '"vAlUe"'), Append("s", (NewMessage("i", '"vAlUe"'),))])
    store.write("n", [SetAbout("s", '{"title":"vAlUe"}')])
    for kind, query in QUERIES.items():
        if vars(kind)["values"] == "plain":
            with pytest.raises(InvalidArgument, match=f"{kind.__name__} does not work on encrypted"):
                store.read("n", query)
            continue
        found = store.read("n", query)
        assert (b"vAlUe" in msgspec.json.encode(found)) == (kind.values == "sealed"), kind


def test_results_of_operations_are_decrypted(database):
    store = EncryptedStore(database, Cipher(generate_key()))
    message = NewMessage("i", '"vAlUe"')
    operations = [OPERATIONS[kind] for kind in (Put, Delete, Increment, Append, Clear, Forget, Expire)]
    assert store.write("n", [*operations, Append("s", (message,)), Pop("s")])[:-1] == [
        1,
        True,
        2,
        [1],
        1,
        1,
        False,
        [1],
    ]
    ((popped,),) = store.write("n", [Append("s", (message,)), Pop("s")])[1:]
    assert popped.data == "vAlUe"


def test_without_the_package():
    code = (
        "import sys; sys.modules['cryptography'] = None; sys.modules['cryptography.exceptions'] = None\n"
        "import botwire\n"
        "botwire.Memory('n', 'sqlite:///:memory:')\n"
        "try: botwire.Memory('n', 'sqlite:///:memory:', encryption_key=b'x' * 32)\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "encryption_key needs the cryptography package: pip install 'botwire[encryption]'\n", (
        done.stderr
    )


def test_a_repeat_under_an_idempotency_key_has_the_same_bytes():
    """Anything else has another nonce: one that is used for two values would reveal both."""
    cipher = Cipher(key := generate_key())
    encrypted = [
        cipher.encrypt(stored, place, idempotency_key)
        for stored in ('"a"', '"b"', b'"a"')
        for place in (b"place", b"another")
        for idempotency_key in ("one", "two", None, None)
    ]
    nonces = {text[10:22] for text in encrypted}
    assert len(nonces) == len(encrypted)
    again = Cipher([key, generate_key()]).encrypt('"a"', b"place", "one")
    assert again == encrypted[0]
    assert cipher.decrypt(again, b"place") == '"a"'


def test_a_repeat_of_an_encrypted_write_is_recognized(tmp_path):
    store = EncryptedStore(SqliteStore(tmp_path / "a.db"), Cipher(generate_key()))
    write = [Put("k", "1"), Put("b", b"1"), Append("s", (NewMessage("i", "2"),))]
    first = store.write("n", write, idempotency_key="one")
    assert store.write("n", write, idempotency_key="one") == first
    with pytest.raises(InvalidArgument):
        store.write("n", [Put("k", "2"), *write[1:]], idempotency_key="one")
    store.close()
