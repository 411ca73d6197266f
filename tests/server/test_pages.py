"""Pages end by their bytes. The client reads on, so its callers never notice."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote

import pytest

from botwire import Memory
from botwire.limits import PAGE_BYTES
from botwire.queries import ListTexts

LARGE = 3_000_000
"""The length of a value. Two of them fill a page."""
VALUES = {f"k{number}": f"{number} " * (LARGE // 2) for number in range(5)}


@pytest.fixture(scope="module")
def memory(shared_server):
    with Memory("pages", shared_server.url, timeout=60) as memory:
        memory.set_many(VALUES)
        memory.history("s").append(list(VALUES.values()))
        memory.set("small", 1)
        yield memory


def answer(server, target):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", target)
    body = connection.getresponse().read()
    connection.close()
    return json.loads(body), len(body)


@pytest.mark.parametrize(
    ("target", "rows", "first"),
    [
        ("/memory/pages?values=true", "entries", "k1"),
        ("/memory/pages?" + "&".join(f"key={key}" for key in VALUES), "entries", "k1"),
        ("/sessions/pages/s", "messages", 2),
        ("/sessions/pages?session=s&last=4", "messages", 3),
    ],
)
def test_a_page_has_an_end_in_bytes_and_says_where_the_next_begins(shared_server, memory, target, rows, first):
    page, length = answer(shared_server, target)
    assert (len(page[rows]), page["next"]) == (2, first)
    assert length < PAGE_BYTES + LARGE + 1_000
    if "key=" not in target and "last=" not in target:
        following, _ = answer(shared_server, f"{target}{'&' if '?' in target else '?'}after={first}")
        assert len(following[rows]) == 2


def test_a_page_of_texts_has_an_end_in_bytes(shared_server):
    """Of a long text, only the beginning is listed."""
    with Memory("pages-texts", shared_server.url, timeout=60) as memory:
        memory.set_many({f"k{number:02}": "word " * 60_000 for number in range(20)})
    page, length = answer(shared_server, "/texts/pages-texts?model=m")
    assert length < PAGE_BYTES + LARGE + 300_000
    rest, _ = answer(shared_server, f"/texts/pages-texts?model=m&after={page['next']}")
    assert [text["key"] for text in page["texts"] + rest["texts"]] == [f"k{number:02}" for number in range(20)]
    assert rest["next"] is None


def test_the_last_page_says_that_it_is_the_last(shared_server, memory):
    page, _ = answer(shared_server, "/memory/pages?values=true&after=k3")
    assert ([entry["key"] for entry in page["entries"]], page["next"]) == (["k4", "small"], None)
    page, _ = answer(shared_server, "/memory/pages?key=k4&key=small&key=none")
    assert ([entry["key"] for entry in page["entries"]], page["next"]) == (["k4", "small"], None)


def test_keys_of_a_namespace_without_an_end(shared_server):
    """A client that names no limit gets all keys at once, up to the bytes of a page."""
    long = ["/" + "x" * 500 + f"/{number:05}" for number in range(9_000)]
    with Memory("pages-keys", shared_server.url, timeout=60) as memory:
        memory.set_many(dict.fromkeys(long, 0))
        assert memory.list_keys() == long
    page, length = answer(shared_server, "/memory/pages-keys")
    assert len(page["keys"]) < 9_000
    assert length < PAGE_BYTES
    rest, _ = answer(shared_server, f"/memory/pages-keys?after={quote(page['next'], safe='')}")
    assert (page["keys"] + rest["keys"], rest["next"]) == (long, None)


def test_the_client_reads_all_pages(memory):
    assert dict(memory.items()) == {**VALUES, "small": 1}
    assert memory.get_many(["small", *VALUES, "none", "k0"]) == {"small": 1, **VALUES}
    log, texts = memory.history("s"), list(VALUES.values())
    for last, wanted in ((None, texts), (5, texts), (4, texts[1:])):
        assert [message.data for message in log.messages(last=last)] == wanted
    assert [item.key or item.session for item in memory.read(ListTexts("m"))] == [*VALUES, *["s"] * 5]
