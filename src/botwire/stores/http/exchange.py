"""One HTTP/1.1 exchange: a request as bytes, and the response parsed from bytes."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from ...errors import InvalidArgument

MAX_RESPONSE_BYTES = 1024**3
CLOSED = "the store is closed; open a new one"
_CHUNK = 64 * 1024
"""Bytes received at once. Python makes room for as many each time, and from 128 KiB on the kernel has to help: 60 µs."""


class ConnectionFailed(OSError):
    """The connection could not be made, or broke before the answer was whole, or the peer does not speak HTTP."""


class Request(NamedTuple):
    """A request. The target is the encoded path and query, sent as it is."""

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Response(NamedTuple):
    """A whole response; the header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Origin:
    """Where requests go: the parsed address and the header fields that all of them carry."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidArgument(f"the port in the address is not one: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise InvalidArgument("an address has no user and password in it: pass token=… instead")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise InvalidArgument("the address is not http(s)://host[:port][/path]")
        self.host = parts.hostname
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = port or (443 if self.tls else 80)
        self.base = parts.path.rstrip("/")
        fields = {"Host": parts.netloc, **headers}
        self.fields = "".join(_field(name, value) for name, value in fields.items())

    def encode(self, request: Request) -> bytes:
        """Return a request as bytes."""
        fields = "".join(_field(name, value) for name, value in request.headers)
        length = f"Content-Length: {len(request.body)}\r\n" if request.body or request.method != "GET" else ""
        head = f"{request.method} {self.base}{request.target} HTTP/1.1\r\n{self.fields}{fields}{length}\r\n"
        return head.encode("latin-1") + request.body

    def failed(self, what: str) -> ConnectionFailed:
        """Return the error for a connection to here."""
        return ConnectionFailed(f"{self.host}:{self.port}: {what}")


def _field(name: str, value: str) -> str:
    if any(char in value for char in "\r\n\0") or not value.isascii():
        raise InvalidArgument(f"the header field {name} has characters that HTTP does not allow")
    return f"{name}: {value}\r\n"


class Exchange:
    """What comes back for one request, as the parser finds it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._length = 0
        self._status = 0
        self._complete = False
        self._headed = False
        self.reusable = False

    def feed(self, data: bytes) -> Response | None:
        """Take bytes from the peer (none: it closed); the response when it is whole."""
        if not data:
            return self._ended()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise self._origin.failed(f"the answer is not HTTP ({error})") from error
        if self._length > MAX_RESPONSE_BYTES:
            raise self._origin.failed(f"the answer has more than {MAX_RESPONSE_BYTES:,} bytes")
        return self._response() if self._complete else None

    def _ended(self) -> Response:
        # Without a length and unchunked, the end of the stream is the end of the body (RFC 9112, section 6.3).
        if self._headed and not {"content-length", "transfer-encoding"} & self._headers.keys():
            return self._response()
        raise self._origin.failed("the connection was closed before the answer was whole")

    def _response(self) -> Response:
        return Response(self._status, self._headers, b"".join(self._parts))

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field."""
        if self._complete:
            self.reusable = False
            return
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that only the body is missing."""
        if not self._complete:
            self._status = self._parser.get_status_code()
            self._headed = self._status >= 200

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if self._complete:  # of an answer that nobody asked for
            return
        self._length += len(data)
        if self._length <= MAX_RESPONSE_BYTES:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """Note that it is whole; after an interim answer, wait for the real one."""
        if self._complete:
            self.reusable = False
            return
        if self._parser.get_status_code() < 200:
            self._begin()
            return
        self._complete = True
        self.reusable = self._parser.should_keep_alive()
