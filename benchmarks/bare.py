"""Minimal servers to compare with. Each returns a small constant JSON answer.

``python -m benchmarks.bare starlette|asgi|fastapi PORT`` serves on a port, with the uvicorn that ``botwire serve`` uses.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

ANSWER = b'{"namespace":"bench","key":"key-1","value":{"text":"' + b"x" * 160 + b'","number":1},"version":1}'


async def _read(_: Request) -> Response:
    return Response(ANSWER, media_type="application/json")


async def _write(request: Request) -> Response:
    await request.body()
    return Response(ANSWER, media_type="application/json")


async def _asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def _fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/memory/{namespace}/{key:path}")
    async def read(namespace: str, key: str) -> dict[str, Any]:
        return {"namespace": namespace, "key": key, "value": {"text": "x" * 160, "number": 1}, "version": 1}

    return app


def _starlette() -> Starlette:
    path = "/memory/{namespace}/{key:path}"
    return Starlette(routes=[Route(path, _read, methods=["GET"]), Route(path, _write, methods=["PUT"])])


APPS = {"starlette": _starlette, "asgi": lambda: _asgi, "fastapi": _fastapi}

if __name__ == "__main__":
    uvicorn.run(
        APPS[sys.argv[1]](),
        port=int(sys.argv[2]),
        access_log=False,
        server_header=False,
        log_level="warning",
        ws="none",
    )  # type: ignore[arg-type]
