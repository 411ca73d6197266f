"""Known vulnerabilities of other memories do not affect botwire. Those of LangGraph are in ``tests/adapters/langgraph``."""

from __future__ import annotations

import os
import pickle
import warnings

import pytest
from langchain_core.load import load
from langchain_core.messages import AIMessage, HumanMessage

from botwire import BotWireChatHistory, BotWireError, InvalidValue, Memory
from botwire.operations import Append, Clear, Delete, Forget
from botwire.queries import GetEntries, GetEntry, ListEntries, ListKeys, ListMessages
from botwire.stores.http.store import HttpStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.testing import messages_of, put

SECRET = {"lc": 1, "type": "secret", "id": ["BOTWIRE_TEST_SECRET"]}
CLASS = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"]}
CLASS["kwargs"] = {"content": SECRET}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/a.db"


def test_cve_2025_68664_is_reproduced_with_langchain_load(monkeypatch):
    """Validates the tests below: LangChain's `load` creates an object from such data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load(CLASS | {"kwargs": {"content": "made"}})
    assert isinstance(found, HumanMessage)


@pytest.mark.parametrize("data", [CLASS, SECRET])
def test_cve_2025_68664_an_lc_key_in_a_message_creates_no_object(url, monkeypatch, data):
    """Data that an attacker makes a model or a tool return stays data."""
    monkeypatch.setenv("BOTWIRE_TEST_SECRET", "the secret")
    history = BotWireChatHistory("s", url=url)
    history.add_messages(
        [
            AIMessage(
                [{"type": "text", "text": "x", "hidden": data}],
                additional_kwargs={"hidden": data},
                response_metadata=data,
                tool_calls=[{"name": "f", "args": {"hidden": data}, "id": "1"}],
            )
        ]
    )
    (message,) = history.messages
    assert message.additional_kwargs["hidden"] == message.response_metadata == data
    assert message.content[0]["hidden"] == message.tool_calls[0]["args"]["hidden"] == data
    assert "the secret" not in repr(message)


@pytest.mark.parametrize(
    "data", [CLASS, SECRET, {"type": "human", "data": CLASS}, {"type": "constructor", "data": CLASS}]
)
def test_cve_2025_68664_an_lc_key_in_the_store_creates_no_object(url, monkeypatch, data):
    """The attacker writes to the session without LangChain."""
    monkeypatch.setenv("BOTWIRE_TEST_SECRET", "the secret")
    Memory("langchain-sessions", url).history("s").append([data])
    with pytest.raises(InvalidValue, match="message 1 of session 's' is not one of LangChain") as caught:
        print(BotWireChatHistory("s", url=url).messages)
    assert "the secret" not in str(caught.value)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_cve_2025_64439_bytes_are_never_unpickled(tmp_path, url):
    """LangGraph unpickled bytes in a fallback for data that JSON cannot represent."""
    bomb = pickle.dumps(Bomb(str(tmp_path / "made")))
    memory = Memory("n", url)
    memory.set("k", bomb)
    memory.history("s").append([{"type": "pickle", "data": bomb.decode("latin-1")}])
    assert memory.get("k") == bomb
    assert memory.history("s").messages()[0].data["type"] == "pickle"
    assert not (tmp_path / "made").exists()
    pickle.loads(bomb)
    assert (tmp_path / "made").exists()


INJECTIONS = (
    "' OR 1=1 --",
    "x' UNION SELECT name, value, 1, 1, 1, NULL FROM secrets --",
    '"; DROP TABLE entries; --',
    "$.a') OR 1=1 --",
    '"]) OR 1=1; --',
    "\\' OR ''='",
    "%",
    "_",
    "*",
    "[a-z]",
    "?1",
    ":x",
    "x';ATTACH DATABASE 'made.db' AS made;--",
)


@pytest.fixture(params=["file", "server"])
def store(request, tmp_path):
    if request.param == "file":
        store = SqliteStore(tmp_path / "a.db")
    else:
        store = HttpStore(request.getfixturevalue("server").url)
    yield store
    store.close()


def test_names_are_never_part_of_an_sql_statement(store):
    """LangGraph's SQLite saver and store put filter keys into SQL statements."""
    store.write("theirs", [put("secret", "s"), Append("secret", messages_of("s"))])
    store.write("n", [put("k", 1), Append("s", messages_of(1))])
    for text in INJECTIONS:
        for namespace in ("n", text):
            assert store.read(namespace, GetEntry(text)) is None
            assert store.read(namespace, GetEntries((text, text))) == []
            assert store.read(namespace, ListKeys(text)) == []
            assert store.read(namespace, ListEntries(text, text)) == []
            assert store.read(namespace, ListMessages(text)) == []
            assert store.write(namespace, [Delete(text), Clear(text), Forget(text)]) == [False, 0, 0]
        _, seqs = store.write(text, [put(text, text), Append(text, messages_of(text))], idempotency_key="k")
        assert seqs == [1]
        assert store.read(text, ListKeys()) == [text]
        assert [item.data for item in store.read(text, ListMessages(text))] == [text]
        assert store.write(text, [Clear(text), Forget(text)]) == [1, 1]
    assert store.read("n", ListKeys()) == ["k"]
    assert store.read("theirs", GetEntry("secret")).value == "s"


def test_a_problem_document_creates_only_botwire_errors():
    """The client finds the class of an error in a table, by its code."""
    from botwire import wire

    for code in ("os.system", "builtins.eval", "__class__", "SystemExit", ""):
        body = wire.encode({"type": f"urn:botwire:error:{code}", "detail": "x"})
        assert wire.decode_problem(500, body) is None
    found = wire.decode_problem(409, wire.encode({"type": "urn:botwire:error:conflict", "self": 1, "args": [2]}))
    assert isinstance(found, BotWireError)
