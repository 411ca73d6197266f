"""The console in a real Chromium, with a real server, while agents write."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from botwire import Memory, QuotaExceeded
from botwire.migrate.jsonl import import_lines
from botwire.search.embedding import local_embedder
from botwire.stores import open_store
from tests.console.conftest import PAYLOADS
from tests.servers import Server

LONG = 100_000
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def say(role, content):
    return {"role": role, "content": content}


# The first view


def test_the_first_view_is_small_and_fast(console):
    sizes = []
    console.page.on("requestfinished", lambda request: sizes.append(sum(request.sizes().values())))
    console.open()
    times = console.page.evaluate(
        "() => { const [entry] = performance.getEntriesByType('paint').filter((item) => item.name === 'first-contentful-paint');"
        " const [page] = performance.getEntriesByType('navigation'); return [entry.startTime, page.loadEventEnd]; }"
    )
    console.page.wait_for_timeout(100)
    print(
        f"first view: {len(sizes)} requests, {sum(sizes):,} bytes, painted after {times[0]:.0f} ms, loaded after {times[1]:.0f} ms"
    )
    assert sum(sizes) < 150_000
    assert max(times) < 1_000


def test_the_browser_blocks_html_from_strings_and_other_hosts(console):
    headers = console.page.goto("/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = console.page
    assert (
        page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }")
        == "TypeError"
    )
    assert page.evaluate("() => fetch('https://example.com/').catch((error) => error.name)") == "TypeError"
    console.complaints.clear()  # Chromium reported the blocked request
    console.requests[:] = [url for url in console.requests if "example.com" not in url]
    docs = page.goto("/docs")
    assert "unsafe" not in docs.headers["content-security-policy"]
    page.get_by_text("PUT").first.click()
    assert (
        page.locator("h1").evaluate("(element) => getComputedStyle(document.body).maxWidth") == "960px"
    )  # the policy allows the page's own style


# Permissions


def test_a_missing_token_is_reported(console):
    page = console.open("n", "anything", "keys")
    expect(page.get_by_text("Sign-in required.").first).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Token").fill("bw_an_unknown_token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("unknown, revoked or expired")).to_be_visible()


def test_a_read_token_cannot_write_or_administer(console, agent, create_token):
    agent["k"] = 1
    secret = create_token(agent.namespace, can=["read"], name="reader")["secret"]
    page = console.open("n", agent.namespace, "keys", "k", token=secret)
    page.get_by_label("Value, as JSON").fill("2")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Not allowed.")
    assert agent["k"] == 1
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("Not allowed.")
    assert agent["k"] == 1
    page = console.open("n", "another-clients", "keys")
    expect(page.get_by_role("alert")).to_contain_text("Not allowed.")
    page = console.open()
    expect(page.get_by_role("list", name="Namespaces of your token").get_by_role("link")).to_have_text(
        [agent.namespace]
    )
    assert page.get_by_role("link", name="Audit").count() == 0
    page = console.open("audit")
    expect(page.get_by_role("alert")).to_contain_text("Not allowed.")
    page = console.open("tokens")
    expect(page.get_by_role("alert")).to_contain_text("Not allowed.")


def test_the_token_is_kept_in_its_tab_only(console, operator):
    page = console.open(token=operator)
    expect(page.get_by_role("link", name="Signed in")).to_be_visible()
    assert operator not in page.url
    assert operator not in page.evaluate("JSON.stringify(localStorage)")
    other = console.context.new_page()
    other.goto("/")
    expect(other.get_by_role("link", name="Sign in", exact=True)).to_be_visible()
    other.close()
    page.get_by_role("link", name="Signed in").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert operator not in page.evaluate("JSON.stringify(sessionStorage)")


# Conversations


def test_a_conversation_is_updated_live(console, agent, operator):
    chat = agent.history("call-7")
    chat.append([say("system", "Be kind."), say("user", "Where is my parcel?")])
    page = console.open("n", agent.namespace, token=operator)
    page.get_by_role("list", name="Sessions").get_by_role("link", name="call-7").click()
    bubbles = page.get_by_role("article")
    expect(bubbles).to_have_count(2)
    chat.append(
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "track", "arguments": '{"id": 7}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "name": "track", "content": "at the depot"},
            {"type": "ai", "data": {"content": "It is at the depot.", "tool_calls": []}},
        ]
    )
    expect(bubbles).to_have_count(5)
    assert [bubble.get_attribute("data-role") for bubble in bubbles.all()] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    expect(bubbles.nth(2).get_by_text("Calls track")).to_be_visible()
    expect(bubbles.nth(2).locator("pre").first).to_have_text('{\n  "id": 7\n}')
    expect(bubbles.nth(4)).to_contain_text("It is at the depot.")
    expect(bubbles.nth(4).locator("time")).to_have_attribute("datetime", re.compile(r"^20\d\d-"))
    expect(page.get_by_role("list", name="Sessions")).to_contain_text("5 messages")
    chat.pop(1)
    expect(bubbles).to_have_count(4)
    chat.clear()
    expect(page.locator(".feed")).to_contain_text("No messages.")
    expect(page.get_by_role("feed")).to_have_count(0)


def test_changes_arrive_as_events_without_polling(console, agent, operator):
    """The page sends no requests while nothing changes, and shows a new message at once."""
    chat = agent.history("s")
    chat.append([say("user", "one")])
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    expect(page.get_by_role("feed").get_by_text("one")).to_be_visible()
    page.wait_for_timeout(1_000)
    assert any("/watch/" in url for url in console.requests)
    asked = len(console.requests)
    page.wait_for_timeout(3_000)
    assert console.requests[asked:] == []
    begun = time.perf_counter()
    chat.append([say("user", "two")])
    expect(page.get_by_role("feed").get_by_text("two")).to_be_visible()
    assert time.perf_counter() - begun < 1.5


def test_the_console_polls_without_events(console, agent, operator):
    """A proxy can buffer events forever."""
    console.page.route("**/watch/**", lambda route: route.fulfill(status=404, body="{}"))
    chat = agent.history("s")
    chat.append([say("user", "one")])
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    expect(page.get_by_role("feed").get_by_text("one")).to_be_visible()
    chat.append([say("user", "two")])
    expect(page.get_by_role("feed").get_by_text("two")).to_be_visible()


def test_a_revoked_token_sees_no_new_messages(console, agent, create_token, revoke):
    agent.history("s").append([say("user", "one")])
    made = create_token(agent.namespace, can=["read"])
    page = console.open("n", agent.namespace, "sessions", "s", token=made["secret"])
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    revoke(made["id"])
    agent.history("s").append([say("user", "two")])
    expect(page.get_by_text("Access refused", exact=True)).to_be_visible()
    assert page.get_by_text("two").count() == 0


def test_a_session_of_100_000_messages_opens_fast(console, agent, operator):
    chat = agent.history("long")
    for start in range(0, LONG, 10_000):
        chat.append(
            [
                say(("user", "assistant")[n % 2], f"message {n} " + "word " * (n % 90))
                for n in range(start + 1, start + 10_001)
            ]
        )
    page = console.open("n", agent.namespace, "sessions", token=operator)
    begun = time.perf_counter()
    page.get_by_role("link", name="long").click()
    last = page.locator(f'[data-seq="{LONG}"]')
    expect(last).to_be_in_viewport()
    opened = time.perf_counter() - begun
    shown = page.get_by_role("article")
    assert shown.count() <= 300
    seen = set()
    for _ in range(12):
        page.get_by_role("feed").evaluate("(feed) => { feed.scrollTop = 0; }")
        page.wait_for_timeout(60)
        seen |= set(
            page.evaluate(
                "() => Array.from(document.querySelectorAll('[data-seq]'), (item) => Number(item.dataset.seq))"
            )
        )
    assert seen == set(range(min(seen), LONG + 1))  # no gaps
    assert len(seen) > 500
    assert shown.count() <= 300
    begun = time.perf_counter()
    page.get_by_label("Position in the conversation").fill("50000")
    middle = page.locator('[data-seq="50000"]')
    expect(middle).to_be_in_viewport()
    jumped = time.perf_counter() - begun
    expect(middle).to_have_attribute("aria-posinset", "50000")
    expect(middle).to_have_attribute("aria-setsize", str(LONG))
    order = page.evaluate(
        "() => Array.from(document.querySelectorAll('[data-seq]'), (item) => Number(item.dataset.seq))"
    )
    assert order == list(range(order[0], order[0] + len(order)))
    chat.append([say("user", "and one more")])
    new = page.get_by_role("button", name="1 new message")
    expect(new).to_be_visible()
    expect(middle).to_be_in_viewport()  # a new message does not scroll the view
    chat.append([say("user", f"burst {n}") for n in range(200)])
    expect(page.get_by_role("button", name="201 new messages")).to_be_visible()
    chat.append([say("user", "and the last")])
    expect(page.get_by_role("button", name="202 new messages")).to_be_visible()
    expect(middle).to_be_in_viewport()
    page.get_by_role("button", name="202 new messages").click()
    expect(page.get_by_role("feed").get_by_text("and the last")).to_be_in_viewport()
    chat.append([say("user", f"more {n}") for n in range(150)])
    expect(
        page.get_by_role("feed").get_by_text("more 149")
    ).to_be_in_viewport()  # a view at the end follows new messages
    print(f"100,000 messages: shown after {opened * 1000:.0f} ms, the middle after {jumped * 1000:.0f} ms")
    assert opened < 1
    assert jumped < 1


@pytest.mark.parametrize(
    ("message", "role", "texts"),
    [
        ({"type": "human", "data": {"content": "hi"}}, "user", ["hi"]),
        (
            {
                "type": "ai",
                "data": {
                    "content": [{"type": "text", "text": "a"}, {"type": "tool_use", "name": "f", "input": {"x": 1}}]
                },
            },
            "assistant",
            ["a", '{\n  "x": 1\n}'],
        ),
        ({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}, "assistant", ["{}"]),
        ({"type": "function_call_output", "call_id": "1", "output": "done"}, "tool", ["done"]),
        ({"role": "user", "content": [{"type": "input_text", "text": "look"}]}, "user", ["look"]),
        (
            {"role": "assistant", "blocks": [{"block_type": "text", "text": "b"}], "additional_kwargs": {}},
            "assistant",
            ["b"],
        ),
        ({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "q"}]}, "user", ["q"]),
        ({"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "f", "content": 3}]}, "tool", ["3"]),
        (
            {"kind": "response", "parts": [{"part_kind": "tool-call", "tool_name": "f", "args": '{"a":1}'}]},
            "assistant",
            ['{\n  "a": 1\n}'],
        ),
        ({"type": "UserMessage", "content": "u", "source": "ada"}, "user", ["u"]),
        (
            {"type": "AssistantMessage", "content": [{"id": "1", "name": "f", "arguments": "{}"}], "source": "bot"},
            "assistant",
            ["{}"],
        ),
        (
            {"type": "FunctionExecutionResultMessage", "content": [{"call_id": "1", "name": "f", "content": "r"}]},
            "tool",
            ["r"],
        ),
        ({"anything": [1, 2]}, "other", []),
        ("words", "other", ["words"]),
        (7, "other", ["7"]),
        (None, "other", ["null"]),
    ],
)
def test_messages_of_every_framework_are_recognized(shapes, message, role, texts):
    shape = shapes.evaluate("(message) => shape(message)", message)
    assert shape["role"] == role
    assert [part["text"] for part in shape["parts"]] == texts


@pytest.fixture(scope="module")
def shapes(chromium, server):
    page = chromium.new_page()
    page.goto(f"{server.url}/")
    page.evaluate(
        "async () => { window.shape = (await import('/console/messages.js')).shape; window.json = await import('/console/json.js'); }"
    )
    yield page
    page.close()


@pytest.mark.parametrize(
    "value",
    ["", 'a\\"b\n\\', 12345678901234567890, 1.0, -0.5e-9, [], {}, [[], {}, [1]], {"a": {"b": "}],:{["}, "": None}],
)
def test_json_is_shown_unchanged(shapes, value):
    text = json.dumps(value)
    pretty, again = shapes.evaluate("(text) => [json.pretty(text), json.pretty(json.pretty(text))]", text)
    assert pretty == again == json.dumps(value, indent=2)
    whole = json.dumps({"first": 1, "wanted": value, "last": [value]})
    assert shapes.evaluate("(text) => json.member(text, 'wanted')", whole) == text
    assert shapes.evaluate("(text) => json.items(json.member(text, 'last'))", whole) == [text]


# Keys


def test_a_key_can_be_edited(console, agent, operator):
    agent.set("user/42", {"id": 12345678901234567890, "plan": "free"}, ttl=3_600)
    page = console.open("n", agent.namespace, "keys", token=operator)
    page.get_by_label("Key prefix").fill("user/")
    page.get_by_role("list", name="Keys").get_by_role("link", name="user/42").click()
    value = page.get_by_label("Value, as JSON")
    expect(value).to_have_value('{\n  "id": 12345678901234567890,\n  "plan": "free"\n}')
    value.fill('{"id": 12345678901234567890, "plan": "gold"')
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    value.press("End")
    value.press("ControlOrMeta+End")
    value.type("}")
    value.press("Control+s")
    expect(page.get_by_text("Saved.").first).to_be_visible()
    entry = agent.entry("user/42")
    assert entry.value == {"id": 12345678901234567890, "plan": "gold"}  # every digit is kept
    assert entry.expires_at is not None
    agent["user/42"] = {"plan": "team"}
    expect(value).to_have_value('{\n  "plan": "team"\n}')  # without unsaved changes, the new value is shown


def test_an_unseen_write_is_never_overwritten(console, agent, operator):
    agent["k"] = "first"
    page = console.open("n", agent.namespace, "keys", "k", token=operator)
    value = page.get_by_label("Value, as JSON")
    value.fill('"mine"')
    agent["k"] = "the agent's"
    expect(page.get_by_text("Save to compare both values.")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Not saved:")
    expect(page.locator(".entry pre")).to_have_text('"the agent\'s"')
    assert agent["k"] == "the agent's"
    page.get_by_role("button", name="Overwrite with my value").click()
    expect(page.get_by_text("Saved.").first).to_be_visible()
    assert agent["k"] == "mine"
    value.fill('"typed"')
    page.goto("/#/tokens")
    page.get_by_text("New token").wait_for()
    page.go_back()
    expect(value).to_have_value('"typed"')  # unsaved text is kept when the user visits another page
    version = agent.entry("k").version
    agent["k"] = "newer"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("Not saved:")
    assert agent["k"] == "newer"
    page.get_by_role("button", name="Use the current value").click()
    expect(value).to_have_value('"newer"')
    assert agent.entry("k").version > version
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No keys.")).to_be_visible()
    assert "k" not in agent


def test_keys_with_special_characters_can_be_created(console, agent, operator):
    page = console.open("n", agent.namespace, "keys", token=operator)
    for key in ("..", "a//b", "100%2F", "emoji 🦊", "?key=x#y"):
        page.get_by_role("link", name="New key").click()
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_label("Value, as JSON").fill("[1]")
        page.get_by_role("button", name="Create").click()
        expect(page.locator(".entry h2")).to_have_text(key)
        expect(page.get_by_label("Value, as JSON")).to_have_value("[\n  1\n]")
        assert agent[key] == [1]
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Key", exact=True).fill("..")
    page.get_by_label("Value, as JSON").fill("2")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("This key already exists.")
    assert agent[".."] == [1]
    agent["bytes"] = bytes(range(100))
    page = console.open("n", agent.namespace, "keys", "bytes")
    expect(page.get_by_text("Binary value, 100 bytes")).to_be_visible()


def test_many_keys_are_shown_in_pages(console, agent, operator):
    agent.set_many({f"k{n:04}": n for n in range(250)})
    page = console.open("n", agent.namespace, "keys", token=operator)
    keys = page.get_by_role("list", name="Keys").get_by_role("link")
    expect(keys).to_have_count(100)
    expect(page.get_by_text("250 keys")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(keys.first).to_have_text("k0100")
    page.get_by_role("button", name="Next").click()
    expect(keys).to_have_count(50)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_role("button", name="Previous").click()
    expect(keys.first).to_have_text("k0100")
    page.get_by_label("Key prefix").fill("k02")
    expect(keys).to_have_count(50)


# Quotas, search, export


def test_a_full_quota_is_shown(console, agent, operator, server):
    agent["first"] = 1
    page = console.open("n", agent.namespace, "usage", token=operator)
    page.get_by_label("Plan of this namespace").select_option("tiny")
    expect(page.get_by_text("of 10", exact=False).first).to_be_visible()
    full = page.get_by_text("Limit reached: writes are refused.")
    assert full.count() == 0
    with Memory(agent.namespace, server.url, token=operator) as memory:
        for n in range(8):
            memory[f"k{n}"] = n
        expect(page.get_by_text("Close to the limit.")).to_be_visible()
        memory["last"] = 1
        with pytest.raises(QuotaExceeded):
            memory["one too many"] = 1
    expect(full).to_be_visible()
    plot = page.get_by_role("img").first
    expect(plot).to_have_attribute("aria-label", re.compile(r"^Writes today: 10 now of 10; between \d+ and 10"))
    page.get_by_role("combobox", name="Time shown").select_option("The last day")
    expect(plot).to_have_attribute("aria-label", re.compile(r"^Writes today: 10 now of 10"))
    page = console.open("n", agent.namespace, "keys", "first")
    page.get_by_label("Value, as JSON").fill("2")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Quota exceeded.")
    assert agent["first"] == 1
    page.get_by_role("button", name="Delete").click()  # a delete is always allowed
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("list", name="Keys").get_by_role("link", name="first")).to_have_count(0)
    assert "first" not in agent


def test_search_finds_messages_and_keys(console, agent, operator, server):
    agent["facts/ada"] = {"note": "Ada collects rare postage stamps"}
    agent.history("chat").append(
        [say("user", f"line {n}") for n in range(200)]
        + [say("user", "my stamps are from Peru")]
        + [say("user", "ok")] * 100
    )
    page = console.open("n", agent.namespace, "search", token=operator)
    page.get_by_label("Question or words").fill("stamps")
    page.get_by_label("Question or words").press("Enter")
    expect(page.get_by_text("2 hits")).to_be_visible()
    expect(page.locator("mark").first).to_have_text("stamps")
    page.get_by_role("link", name="chat #201").click()
    expect(page.locator('[data-seq="201"]')).to_be_in_viewport()
    expect(page.locator('[data-seq="201"]')).to_be_focused()
    page.go_back()
    page.get_by_label("In", exact=True).select_option("Keys")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 hit", exact=True)).to_be_visible()
    page.get_by_label("By", exact=True).select_option("Meaning")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No results.")).to_be_visible()
    with Memory(agent.namespace, agent.address, embedder=local_embedder(str(Path(server.db).parent))) as embedding:
        embedding.embed(limit=60)
        (best, *_) = embedding.search("stamps", by="meaning", kinds="entries")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 hit", exact=True)).to_be_visible()
    page.get_by_label("In", exact=True).select_option("Messages and keys")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("50 hits or more")).to_be_visible()
    asked = f"/search/{agent.namespace}?q=stamps&by=meaning&kind=entries"
    (hit,) = console.context.request.get(asked, headers={"Authorization": f"Bearer {operator}"}).json()["hits"]
    assert (hit["entry"]["key"], hit["score"]) == ("facts/ada", pytest.approx(best.score, abs=1e-5))


def test_an_export_can_be_imported(console, agent, operator, tmp_path):
    agent.set_many({"big": 12345678901234567890, "bytes": b"\x00\xff", "text": "ü\n"})
    agent.history("s/1").append([say("user", f"{n}") for n in range(1_500)])
    agent.history("s/2").append(["x"], ttl=3600)
    agent.history("s/1").fork("fork", 20)
    agent.history("s/1").set_about(title="Stämps", owner="ada", tags=["red"], data={"big": 12345678901234567890})
    agent.history("s/1").redact(7, reason="asked")
    agent.history("s/1").summarize(upto=1_400, summary=["all\n of it"])
    agent.history("empty").set_about(owner="grace")
    agent.retain(sessions_age=1e6, prefix="s/")
    spaced = '{"operations": [{"op": "put", "key": "spaced", "value": [1,\n 2.0, "a\\n b"]}]}'
    headers = {"Authorization": f"Bearer {operator}", "Content-Type": "application/json"}
    assert console.context.request.post(f"/memory/{agent.namespace}", data=spaced, headers=headers).ok
    page = console.open("n", agent.namespace, token=operator)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == f"{agent.namespace}.jsonl"
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert lines[0] == {"format": "botwire", "version": 2, "namespace": agent.namespace}
    assert lines[-1] == {"end": True}
    (known,) = (line for line in lines if line.get("session") == "s/1" and "id" not in line)
    assert set(known) == {"session", "about", "owner", "tags", "summarized", "summarized_id", "summary"}
    entries = {line["key"]: line for line in lines if "key" in line}
    assert entries["big"]["value"] == 12345678901234567890
    assert set(entries) == {"big", "bytes", "text", "spaced"}
    assert entries["spaced"]["value"] == [1, 2.0, "a\n b"]
    said = [line["data"]["content"] for line in lines if line.get("session") == "s/1" and "id" in line]
    assert said == [agent.history("s/1").messages()[6].data["content"] if n == 6 else str(n) for n in range(1_500)]
    store = open_store(f"sqlite:///{tmp_path}/copy.db")
    with download.value.path().open("rb") as file:
        import_lines(store, file)
    store.close()
    with Memory(agent.namespace, f"sqlite:///{tmp_path}/copy.db") as copy:
        assert dict(copy.items()) == dict(agent.items())
        ours, theirs = (memory.sessions(order="created") for memory in (agent, copy))
        assert [session.name for session in theirs] == [session.name for session in ours]
        for our, their in zip(ours, theirs, strict=True):
            assert (their.about.title, their.about.owner, their.about.tags, their.about.data) == (
                our.about.title,
                our.about.owner,
                our.about.tags,
                our.about.data,
            )
            assert (their.origin, their.summarized) == (our.origin, our.summarized)
            assert abs((their.expires or 0) - (our.expires or 0)) < 5_000_000
            assert copy.history(our.name).messages() == agent.history(our.name).messages()
        assert copy.history("s/1").context() == agent.history("s/1").context()
        assert copy.retention() == agent.retention()


def test_a_conversation_is_named_and_found(console, agent, operator):
    for number in range(3):
        agent.history(f"chat-{number}").append([say("user", f"Hello from {number}")])
    agent.history("other").set_about(owner="ada", tags=["late"], data={"plan": "pro"})
    agent.history("chat-0").append([say("assistant", "The newest answer")])
    page = console.open("n", agent.namespace, "sessions", "other", token=operator)
    rows = page.locator("ul[aria-label=Sessions] a")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("The newest answer")
    expect(page.get_by_text("Owner ada")).to_be_visible()
    page.get_by_role("button", name="Edit title").click()
    page.get_by_role("textbox", name="Title").fill("Late <b>orders</b>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Late <b>orders</b>")).to_be_visible()
    expect(page.get_by_role("link", name="Late <b>orders</b>")).to_be_visible()
    about = agent.history("other").about()
    assert (about.title, about.owner, about.tags, about.data) == (
        "Late <b>orders</b>",
        "ada",
        ("late",),
        {"plan": "pro"},
    )
    for by, text, found in (("Name", "chat-", 3), ("Owner", "ada", 1), ("Tag", "late", 1), ("Tag", "none", 0)):
        page.get_by_label("Filter by").select_option(by)
        page.get_by_label("Filter the sessions").fill(text)
        expect(rows).to_have_count(found)


def test_a_title_that_another_client_changed_is_not_overwritten(console, agent, operator):
    agent.history("s").append([say("user", "x")])
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    page.get_by_role("button", name="Edit title").click()
    agent.history("s").set_about(title="theirs")
    page.get_by_role("textbox", name="Title").fill("mine")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("changed")
    assert agent.history("s").about().title == "theirs"


def test_a_conversation_is_forked_and_edited(console, agent, operator):
    history = agent.history("s")
    history.append([say("user", "one"), say("assistant", "two"), say("user", "secret")])
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    page.get_by_role("button", name="Fork at message 2").click()
    page.get_by_label("Name of the new session").fill("s/2")
    page.get_by_role("dialog").get_by_role("button", name="Fork").click()
    expect(page.get_by_text("Forked from s at #2")).to_be_visible()
    expect(page.locator("[data-seq]")).to_have_count(2)
    assert [message.data for message in agent.history("s/2").messages()] == [
        say("user", "one"),
        say("assistant", "two"),
    ]
    page.get_by_role("link", name="s at #2").click()
    page.get_by_role("button", name="Edit message 3").click()
    page.get_by_label("Data, as JSON").fill('{"role": "user", "content": "removed", "n": 12345678901234567890}')
    page.get_by_label("Mark as redacted").check()
    page.get_by_label("Reason of the redaction").fill("private")
    page.get_by_role("button", name="Save").click()
    expect(page.locator('[data-seq="3"]')).to_contain_text("Redacted: private")
    expect(page.locator('[data-seq="3"]')).to_contain_text("removed")
    (message,) = history.messages(last=1)
    assert message.data == {"role": "user", "content": "removed", "n": 12345678901234567890}
    assert message.redacted == "private"
    history.edit(1, say("user", "changed by the agent"))
    expect(page.locator('[data-seq="1"]')).to_contain_text("changed by the agent")
    history.summarize(upto=2, summary=[say("system", "They said hello.")])
    page.get_by_text("Summary of messages 1 to 2").click()
    expect(page.get_by_text("They said hello.")).to_be_visible()


# Retention


@pytest.fixture
def rules(console, agent, operator):
    """The page with the rules of the namespace."""
    return lambda token=operator: console.open("n", agent.namespace, "retention", token=token)


def set_rule(page, prefix, **times):
    """Fill in the form of a rule and send it. Each time is a number and a unit."""
    page.get_by_label("Prefix").fill(prefix)
    for name, (count, unit) in times.items():
        page.locator(f"[name={name}]").fill(count)
        page.locator(f"[name={name}_unit]").select_option(unit)
    page.get_by_role("button", name="Set the rule").click()


def test_a_rule_is_set_after_its_effect_is_shown(rules, agent):
    for name in ("tmp-1", "tmp-2", "chat"):
        agent.history(name).append([say("user", "x")])
    page = rules()
    expect(page.get_by_text("The plan unlimited sets no limit.")).to_be_visible()
    expect(page.get_by_text("No rules.")).to_be_visible()
    set_rule(page, "tmp-", idle=("90", "minute"), age=("0.0000001", "day"))
    question = page.get_by_role("dialog")
    expect(question).to_contain_text(
        "“tmp-” expire 90 minutes after the last activity or 0.009 seconds after the first"
    )
    expect(question).to_contain_text("2 sessions expire at once")
    expect(question).to_contain_text("cannot be undone")
    question.get_by_role("button", name="Cancel").click()
    assert agent.retention() == []
    assert len(agent.sessions()) == 3
    page.get_by_role("button", name="Set the rule").click()
    question.get_by_role("button", name="Set the rule").click()
    row = page.get_by_role("list", name="Rules").get_by_role("listitem")
    expect(row).to_contain_text("“tmp-” expire 90 minutes after the last activity")
    assert [(rule.prefix, rule.idle) for rule in agent.retention()] == [("tmp-", 5_400)]
    assert [session.name for session in agent.sessions()] == ["chat"]
    set_rule(page, "tmp-", age=("30", "day"))
    expect(question).to_contain_text("This replaces the rule: Sessions whose name begins with “tmp-” expire 90 minutes")
    expect(question).to_contain_text("No session expires at once.")
    question.get_by_role("button", name="Set the rule").click()
    expect(row).to_contain_text("30 days")
    (rule,) = agent.retention()
    assert (rule.idle, rule.age) == (None, 30 * 86_400)
    agent.history("tmp-3").append([say("user", "x")])
    set_rule(page, "", age=("0.0000001", "day"))
    expect(question).to_contain_text("Every session expires 0.009 seconds after the first message.")
    expect(question).to_contain_text("1 session expires at once")  # not tmp-3, whose rule has a longer prefix


def test_removing_a_rule_shows_which_one_applies_then(rules, agent):
    agent.history("tmp-1").append([say("user", "x")])
    agent.retain(sessions_age=30 * 86_400, prefix="tmp-")
    agent.retain(sessions_idle=0.001)
    agent.history("other").set_about(title="has expired by the rule")
    page = rules()
    page.get_by_role("button", name="Remove the rule for tmp-").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text(
        "Then this rule applies to them: Every session expires 0.001 seconds after the last"
    )
    expect(question).to_contain_text("1 session expires at once")
    question.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Remove the rule for every session").click()
    expect(question).to_contain_text("Then no rule applies to them.")
    expect(question).to_contain_text("No session expires at once.")
    question.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("The rule is removed.").first).to_be_visible()
    assert page.evaluate("document.activeElement !== document.body")
    expect(page.get_by_role("list", name="Rules").get_by_role("listitem")).to_have_count(1)
    assert [rule.prefix for rule in agent.retention()] == ["tmp-"]
    agent.retain(sessions_idle=3_600, prefix="live-")
    agent["k"] = 1
    expect(page.get_by_role("list", name="Rules")).to_contain_text("“live-” expire 1 hour")


def test_wrong_rules_are_refused(rules, agent):
    page = rules()
    set_rule(page, "a")
    expect(page.get_by_role("alert")).to_contain_text("Set a time after the last activity")
    set_rule(page, "a", idle=("0", "day"))
    expect(page.get_by_role("alert")).to_contain_text("more than 0 and at most 100 years, not 0 days")
    set_rule(page, "a" * 600, idle=("1", "hour"))
    expect(page.get_by_role("alert")).to_contain_text("512 bytes")
    assert agent.retention() == []


def test_the_limit_of_the_plan_is_shown(rules, agent, console, operator, create_token):
    headers = {"Authorization": f"Bearer {operator}"}
    assert console.context.request.put(f"/plans/{agent.namespace}", data={"plan": "tiny"}, headers=headers).ok
    expect(rules().get_by_text("By the plan tiny, every session expires 14 days after the last")).to_be_visible()
    page = rules(create_token(agent.namespace)["secret"])
    expect(page.get_by_text("The plan tiny may let sessions expire earlier.")).to_be_visible()


def test_a_session_gets_a_time_to_live(console, agent, operator):
    history = agent.history("s")
    history.append([say("user", "x")])
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    page.get_by_role("button", name="Expiry").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("has no time of its own")
    question.get_by_label("Expire in", exact=True).fill("2")
    question.get_by_label("Unit of: Expire in").select_option("hours")
    question.get_by_role("button", name="Save").click()
    expect(page.locator(".facts")).to_contain_text("Expires")
    assert abs(history.info().expires / 1_000_000 - time.time() - 7_200) < 60
    page.get_by_role("button", name="Expiry").click()
    expect(question).to_contain_text("This session expires at")
    question.get_by_role("button", name="Save").click()
    expect(page.locator(".facts")).to_be_hidden()
    assert history.info().expires is None
    page.get_by_role("button", name="Expiry").click()
    history.clear()
    question.get_by_role("button", name="Save").click()
    expect(question.get_by_role("alert")).to_contain_text("does not exist any more")


def broken(history):
    """Append a question, and a call without a result."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history.append([say("user", "x"), {"role": "assistant", "content": None, "tool_calls": [call]}])


def test_a_broken_session_is_checked_and_mended(console, agent, operator):
    history = agent.history("s")
    broken(history)
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    page.get_by_role("button", name="Check").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("because of 1 problem")
    expect(dialog.get_by_role("listitem")).to_contain_text(
        "A tool call has no result where providers expect it. call_1"
    )
    expect(dialog.get_by_label("Give calls without a result")).to_be_checked()
    dialog.get_by_role("link", name="#2").click()
    expect(dialog).to_be_hidden()
    expect(page).to_have_url(re.compile(r"at=2"))
    assert len(history) == 2
    page.get_by_role("button", name="Check").click()
    dialog.get_by_role("button", name="Mend").click()
    expect(page.locator(".health")).to_contain_text("Mended.#2 A result was inserted.")
    expect(page.get_by_role("article")).to_have_count(3)
    assert history.problems() == []
    history.append(["no known format"])
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".health")).to_have_text(
        "No problems were found. 1 message in no known format was not checked."
    )


def test_calls_without_a_result_are_removed_on_request(console, agent, operator):
    history = agent.history("s")
    broken(history)
    page = console.open("n", agent.namespace, "sessions", "s", token=operator)
    page.get_by_role("button", name="Check").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Remove calls without a result.").check()
    history.append([{"role": "tool", "tool_call_id": "call_2", "content": "of no call"}])
    dialog.get_by_role("button", name="Mend").click()
    expect(page.locator(".health").get_by_role("listitem")).to_have_count(2)
    assert [message.data for message in history.messages()] == [say("user", "x")]


def test_a_read_token_can_check_a_session_and_not_mend_it(console, agent, create_token):
    broken(agent.history("s"))
    page = console.open(
        "n", agent.namespace, "sessions", "s", token=create_token(agent.namespace, can=["read"])["secret"]
    )
    page.get_by_role("button", name="Check").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Mend").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Not allowed")
    assert len(agent.history("s")) == 2


def test_a_namespace_is_deleted_after_its_name_is_typed(rules, agent):
    agent["k"] = 1
    agent.history("s").append([say("user", "x")] * 2)
    agent.retain(sessions_idle=3_600)
    page = rules()
    page.get_by_role("button", name="Delete the namespace").click()
    dialog = page.get_by_role("dialog")
    typed = dialog.get_by_label("Type the name of the namespace")
    typed.fill(agent.namespace[:-1])
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Nothing was deleted.")
    assert agent["k"] == 1
    typed.fill(agent.namespace)
    page.keyboard.press("Enter")
    expect(page.get_by_text("The namespace is deleted, with 3 keys and messages.").first).to_be_visible()
    expect(page.get_by_text("No rules.")).to_be_visible()
    assert (list(agent), agent.sessions(), agent.retention()) == ([], [], [])


def test_a_read_token_can_only_see_the_rules(rules, agent, create_token):
    agent.history("s").append([say("user", "x")])
    agent.retain(sessions_idle=3_600, prefix="tmp-")
    page = rules(create_token(agent.namespace, can=["read"])["secret"])
    expect(page.get_by_role("list", name="Rules")).to_contain_text("1 hour")
    expect(page.get_by_text("Your token may not write")).to_be_visible()
    assert page.locator(".page button").count() == 0
    page.get_by_role("link", name="Sessions", exact=True).click()
    page.get_by_role("list", name="Sessions").get_by_role("link").click()
    page.get_by_role("button", name="Expiry").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Not allowed.")


# Accessibility


SCREENS = {
    "namespaces": [],
    "sessions": ["n", "{}", "sessions", "talk"],
    "keys": ["n", "{}", "keys", "user/42"],
    "search": ["n", "{}", "search"],
    "retention": ["n", "{}", "retention"],
    "usage": ["n", "{}", "usage"],
    "tokens": ["tokens"],
    "plans": ["plans"],
    "audit": ["audit"],
    "access": ["access"],
}


@pytest.mark.parametrize(("scheme", "options"), [("light", {}), ("dark", PHONE)], ids=["light", "dark-phone"])
def test_every_screen_is_accessible(tab, agent, administer, operator, scheme, options):
    for _ in range(12):  # more than a screen
        administer("record", "test.act", reason="a list that scrolls")
    agent["user/42"] = {"plan": "gold"}
    agent.retain(sessions_idle=86_400, prefix="a-long-prefix-" * 10)
    agent.history("talk").append(
        [
            say("user", "x" * 300),
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            say("tool", "done"),
            say("system", "s"),
            {"odd": "x" * 300},
        ]
    )
    console = tab(color_scheme=scheme, **options)
    console.open(token=operator)
    for name, parts in SCREENS.items():
        page = console.open(
            *(part.format(agent.namespace) for part in parts), query="?q=gold" if name == "search" else ""
        )
        page.wait_for_timeout(300)
        found = page.evaluate(AXE + "; axe.run()")["violations"]
        found = [
            (item["id"], [node["html"] for node in item["nodes"]])
            for item in found
            if item["impact"] in {"serious", "critical"}
        ]
        assert found == [], name
        assert page.evaluate(
            "[document.documentElement, ...document.querySelectorAll('main, .place')].every("
            "(item) => item.scrollWidth <= item.clientWidth)"
        ), f"{name} is wider than the screen"
        assert page.locator("h1").count() == 1
        assert page.title().endswith("botwire")


def test_the_console_works_on_a_phone(tab, agent, operator):
    agent["user/42"] = {"plan": "gold"}
    agent.history("talk").append([say("user", "hello")])
    page = tab(**PHONE).open("n", agent.namespace, token=operator)
    page.get_by_role("link", name="talk").tap()
    expect(page.get_by_role("feed").get_by_text("hello")).to_be_visible()
    expect(page.get_by_role("list", name="Sessions")).to_be_hidden()
    expect(page.get_by_role("link", name="← Sessions")).to_be_focused()
    page.get_by_role("link", name="← Sessions").tap()
    expect(page.get_by_role("list", name="Sessions")).to_be_visible()
    page.get_by_role("link", name="Keys").tap()
    page.get_by_role("link", name="user/42").tap()
    page.get_by_label("Value, as JSON").fill("1")
    page.get_by_role("button", name="Save").tap()
    expect(page.get_by_text("Saved.").first).to_be_visible()
    assert agent["user/42"] == 1
    page.get_by_role("link", name="← Keys").tap()
    page.get_by_role("link", name="New key").tap()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.get_by_role("link", name="← Keys").tap()
    expect(page.get_by_role("list", name="Keys")).to_be_visible()


def test_the_console_works_with_the_keyboard_alone(console, agent, operator):
    agent["k"] = 1
    agent.history("talk").append([say("user", f"line {n}") for n in range(40)])
    page = console.open(token=operator)
    keys = page.keyboard
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    keys.press("Tab")
    expect(page.get_by_label("Open a namespace")).to_be_focused()
    keys.type(agent.namespace)
    keys.press("Enter")
    expect(page.get_by_role("link", name="talk")).to_be_visible()
    page.get_by_role("link", name="talk").focus()
    keys.press("Enter")
    last = page.locator('[data-seq="40"]')
    expect(last).to_be_in_viewport()
    page.get_by_role("feed").focus()
    keys.press("Control+Home")
    expect(page.locator('[data-seq="1"]')).to_be_focused()
    keys.press("PageDown")
    expect(page.locator('[data-seq="2"]')).to_be_focused()
    keys.press("Control+End")
    expect(last).to_be_in_viewport()


def test_the_theme_can_be_changed(tab):
    def back(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    console = tab(color_scheme="dark")
    page = console.open()
    theme = page.get_by_role("button", name="Theme")
    seen = [back(page)]
    for _ in range(3):
        theme.click()
        seen.append(back(page))
    dark, light = seen[0], seen[1]
    assert dark != light
    assert seen == [dark, light, dark, dark]  # system, light, dark, system
    theme.click()
    page.reload()
    assert back(page) == light


def test_the_console_reconnects_to_a_restarted_server(chromium, tmp_path):
    with Server(tmp_path / "a.db") as server, Memory("n", f"sqlite:///{tmp_path}/a.db") as memory:
        memory["k"] = 1
        page = chromium.new_page()
        page.goto(f"{server.url}/#/n/n/keys")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        server.kill()
        expect(page.get_by_text("Offline", exact=True)).to_be_visible()
        memory["new"] = 1
        server.start()
        expect(page.get_by_role("link", name="new", exact=True)).to_be_visible(timeout=10_000)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.close()


# Operators


def test_tokens_can_be_created_and_revoked(console, operator, server):
    page = console.open("tokens", token=operator)
    page.get_by_text("New token").click()
    page.get_by_label("Name", exact=True).fill("a bot's <b>own</b>")
    page.get_by_label("Namespaces").fill("shop-*, desk")
    page.get_by_label("Write", exact=True).uncheck()
    page.get_by_label("Expires").select_option("In a day")
    page.get_by_role("button", name="Create token").click()
    secret = page.get_by_label("The new token.").input_value()
    with Memory("shop-1", server.url, token=secret) as memory:
        assert memory.get("k") is None
    card = page.get_by_role("article").filter(has_text="a bot's <b>own</b>")
    expect(card).to_contain_text("shop-*, desk: read")
    card.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(card).to_have_count(0)
    page.get_by_label("Show expired and revoked").check()
    expect(card).to_contain_text("Revoked")
    page = console.open("audit")
    expect(page.get_by_role("list", name="Audit log")).to_contain_text("token.revoke")


def test_plans_can_be_assigned(console, agent, operator):
    page = console.open("plans", token=operator)
    expect(page.get_by_role("row", name="tiny")).to_contain_text("1 MB")
    page.get_by_label("Namespace", exact=True).fill(agent.namespace)
    page.get_by_label("Plan", exact=True).select_option("free")
    page.get_by_role("button", name="Assign").click()
    expect(page.get_by_text("now has the plan free.").first).to_be_visible()
    assert agent.usage().plan == "free"


# Untrusted data


@pytest.mark.parametrize("payload", PAYLOADS)
def test_stored_data_is_never_html(console, address, operator, payload):
    namespace = payload.replace("/", "∕")
    with Memory(namespace, address) as memory:
        memory[payload] = {payload: payload}
        memory.retain(sessions_idle=3_600, prefix=payload)
        memory.history(payload).append(
            [
                say("user", payload),
                {payload: payload},
                {
                    "role": payload,
                    "name": payload,
                    "content": None,
                    "tool_calls": [{"function": {"name": payload, "arguments": payload}}],
                },
            ]
        )
    page = console.open(token=operator)
    expect(page.get_by_role("link", name=namespace, exact=True)).to_be_visible()
    page = console.open("n", namespace, "sessions", payload)
    expect(page.locator("article .text")).to_have_text(payload)
    for fold in [*page.locator("summary").all(), *page.get_by_role("button", name="JSON").all()]:
        fold.click()
    page = console.open("n", namespace, "keys", payload)
    expect(page.get_by_label("Value, as JSON")).to_have_value(
        json.dumps({payload: payload}, indent=2, ensure_ascii=False)
    )
    page = console.open("n", namespace, "search", query="?q=stolen")
    expect(page.locator(".hits article").first).to_be_visible()
    page = console.open("n", namespace, "retention")
    page.get_by_role("button", name="Remove the rule").click()
    expect(page.get_by_role("dialog")).to_contain_text(payload)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete the namespace").click()
    expect(page.get_by_role("dialog")).to_contain_text(namespace)
    page.keyboard.press("Escape")
    page = console.open("n", namespace, "usage")
    expect(page.get_by_role("heading", name="Stored").first).to_be_visible()
    assert page.locator("main script, main img, main [onerror], main [onload]").count() == 0
