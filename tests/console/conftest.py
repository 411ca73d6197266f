from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote

import pytest

from botwire import Memory
from botwire.server.operator import OnStore
from tests.console.browser import browser
from tests.models import make_small_model
from tests.servers import Server

PAYLOADS = (
    "<script>window.stolen = 1</script>",
    "<img src=x onerror='window.stolen = 1'>",
    "\"><svg onload='window.stolen = 1'>",
    "javascript:window.stolen=1",
    "{{constructor.constructor('window.stolen = 1')()}}",
)


@pytest.fixture(scope="module")
def chromium():
    # Playwright's event loop runs in this thread while the browser is open, so each module closes its browser.
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that requires tokens, with a plan and an embedder."""
    folder = tmp_path_factory.mktemp("console")
    (folder / "plans.toml").write_text("[tiny]\nwrites_per_day = 10\nmax_bytes = 1_000_000\nsession_idle_days = 14\n")
    make_small_model(folder)
    options = "--auth", "required", "--plans", str(folder / "plans.toml"), "--embedder", str(folder)
    with Server(folder / "a.db", *options) as running:
        yield running


@pytest.fixture(scope="module")
def address(server):
    """The address of the server's file. The agents of the tests write to it directly."""
    return f"sqlite:///{server.db}"


@pytest.fixture
def agent(address, request):
    """An agent whose namespace has the name of the test."""
    with Memory(request.node.name.partition("[")[0], address) as memory:
        yield memory


@pytest.fixture(scope="module")
def administer(server):
    """Return a function that runs an operator's command on the server's file."""

    def work(act, arguments, options):
        with closing(OnStore(f"sqlite:///{server.db}")) as file:
            return getattr(file, act)(*arguments, **options)

    def administer(act, /, *arguments, **options):
        with ThreadPoolExecutor(1) as thread:  # Playwright runs its event loop in the current thread
            return thread.submit(work, act, arguments, options).result()

    return administer


@pytest.fixture(scope="module")
def create_token(administer):
    """Return a function that creates a token."""

    def create_token(*namespaces, can=("admin",), name=""):
        return administer("create", namespaces=list(namespaces), can=list(can), name=name, expires_in=None)

    return create_token


@pytest.fixture(scope="module")
def revoke(administer):
    """Return a function that revokes a token by its id."""
    return lambda identity: administer("revoke", identity)


@pytest.fixture(scope="module")
def operator(create_token):
    return create_token("*", name="operator")["secret"]


class Console:
    """The console in its own tab. `close` fails if the page reported an error or sent a request to another host."""

    def __init__(self, chromium, server, **options) -> None:
        self.server = server
        self.context = chromium.new_context(base_url=server.url, accept_downloads=True, **options)
        self.context.set_default_timeout(8_000)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message) -> None:
        refused = "the server responded with a status of 4" in message.text  # the page shows the error itself
        if message.type in {"error", "warning"} and not refused:
            self.complaints.append(message.text)

    def open(self, *parts, token=None, query=""):
        path = "/".join(quote(part, safe="") for part in parts)
        if token is not None:
            self.page.goto(f"/#token={token}")
            self.page.wait_for_selector("nav[aria-label=Server] a")
        self.page.goto(f"/#/{path}{query}")
        self.page.wait_for_selector("h1, .problem", state="attached")
        return self.page

    def close(self) -> None:
        foreign = [url for url in self.requests if not url.startswith((self.server.url, "blob:"))]
        stolen = self.page.evaluate("window.stolen")
        self.context.close()
        assert foreign == []
        assert self.complaints == []
        assert stolen is None


@pytest.fixture
def tab(chromium, server):
    """Open tabs. Closes them after the test, which checks them for errors."""
    tabs = []

    def tab(**options):
        tabs.append(Console(chromium, server, **options))
        return tabs[-1]

    yield tab
    for opened in tabs:
        opened.close()


@pytest.fixture
def console(tab):
    return tab(viewport={"width": 1280, "height": 800})
