"""Takes the screenshots of the console for the documents: `make screenshots`."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import msgspec

from botwire import Memory, QuotaExceeded
from botwire.limits import ACCESS
from botwire.operations import Put
from botwire.records import Sample
from botwire.server.operator import OnStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import now
from tests.console.browser import browser
from tests.servers import Server

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
DESKTOP = {"viewport": {"width": 1120, "height": 700}}
PHONE = {"viewport": {"width": 360, "height": 680}, "is_mobile": True, "has_touch": True}

TALK = [
    {"role": "system", "content": "You are the support agent of a shop. Be short and kind."},
    {"role": "user", "content": "Hi! My parcel 77-1042 has not arrived. It was due on Monday."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "track_parcel", "arguments": '{"parcel": "77-1042"}'}}],
    },
    {
        "role": "tool",
        "tool_call_id": "1",
        "name": "track_parcel",
        "content": "held at the depot: the address has no house number",
    },
    {
        "role": "assistant",
        "content": "It waits at the depot, because the address has no house number. Which one shall I add?",
    },
    {"role": "user", "content": "Oh! It is 12b. Thank you!"},
]

PICTURES = {
    "session-light": (DESKTOP, "light", "#/n/support-bot/sessions/ticket-1042"),
    "key-dark": (DESKTOP, "dark", "#/n/support-bot/keys/user%2F42"),
    "search-light": (DESKTOP, "light", "#/n/support-bot/search?q=parcel%20that%20has%20not%20arrived"),
    "tokens-light": (DESKTOP, "light", "#/tokens"),
    "usage-dark": (DESKTOP, "dark", "#/n/support-bot/usage"),
    "usage-phone": (PHONE, "light", "#/n/support-bot/usage"),
    "session-phone": (PHONE, "dark", "#/n/support-bot/sessions/ticket-1042"),
    "keys-phone": (PHONE, "light", "#/n/support-bot/keys"),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.db")
        plans = Path(folder, "plans.toml")
        plans.write_text("[team]\nwrites_per_day = 400\nmax_bytes = 40_000\n")
        with (
            Server(file, "--plan", "team", "--plans", str(plans)) as server,
            closing(OnStore(f"sqlite:///{file}")) as rules,
        ):
            token = rules.create(namespaces=["*"], can=["admin"], name="operator", expires_in=None)["secret"]
            rules.create(namespaces=["support-*"], can=["read", "write"], name="support bots", expires_in=86_400)
            _write_usage_history(file)
            for name, (options, scheme, place) in PICTURES.items():
                _take(server, token, FOLDER / f"{name}.png", options, scheme, place)


def _take(server: Server, token: str, path: Path, options: dict, scheme: str, place: str) -> None:
    with browser() as chromium, chromium.new_context(color_scheme=scheme, base_url=server.url, **options) as context:
        page = context.new_page()
        page.goto(f"/#token={token}")
        page.goto(f"/{place}")
        _work(server)
        page.wait_for_timeout(2_500)  # until the page shows the new data
        page.screenshot(path=path)


def _write_usage_history(file: Path) -> None:
    """Write the usage of the agent in the last 100 hours."""
    hour = now() // 3_600_000_000
    puts = []
    for ago in range(100, 0, -1):
        of_day = (hour - ago) % 24
        sample = Sample(
            (hour - ago) * 3_600_000_000, of_day * 13 + of_day % 5, 2_000 + 120 * (100 - ago) - 900 * (ago < 40)
        )
        puts.append(Put(f"usage/support-bot/{hour - ago:012d}", msgspec.json.encode(sample).decode()))
    store = SqliteStore(file)
    store.write(ACCESS, puts)
    store.close()


def _work(server: Server) -> None:
    """Write as an agent does, so that the page is updated live."""
    with Memory("support-bot", server.url) as memory:
        if not memory.history("ticket-1042").messages(last=1):
            memory.set_many({f"user/{n}": {"plan": "free", "seats": n % 5 + 1} for n in range(30, 90)})
            memory["user/42"] = {
                "name": "Ada",
                "plan": "gold",
                "customer": 12345678901234567890,
                "likes": ["teal", "compilers"],
            }
            for number, about in enumerate(
                ("refund", "invoice", "broken lamp", "new address", "voucher", "delivery date")
            ):
                text = f"I have a question about my {about}."
                memory.history(f"ticket-{1036 + number}").append([{"role": "user", "content": text}] * (number + 1))
            memory.history("ticket-1042").append(TALK)
        try:
            memory.set_many({f"note/{n}": "checked the depot's list " * 3 for n in range(40)})
        except QuotaExceeded:
            pass


if __name__ == "__main__":
    main()
