"""A small server with the part of the OpenAI API that a chat model needs. Each request gets the next scripted answer.

It replaces a service that the tests must not call, and listens on loopback only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class OpenAIStub:
    """Answers chat completions, streamed or complete, with the given texts in turn. Records the requests."""

    def __init__(self, answers: list[str]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answers = iter(answers)
        self._mutex = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        """The ``base_url`` of a client."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def prompts(self) -> list[str]:
        """The text of all messages of each request, in the order of the requests."""
        return ["\n".join(str(message["content"]) for message in request["messages"]) for request in self.requests]

    def answer(self, request: dict[str, Any]) -> str:
        """Return the next text, or raise StopIteration if all are used."""
        with self._mutex:
            self.requests.append(request)
            return next(self._answers)

    def serve(self) -> None:
        """Answer until `stop`."""
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        """End `serve` and close the socket."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def openai_stub(*answers: str) -> Iterator[OpenAIStub]:
    """Run a stub with these answers for the duration of a ``with``."""
    stub = OpenAIStub(list(answers))
    thread = threading.Thread(target=stub.serve)
    thread.start()
    try:
        yield stub
    finally:
        stub.stop()
        thread.join()


def _handler(stub: OpenAIStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # one connection for each request, so that none is open at the end

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(404, "application/json", {"error": {"message": f"{self.path} does not exist"}})
                return
            try:
                text = stub.answer(request)
            except StopIteration:
                self._send(400, "application/json", {"error": {"message": "the script has no answer left"}})
                return
            if request.get("stream"):
                self._stream(text)
            else:
                message = {"role": "assistant", "content": text}
                usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self._send(200, "application/json", _object("chat.completion", choice) | {"usage": usage})

        def _send(self, status: int, kind: str, body: dict[str, Any]) -> None:
            self._write(status, kind, json.dumps(body))

        def _stream(self, text: str) -> None:
            choices = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
            choices += [{"index": 0, "delta": {"content": char}, "finish_reason": None} for char in text]
            choices += [{"index": 0, "delta": {}, "finish_reason": "stop"}]
            events = [json.dumps(_object("chat.completion.chunk", choice)) for choice in choices] + ["[DONE]"]
            self._write(200, "text/event-stream", "".join(f"data: {event}\n\n" for event in events))

        def _write(self, status: int, kind: str, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler


def _object(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-stub", "object": kind, "created": 0, "model": "stub", "choices": [choice]}
