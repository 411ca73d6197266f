"""Nothing is deleted from an encrypted session before the client has read and decrypted it."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botwire import AsyncMemory, Conflict, DecryptionError, InvalidArgument, Memory, generate_key
from botwire.operations import Append, Edit, Forget, Fork, NewMessage, Pop, Put, Replace, SetAbout, Summarize
from botwire.queries import GetContext, GetEntry, GetSession, ListMessages
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


# Edits


@pytest.fixture
def filled(store):
    store.write("n", [Append("s", tuple(NewMessage(name, f'"{name}"') for name in "abc"))])
    return store


def messages_of(store, session="s"):
    return [(item.seq, item.id, item.data) for item in store.read("n", ListMessages(session))]


def sealed(store, operation):
    return store._encrypt("n", operation, None)


def test_an_edit_is_for_the_message_that_has_the_seq_when_it_is_written(filled):
    """Another client replaces the message after its id was read."""
    another = sealed(filled, Append("s", (NewMessage("d", '"d"'),)))
    hostile = EncryptedStore(interrupted := Interrupted(filled.store, [Pop("s"), another]), Cipher(OLD))
    hostile.write("n", [Edit("s", 3, '"new"')])
    assert interrupted.writes == []
    assert messages_of(filled) == [(1, "a", "a"), (2, "b", "b"), (3, "d", "new")]


def test_an_edit_after_another_client_has_edited(filled):
    other = Edit("s", 3, sealed(filled, Append("s", (NewMessage("c", '"theirs"'),))).messages[0].stored)
    hostile = EncryptedStore(Interrupted(filled.store, [other]), Cipher(OLD))
    hostile.write("n", [Edit("s", 3, '"ours"')])
    assert messages_of(filled)[2] == (3, "c", "ours")
    version = filled.read("n", ListMessages("s", 2))[0].version
    hostile = EncryptedStore(recorder := Interrupted(filled.store, [other], [other]), Cipher(OLD))
    with pytest.raises(Conflict) as caught:
        hostile.write("n", [Edit("s", 3, '"lost"', if_version=version)])
    assert caught.value.details["version"] > version
    assert recorder.writes == [[other]]  # one attempt
    assert messages_of(filled)[2] == (3, "c", "theirs")


def test_an_edit_when_another_message_has_the_seq_and_the_same_version(filled):
    """The messages of one append have the same version. The text is encrypted for one of them, and no other may get it."""
    kept = sealed(filled, Replace("s", (NewMessage("c", '"c"'),), after=1))
    EncryptedStore(Interrupted(filled.store, [kept]), Cipher(OLD)).write("n", [Edit("s", 2, '"new"')])
    assert messages_of(filled) == [(1, "a", "a"), (2, "c", "new")]
    with pytest.raises(Conflict, match="another id"):
        filled.write("n", [Edit("s", 2, '"lost"', if_id="b")])
    assert messages_of(filled) == [(1, "a", "a"), (2, "c", "new")]


def test_an_edit_of_no_message(filled):
    for session, seq in ("s", 4), ("s", 0), ("none", 1):
        with pytest.raises(InvalidArgument, match=f"has no message {seq}"):
            filled.write("n", [Edit(session, seq, "1")])
    # Another client appends the message in between. It was not known what to encrypt the text for.
    appended = sealed(filled, Append("s", (NewMessage("d", '"d"'),)))
    EncryptedStore(Interrupted(filled.store, [appended]), Cipher(OLD)).write("n", [Edit("s", 4, '"new"')])
    assert messages_of(filled)[3] == (4, "d", "new")


def test_two_edits_of_a_message_in_a_write(filled):
    filled.write("n", [Edit("s", 2, '"one"'), Append("s", (NewMessage("d", '"d"'),)), Edit("s", 2, '"two"')])
    assert messages_of(filled) == [(1, "a", "a"), (2, "b", "two"), (3, "c", "c"), (4, "d", "d")]


@pytest.mark.parametrize(
    ("before", "seq"),
    [
        (Append("s", (NewMessage("d", '"d"'),)), 4),
        (Replace("s", (NewMessage("d", '"d"'),), after=1), 2),
        (Pop("s"), 2),
        (Forget("s"), 1),
        (Fork("t", "s"), 1),
    ],
)
def test_an_edit_of_what_the_write_changes_itself(filled, before, seq):
    with pytest.raises(InvalidArgument, match=f"cannot edit message {seq} of session 's' .*: use two writes"):
        filled.write("n", [before, Edit("s", seq, '"new"')])
    assert [data for *_, data in messages_of(filled)] == ["a", "b", "c"]


def test_a_repeated_edit(filled):
    first = filled.write("n", [Edit("s", 2, '"new"')], idempotency_key="once")
    filled.write("n", [Edit("s", 2, '"newer"')])
    assert filled.write("n", [Edit("s", 2, '"new"')], idempotency_key="once") == first
    assert messages_of(filled)[1] == (2, "b", "newer")


@pytest.mark.parametrize("operation", [Edit("s", 2, "1"), Fork("s", "t")])
def test_a_result_that_is_none_of_the_operation(filled, operation):
    class Liar(Interrupted):
        def write(self, namespace, operations, *, idempotency_key=None):
            return ["1"]

    with pytest.raises(DecryptionError, match=f"no result of an? {type(operation).__name__.lower()}"):
        EncryptedStore(Liar(filled.store), Cipher(OLD)).write("n", [operation])


# Forks


@pytest.fixture
def known(filled):
    """A session with a title and a summary."""
    filled.write("n", [SetAbout("s", '{"title":"T"}', "ada", ("x",)), Summarize("s", 2, '["a and b"]')])
    return filled


def test_a_fork_has_all_of_the_session(known):
    known.write("n", [Edit("s", 2, '"edited"', redacted="why")])
    known.write("n", [Summarize("s", 2, '["a and b"]')])
    assert known.write("n", [Fork("s", "t")]) == [3]
    ours, theirs = (known.read("n", ListMessages(session)) for session in "st")
    assert theirs == ours
    fork = known.read("n", GetSession("t"))
    assert (fork.about.title, fork.about.owner, fork.about.tags, fork.origin) == ("T", "ada", ("x",), ("s", 3))
    assert known.read("n", GetContext("t", 9)).summary == '["a and b"]'
    assert known.write("n", [Fork("s", "one", upto=1)]) == [1]
    assert messages_of(known, "one") == [(1, "a", "a")]
    assert known.read("n", GetContext("one", 9)).summary is None
    # It can be forked again, popped and edited.
    known.write("n", [Fork("t", "u"), Edit("u", 1, '"u"')][:1])
    known.write("n", [Edit("u", 1, '"u"'), Pop("u")])
    assert messages_of(known, "u") == [(1, "a", "u"), (2, "b", "edited")]
    assert messages_of(known)[0] == (1, "a", "a")


def test_a_fork_of_what_another_client_changes(known):
    def hostile(*writes):
        return EncryptedStore(Interrupted(known.store, *writes), Cipher(OLD))

    text = sealed(known, Append("s", (NewMessage("a", '"edited"'),))).messages[0].stored
    hostile([], [], [], [Edit("s", 1, text)], [Pop("s")]).write("n", [Fork("s", "t")])
    assert messages_of(known, "t") == [(1, "a", "edited"), (2, "b", "b")]
    # What is appended in between is not in the fork, and does not delay it.
    appended = [sealed(known, Append("s", (NewMessage(f"{n}", f"{n}"),))) for n in range(8)]
    store = hostile(*([one] for one in appended))
    store.write("n", [Fork("s", "u")])
    assert messages_of(known, "u") == [(1, "a", "edited"), (2, "b", "b")]
    assert store.store.writes
    version = known.read("n", GetSession("s")).version
    with pytest.raises(Conflict) as caught:
        hostile([], [], [Pop("s")]).write("n", [Fork("s", "v", if_version=version)])
    assert caught.value.details["version"] > version
    assert known.read("n", GetSession("v")) is None


class Counting(Interrupted):
    """A store that counts reads and writes."""

    counted = 0

    def read(self, namespace, query):
        self.counted += 1
        return super().read(namespace, query)

    def write(self, namespace, operations, *, idempotency_key=None):
        self.counted += 1
        return super().write(namespace, operations, idempotency_key=idempotency_key)


def test_a_fork_that_is_refused_reads_no_messages(known):
    known.write("n", [Append("t", (NewMessage("1", "1"),))])
    for fork, error, said in (
        (Fork("s", "t"), Conflict, "session 't' exists"),
        (Fork("s", "s"), Conflict, "session 's' exists"),
        (Fork("none", "u"), InvalidArgument, "session 'none' has no message"),
        (Fork("s", "u", upto=4), InvalidArgument, "has no message 4: its last is 3"),
        (Fork("s", "u", upto=0), InvalidArgument, "nothing was written"),
        (Fork("s", "u", if_version=1), Conflict, "nothing was written"),
    ):
        store = Counting(known.store)
        with pytest.raises(error, match=said):
            EncryptedStore(store, Cipher(OLD)).write("n", [fork])
        assert store.counted <= 3
    assert known.read("n", GetSession("u")) is None


def test_a_fork_that_is_too_large(known, monkeypatch):
    preparation = "botwire.stores.wrappers.preparation"
    monkeypatch.setattr(f"{preparation}._PAGE", 1)
    assert known.write("n", [Fork("s", "t")]) == [3]
    monkeypatch.setattr(f"{preparation}.MAX_COPIED", 2)
    assert known.write("n", [Fork("s", "u", upto=2)]) == [2]
    with pytest.raises(InvalidArgument, match="one write may copy 2 messages"):
        known.write("n", [Fork("s", "v")])
    monkeypatch.setattr(f"{preparation}.MAX_COPIED_BYTES", 7)
    with pytest.raises(InvalidArgument, match="with 7 bytes, and session 's' has more up to message 2"):
        known.write("n", [Fork("s", "v", upto=2)])
    assert known.read("n", GetSession("v")) is None


def test_several_operations_and_a_fork(known):
    assert known.write("n", [Fork("s", "t"), Fork("s", "u", 2), Append("t", (NewMessage("d", '"d"'),))]) == [3, 2, [4]]
    known.write("n", [Forget("t"), Fork("s", "t", 1)])
    assert messages_of(known, "t") == [(1, "a", "a")]
    for operations, said in (
        ([Append("s", (NewMessage("d", '"d"'),)), Fork("s", "v")], "change session 's' and then fork it"),
        ([Fork("s", "v"), Fork("v", "w")], "change session 'v' and then fork it"),
        ([Fork("s", "v"), Pop("v")], "fork to session 'v' and pop from it"),
    ):
        with pytest.raises(InvalidArgument, match=f"{said}: use two writes"):
            known.write("n", operations)
    assert known.read("n", GetSession("v")) is None
    assert len(messages_of(known)) == 3


def test_a_repeated_fork(known):
    first = known.write("n", [Fork("s", "t")], idempotency_key="once")
    known.write("n", [Append("s", (NewMessage("d", '"d"'),)), Edit("s", 1, '"edited"')])
    assert known.write("n", [Fork("s", "t")], idempotency_key="once") == first == [3]
    known.write("n", [Forget("s")])
    assert known.write("n", [Fork("s", "t")], idempotency_key="once") == first
    assert messages_of(known, "t") == [(1, "a", "a"), (2, "b", "b"), (3, "c", "c")]


def test_clients_that_edit_pop_append_and_fork_at_once(store):
    """Whatever is written by many: all of it can be decrypted, and a fork has messages of one moment."""
    store.write("n", [Append("s", tuple(NewMessage(str(n), f'"{n}"') for n in range(8)))])

    def edit(worker):
        for number in range(20):
            last = store.read("n", GetSession("s")).messages
            text = f'"{worker}/{number}"'
            try:
                # Both messages are edited in one write, so they have the same text in every fork.
                store.write("n", [Edit("s", 1, text), Edit("s", 2, text)])
                store.write("n", [Edit("s", last, text)])
            except InvalidArgument as error:
                assert "has no message" in str(error)

    def pop(worker):
        for number in range(20):
            popped = store.write("n", [Pop("s", 2)])[0]
            assert len(popped) == 2
            messages = (NewMessage(f"{worker}/{number}/{n}", '"new"') for n in range(2))
            store.write("n", [Append("s", tuple(messages))])

    def fork(_):
        for number in range(10):
            store.write("n", [Fork("s", f"fork {number}", upto=3)])
            first, second, _ = messages_of(store, f"fork {number}")
            assert first[2] == second[2] or number == 0 or (first[2], second[2]) == ("0", "1")

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, name) for name, work in enumerate((edit, edit, pop, fork))]:
            done.result()
    assert len(messages_of(store)) == 8


IDS = st.sampled_from("abcdef")
SESSIONS = st.sampled_from("st")
SEQS = st.integers(0, 5)
MESSAGES = st.lists(IDS, max_size=4).map(lambda ids: tuple(NewMessage(name, f'"{name}"') for name in ids))
OPERATIONS = st.one_of(
    st.builds(Append, SESSIONS, MESSAGES),
    st.builds(Pop, SESSIONS, st.integers(0, 5)),
    st.builds(Forget, SESSIONS),
    st.builds(Replace, SESSIONS, MESSAGES, SEQS),
    st.builds(Edit, SESSIONS, SEQS, IDS.map(lambda name: f'"edited {name}"')),
    st.builds(Fork, SESSIONS, SESSIONS, st.none() | SEQS),
    st.builds(SetAbout, SESSIONS, st.sampled_from(["", '{"title":"T"}'])),
    st.builds(Summarize, SESSIONS, SEQS, st.just('["summary"]')),
)


def applied(store, operations):
    """Return the results without times, or an error."""
    try:
        results = store.write("n", operations)
    except (Conflict, InvalidArgument) as error:
        return "use two writes" if error.message.endswith("use two writes") else "refused"
    return [
        [(item.seq, item.id, item.data) if isinstance(item, Message) else item for item in result]
        if isinstance(result, list)
        else None
        if isinstance(operation, Edit)
        else result
        for operation, result in zip(operations, results, strict=True)
    ]


def state_of(store, session):
    found, context = store.read("n", GetSession(session)), store.read("n", GetContext(session, 9, head=9))
    about = found and (found.messages, found.version, found.about, found.origin, found.summarized)
    return about, context.summary, [(item.id, item.data) for item in context.head], messages_of(store, session)


@given(st.lists(st.lists(OPERATIONS, min_size=1, max_size=6), max_size=8))
@settings(max_examples=60, deadline=None)
def test_several_operations_on_a_session_in_one_write(writes):
    """Encryption changes no result, whatever the operations of a write are."""
    plain, encrypted = SqliteStore(":memory:"), EncryptedStore(SqliteStore(":memory:"), Cipher(OLD))
    try:
        for operations in writes:
            results = applied(encrypted, operations)
            if results != "use two writes":
                assert results == applied(plain, operations)
        for session in "st":
            assert state_of(encrypted, session) == state_of(plain, session)
    finally:
        plain.close()
        encrypted.close()
