"""The page at /docs: the OpenAPI document as one plain page, without a script.

Swagger UI would add 1.5 MB of scripts to the package, and a policy that lets them run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}summary{cursor:pointer}"
    "pre{font:14px/1.4 monospace;overflow:auto}b{display:inline-block;min-width:4.5rem}:root{color-scheme:light dark}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    # Nothing on it can run, and nothing is fetched (https://www.w3.org/TR/CSP3/).
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


def add_page(app: FastAPI) -> None:
    """Add the page to the app."""

    @app.get("/docs", include_in_schema=False)
    async def docs(_: Request) -> Response:
        return HTMLResponse(_page(app.openapi()), headers=_HEADERS)


def _page(document: dict[str, Any]) -> str:
    routes = [
        _details(
            f"<b>{method.upper()}</b> <code>{escape(path)}</code> — {escape(operation.get('description') or operation['summary'])}",
            {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation},
        )
        for path, operations in sorted(document["paths"].items())
        for method, operation in operations.items()
    ]
    schemas = [
        _details(f"<code>{escape(name)}</code>", schema)
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    info = document["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>botwire</title><style>{_STYLE}</style><h1>botwire {escape(info['version'])}</h1>"
        f"<p>{escape(info['summary'])} For programs: <a href='openapi.json'>openapi.json</a>.</p>"
        f"<h2>Routes</h2>{''.join(routes)}<h2>Schemas</h2>{''.join(schemas)}"
    )


def _details(summary: str, value: Any) -> str:
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    return f"<details><summary>{summary}</summary><pre>{text}</pre></details>"
