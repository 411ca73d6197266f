"""Sessions of an encrypted memory: what the store sees of them, and what it cannot move to another place."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from botwire import AsyncMemory, Conflict, DecryptionError, InvalidArgument, Memory, generate_key
from botwire.limits import MAX_ABOUT_BYTES
from botwire.operations import Append, Copies, Edit, Fork, NewMessage, Replace, SetAbout, SetExpiry, Summarize
from botwire.queries import GetContext, GetSession, ListChanges, ListMessages, ListSessions
from botwire.stores.http.store import HttpStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.stores.wrappers.cipher import Cipher
from botwire.stores.wrappers.encrypted import EncryptedStore
from botwire.values import encode_json

KEY = generate_key()
ABOUT = '{"title":"sEcReT title","data":{"customer":"sEcReT data"}}'


@pytest.fixture
def beneath():
    store = SqliteStore(":memory:")
    yield store
    store.close()


@pytest.fixture
def store(beneath):
    return EncryptedStore(beneath, Cipher(KEY))


@pytest.fixture
def filled(store):
    """Two sessions with three messages, a title, tags and a summary each."""
    for session in "s", "t":
        messages = tuple(NewMessage(str(n), encode_json(f"sEcReT {session} {n}")) for n in (1, 2, 3))
        store.write("n", [Append(session, messages), SetAbout(session, ABOUT, "ada", ("red", session))])
        store.write("n", [Summarize(session, 2, encode_json([f"sEcReT summary of {session}"]))])
    return store


def data_of(store, session="s"):
    return [message.data for message in store.read("n", ListMessages(session))]


def test_the_store_sees_no_text_of_a_session(tmp_path):
    store = EncryptedStore(SqliteStore(tmp_path / "a.db"), Cipher(KEY))
    store.write("n", [Append("s", (NewMessage("1", '"sEcReT"'), NewMessage("2", '"sEcReT"')))])
    for operation in (
        SetAbout("s", ABOUT, "an-owner", ("a-tag",)),
        Summarize("s", 1, '["sEcReT"]'),
        Edit("s", 2, '"sEcReT edit"', redacted="a-reason"),
        Fork("s", "t"),
        Replace("s", (NewMessage("3", '"sEcReT"'),), after=1),
    ):
        store.write("n", [operation])
    store.close()
    seen = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"sEcReT" not in seen
    for name in (b"an-owner", b"a-tag", b"a-reason"):  # as SECURITY.md says
        assert name in seen


def test_all_of_a_session_is_decrypted(filled):
    session = filled.read("n", GetSession("s", preview=True))
    assert (session.about.title, session.about.data) == ("sEcReT title", {"customer": "sEcReT data"})
    assert (session.about.owner, session.about.tags) == ("ada", ("red", "s"))
    assert session.preview.data == "sEcReT s 3"
    listed = filled.read("n", ListSessions(preview=True))
    assert [(item.name, item.about.title, item.preview.data) for item in listed] == [
        ("t", "sEcReT title", "sEcReT t 3"),
        ("s", "sEcReT title", "sEcReT s 3"),
    ]
    context = filled.read("n", GetContext("s", 5, head=1))
    assert msgspec.json.decode(context.summary) == ["sEcReT summary of s"]
    assert [item.data for item in context.head] == ["sEcReT s 1"]
    assert [item.data for item in context.messages] == ["sEcReT s 3"]
    assert filled.read("n", GetContext("none", 5)).summary is None


def test_sessions_without_details(store):
    store.write("n", [Append("s", (NewMessage("1", "1"),), ttl=60.0), SetAbout("t", "", "ada")])
    session = store.read("n", ListSessions(preview=True))[0]
    assert (session.name, session.about.title, session.preview) == ("t", None, None)
    assert store.read("n", GetSession("s")).expires is not None
    store.write("n", [SetExpiry("s")])
    assert store.read("n", GetSession("s")).expires is None


def test_a_summary_can_be_deleted(filled):
    filled.write("n", [Summarize("s", 0, "[]")])
    assert filled.read("n", GetContext("s", 5)).summary is None
    for upto, stored in (2, "[]"), (0, '["text"]'):
        with pytest.raises(InvalidArgument, match=f"upto is {upto}"):
            filled.write("n", [Summarize("s", upto, stored)])
    assert filled.read("n", GetContext("s", 5)).summary is None


def test_filters_use_what_is_not_encrypted(filled):
    def names(**query):
        return [session.name for session in filled.read("n", ListSessions(**query))]

    filled.write("n", [SetAbout("t", ABOUT, "grace", ("blue",))])
    assert names(where={"owner": "ada"}) == ["s"]
    assert names(where={"tags.0": "blue", "owner": "grace"}) == ["t"]
    assert names(tag="red") == ["s"]
    for path in ("title", "data.customer", "data", "ownership", "tag"):
        with pytest.raises(
            InvalidArgument, match=f"where cannot have '{path}' in an encrypted memory: titles and data"
        ):
            names(where={"owner": "ada", path: "sEcReT title"})


def test_the_largest_title_and_data(store):
    stored = encode_json({"title": None, "data": {"x": "y" * (MAX_ABOUT_BYTES - 30)}})
    store.write("n", [SetAbout("s", stored)])
    assert store.read("n", GetSession("s")).about.stored == stored


def test_over_a_server(server):
    beneath = HttpStore(server.url)
    store = EncryptedStore(beneath, Cipher(KEY))
    messages = tuple(NewMessage(f"{n}", encode_json(f"sEcReT {n}")) for n in range(12_000))
    largest = encode_json({"title": None, "data": {"x": "y" * (MAX_ABOUT_BYTES - 60)}})
    for part in messages[:9_000], messages[9_000:]:
        store.write("n", [Append("s", part)])
    store.write("n", [SetAbout("s", largest, "ada", ("red",)), Edit("s", 2, '"sEcReT edit"', redacted="why")])
    store.write("n", [Summarize("s", 11_000, '["sEcReT summary"]')])
    assert store.write("n", [Fork("s", "t")]) == [12_000]
    store.write("n", [Replace("t", (NewMessage("a", '"sEcReT a"'),), after=11_999)])
    assert store.read("n", ListMessages("t")) == [
        *store.read("n", ListMessages("s"))[:11_999],
        *store.read("n", ListMessages("t", last=1)),
    ]
    fork = store.read("n", GetSession("t", preview=True))
    assert (fork.about.stored, fork.about.owner, fork.origin) == (largest, "ada", ("s", 12_000))
    assert fork.preview.data == "sEcReT a"
    context = store.read("n", GetContext("t", 5, head=2))
    assert (context.summary, context.head[1].data, context.head[1].redacted) == (
        '["sEcReT summary"]',
        "sEcReT edit",
        "why",
    )
    assert [item.name for item in store.read("n", ListSessions(where={"tags.0": "red"}))] == ["t", "s"]
    beneath.write("n", [SetAbout("t", beneath.read("n", GetSession("s")).about.stored)])
    with pytest.raises(DecryptionError, match="title and data of session 't'"):
        store.read("n", GetSession("t"))
    assert "sEcReT" not in str(beneath.read("n", ListMessages("t", last=1)))
    store.close()


@pytest.mark.parametrize("kind", ["file", "server"])
def test_the_methods_of_a_history(request, tmp_path, kind):
    """All that a conversation needs works on encrypted sessions too, on an event loop as well."""
    url = f"sqlite:///{tmp_path}/a.db" if kind == "file" else request.getfixturevalue("server").url
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with Memory("n", url, encryption_key=KEY) as memory:
        history = memory.history("s")
        history.append([{"role": "user", "content": f"sEcReT {n}"} for n in range(4)])
        history.set_about(title="sEcReT", owner="ada", tags=["red"], data={"plan": "pro"})
        history.set_about(title="sEcReT title")
        assert (history.about().title, history.about().data) == ("sEcReT title", {"plan": "pro"})
        history.redact(2, reason="asked")
        history.edit(3, {"role": "user", "content": "sEcReT edit"}, if_version=history.messages()[2].version)
        with pytest.raises(Conflict):
            history.edit(3, "lost", if_version=1)
        history.summarize(upto=2, summary=[{"role": "system", "content": "sEcReT summary"}])
        assert [item["content"] for item in history.context()] == ["sEcReT summary", "sEcReT edit", "sEcReT 3"]
        history.append([{"role": "assistant", "content": None, "tool_calls": [call]}])
        assert len(history.problems()) == len(history.mend()) == 1
        assert history.problems() == []
        fork = history.fork("fork", upto=4)
        assert [item.data for item in fork.messages()] == [item.data for item in history.messages()][:4]
        assert [(item.name, item.preview.seq) for item in memory.sessions(where={"owner": "ada"}, preview=True)] == [
            ("fork", 4),
            ("s", 6),
        ]
        with pytest.raises(InvalidArgument, match="where cannot have 'title' in an encrypted memory"):
            memory.sessions(where={"title": "sEcReT title"})

    async def main():
        async with AsyncMemory("n", url, encryption_key=KEY) as memory:
            history = memory.history("fork")
            await asyncio.gather(*(history.edit(1, {"role": "user", "content": f"sEcReT {n}"}) for n in range(3)))
            other = await history.fork("other")
            assert (await other.about()).title == "sEcReT title"
            assert (await other.messages(last=1))[0].data == (await history.messages(last=1))[0].data
            await other.redact(4)
            assert (await other.context())[0]["content"] == "sEcReT summary"

    asyncio.run(main())
    with Memory("n", url) as plain:
        seen = [message.data for name in ("s", "fork", "other") for message in plain.history(name).messages()]
        assert "sEcReT" not in str(seen)


# A store that moves encrypted text


def stored_in(beneath, session):
    """Return what the store has of a session, encrypted: texts of its messages, summary, title and data."""
    found = beneath.read("n", GetSession(session))
    summary = beneath.read("n", GetContext(session, 0)).summary
    return [item.stored for item in beneath.read("n", ListMessages(session))], summary, found.about.stored


def test_texts_of_two_messages_swapped(filled, beneath):
    (first, second, _), _, _ = stored_in(beneath, "s")
    beneath.write("n", [Edit("s", 1, second), Edit("s", 2, first)])
    for query in (ListMessages("s"), ListMessages("s", last=2), GetContext("s", 1, head=1)):
        with pytest.raises(DecryptionError, match="message [12] of the session: .* belongs to another place"):
            filled.read("n", query)


def test_a_message_of_another_session(filled, beneath):
    (first, *_), _, _ = stored_in(beneath, "t")
    beneath.write("n", [Edit("s", 1, first)])
    with pytest.raises(DecryptionError, match="message 1 of the session"):
        filled.read("n", ListMessages("s"))
    changes = filled.changes("n", ListChanges(0, session="s"))
    with pytest.raises(DecryptionError, match="message 1 of the session"):
        changes.next(0)
    changes.close()


def test_titles_of_two_sessions_swapped(filled, beneath):
    one, other = (stored_in(beneath, session)[2] for session in "st")
    beneath.write("n", [SetAbout("s", other), SetAbout("t", one)])
    for query in GetSession("s"), GetSession("t"), ListSessions():
        with pytest.raises(DecryptionError, match="title and data of session '[st]': .* belongs to another place"):
            filled.read("n", query)


def test_the_summary_of_another_session(filled, beneath):
    beneath.write("n", [Summarize("s", 2, stored_in(beneath, "t")[1])])
    with pytest.raises(DecryptionError, match="the summary of the session: .* belongs to another place"):
        filled.read("n", GetContext("s", 5))


def test_a_preview_of_another_session(filled, beneath):
    beneath.write("n", [Edit("s", 3, stored_in(beneath, "t")[0][2])])
    for query in (GetSession("s", preview=True), ListSessions(preview=True)):
        with pytest.raises(DecryptionError, match="message 3 of the session"):
            filled.read("n", query)
    assert filled.read("n", GetSession("s")).messages == 3


@pytest.mark.parametrize("kind", ["message", "summary", "about"])
def test_a_text_of_another_kind(filled, beneath, kind):
    (message, *_), summary, about = stored_in(beneath, "s")
    others = {"message": message, "summary": summary, "about": about}
    for other in others.keys() - {kind}:
        if kind == "message":
            beneath.write("n", [Edit("s", 1, others[other])])
            read = ListMessages("s")
        elif kind == "summary":
            beneath.write("n", [Summarize("s", 2, others[other])])
            read = GetContext("s", 5)
        else:
            beneath.write("n", [SetAbout("s", others[other])])
            read = GetSession("s")
        with pytest.raises(DecryptionError, match="belongs to another place"):
            filled.read("n", read)


def test_a_text_of_another_namespace(filled, beneath):
    messages, summary, about = stored_in(beneath, "s")
    moved = tuple(NewMessage(str(n), text) for n, text in enumerate(messages, 1))
    beneath.write("m", [Append("s", moved), SetAbout("s", about)])
    beneath.write("m", [Summarize("s", 2, summary)])
    for query in (ListMessages("s"), GetSession("s"), GetContext("s", 0)):
        with pytest.raises(DecryptionError, match="belongs to another place"):
            filled.read("m", query)


def test_a_fork_by_the_store_cannot_be_read(filled, beneath):
    """The texts are those of the source. So a fork through an encrypted memory has its own."""
    beneath.write("n", [Fork("s", "copy")])
    for query in (ListMessages("copy"), GetSession("copy"), GetContext("copy", 0)):
        with pytest.raises(DecryptionError, match="belongs to another place"):
            filled.read("n", query)


def test_texts_that_are_not_encrypted(store, beneath):
    beneath.write(
        "n", [Append("s", (NewMessage("1", '"plain"'),)), SetAbout("s", ABOUT), Summarize("s", 1, '["plain"]')]
    )
    for query in (ListMessages("s"), GetSession("s"), GetContext("s", 0), ListSessions()):
        with pytest.raises(DecryptionError, match="is not encrypted"):
            store.read("n", query)


def test_what_a_client_without_the_key_has_redacted(filled, beneath):
    """It left no text, so there is nothing to decrypt. Any other text is still refused."""
    plain = Memory("n", store=beneath).history("s")
    plain.redact(2, reason="asked")
    message = filled.read("n", ListMessages("s"))[1]
    assert (message.data, message.redacted) == ("[redacted]", "asked")
    assert [text for text in data_of(filled) if text != "[redacted]"] == ["sEcReT s 1", "sEcReT s 3"]
    beneath.write("n", [Edit("s", 2, '"[forged]"', redacted="asked")])
    with pytest.raises(DecryptionError, match="message 2 .* is not encrypted"):
        filled.read("n", ListMessages("s"))
    beneath.write("n", [Edit("s", 2, '"[redacted]"')])
    with pytest.raises(DecryptionError, match="message 2 .* is not encrypted"):
        filled.read("n", ListMessages("s"))


def test_another_key(filled, beneath):
    other = EncryptedStore(beneath, Cipher(generate_key()))
    for query in (ListMessages("s"), GetSession("s"), GetContext("s", 0), ListSessions()):
        with pytest.raises(DecryptionError, match="encrypted with another key"):
            other.read("n", query)
    for operation in (Edit("s", 1, "1"), Fork("s", "copy")):
        with pytest.raises(DecryptionError, match="encrypted with another key"):
            other.write("n", [operation])
    assert data_of(filled) == [f"sEcReT s {n}" for n in (1, 2, 3)]
    assert filled.read("n", GetSession("copy")) is None


def test_copies_that_a_caller_gives_are_not_written(filled):
    """Copies are what the encrypted memory has read itself."""
    filled.write("n", [Fork("s", "copy", copies=Copies((NewMessage("1", '"other"'),)))])
    assert data_of(filled, "copy") == data_of(filled)


def test_a_memory_without_the_key_reads_a_summary_as_one_text(filled, beneath):
    with Memory("n", store=beneath) as memory:
        summary = memory.history("s").context_messages().summary
    assert len(summary) == 1
    assert len(summary[0]) > 20
