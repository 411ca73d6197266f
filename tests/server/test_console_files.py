"""The files of the console, as the server gives them out."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import botwire.server.console
from tests.server.test_access import call

FOLDER = Path(botwire.server.console.__file__).parent
FILES = {path.name for path in FOLDER.iterdir() if path.suffix in {".js", ".css", ".svg", ".html"}}


def test_every_file_is_there_and_asked_for_at_once(shared_server):
    status, page, headers = call(shared_server, "GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    asked = set(re.findall(r'(?:href|src)="console/([^"]+)"', page.decode()))
    assert asked == FILES - {"index.html"}  # so that nothing waits for a script that names it
    for name in asked:
        status, body, headers = call(shared_server, "GET", f"/console/{name}")
        assert status == 200
        assert body == (FOLDER / name).read_bytes()
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "unsafe" not in headers["Content-Security-Policy"]
        again, body, _ = call(
            shared_server, "GET", f"/console/{name}", headers={"If-None-Match": headers["ETag"]}.items()
        )
        assert (again, body) == (304, b"")


def test_a_browser_gets_compressed_files(shared_server):
    plain = call(shared_server, "GET", "/console/style.css", headers={"Accept-Encoding": "br, gzip;q=0"}.items())
    accepted = {"Accept-Encoding": "gzip, deflate, br"}
    status, body, headers = call(shared_server, "GET", "/console/style.css", headers=accepted.items())
    assert (status, headers["Content-Encoding"], headers["Vary"]) == (200, "gzip", "Accept-Encoding")
    assert gzip.decompress(body) == plain[1] == (FOLDER / "style.css").read_bytes()
    assert plain[2]["Content-Encoding"] is None
    assert plain[2]["ETag"] != headers["ETag"]
    again = call(
        shared_server, "GET", "/console/style.css", headers={**accepted, "If-None-Match": headers["ETag"]}.items()
    )
    assert again[:2] == (304, b"")


def test_nothing_else_is_given_out(shared_server):
    for path in ("__init__.py", "nothing.js", "..%2fauth.py", "%2e%2e/auth.py", "a/b.js", ""):
        assert call(shared_server, "GET", f"/console/{path}")[0] == 404


def test_nothing_in_the_files_names_another_host_or_makes_html():
    for name in FILES:
        text = (FOLDER / name).read_text()
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+", text)) - {"http://www.w3.org"}
        assert not {host for host in hosts if "." in host}, name
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser", text
        ), name
