"""The console at /: a page, its scripts and its style sheet, served from this folder as they are, or compressed."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files

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
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


def add_console(app: FastAPI) -> None:
    """Add the page and its files to the app."""
    plain = {file.name: file.read_bytes() for file in files(__package__).iterdir() if _media_type(file.name)}
    packed = {name: gzip.compress(body, mtime=0) for name, body in plain.items()}
    tags = {body: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for body in (*plain.values(), *packed.values())}

    @app.get("/", include_in_schema=False)
    async def console(request: Request) -> Response:
        return answer(request, "index.html")

    @app.get("/console/{file}", include_in_schema=False)
    async def part(request: Request, file: str) -> Response:
        if file not in plain:
            raise NotFound(f"the console has no file {file!r}")
        return answer(request, file)

    def answer(request: Request, name: str) -> Response:
        is_packed = _accepts_gzip(request)
        body = packed[name] if is_packed else plain[name]
        headers = {**_HEADERS, "ETag": tags[body], **({"Content-Encoding": "gzip"} if is_packed else {})}
        if request.headers.get("if-none-match") == tags[body]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_media_type(name))


def _accepts_gzip(request: Request) -> bool:
    """Whether the client names gzip without a weight, as browsers do. Any other client gets the plain file."""
    return "gzip" in request.headers.get("accept-encoding", "").replace(" ", "").split(",")


def _media_type(name: str) -> str | None:
    return _MEDIA_TYPES.get(name.rpartition(".")[2])
