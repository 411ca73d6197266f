"""The console at /: a page, its scripts and its style sheet, served unchanged from this folder."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ...errors import NotFound

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    # Scripts and styles come from these files only, and requests go to this server only. No text can become HTML: that
    # needs a trusted type, and there is none (https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/).
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class _File(NamedTuple):
    body: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        headers = {**_HEADERS, "ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media_type)


def _load() -> dict[str, _File]:
    found = {}
    for file in files(__package__).iterdir():
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            found[file.name] = _File(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def add_console(app: FastAPI) -> None:
    """Add the page and its files to the app."""
    known = _load()

    @app.get("/", include_in_schema=False)
    async def console(request: Request) -> Response:
        return known["index.html"].answer(request)

    @app.get("/console/{file}", include_in_schema=False)
    async def part(request: Request, file: str) -> Response:
        if file not in known:
            raise NotFound(f"the console has no file {file!r}")
        return known[file].answer(request)
