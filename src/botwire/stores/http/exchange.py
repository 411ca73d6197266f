"""The response to a request, parsed from bytes."""

from __future__ import annotations

import httptools

from .messages import Response
from .origin import Origin

MAX_RESPONSE_BYTES = 1024**3
CHUNK = 64 * 1024
"""Bytes received at once. Python allocates them for each call, and from 128 KiB on that takes a system call: 60 µs."""


class Exchange:
    """The response to one request, as the parser finds it."""

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
        """Take bytes from the peer (none: it closed the connection); return the response when it is complete."""
        if not data:
            return self._ended()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # The parser wraps what its callbacks raise, also the KeyboardInterrupt that strikes there. And it keeps the error,
            # whose traceback leads back here: without this, all that the frames hold would wait for the garbage collector.
            del self._parser
            raise error.__context__ or error from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise self._origin.failed(f"the answer is not HTTP ({error})") from error
        if self._length > MAX_RESPONSE_BYTES:
            raise self._origin.failed(f"the answer has more than {MAX_RESPONSE_BYTES:,} bytes")
        return self._response() if self._complete else None

    def _ended(self) -> Response:
        # Without a length and unchunked, the end of the stream is the end of the body (RFC 9112, section 6.3).
        if self._headed and not {"content-length", "transfer-encoding"} & self._headers.keys():
            return self._response()
        raise self._origin.failed("the connection was closed before the answer was complete")

    def _response(self) -> Response:
        return Response(self._status, self._headers, b"".join(self._parts))

    # Called by the parser. After a complete answer it may find more bytes, which belong to no request.

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
        if self._complete:
            return
        self._length += len(data)
        if self._length <= MAX_RESPONSE_BYTES:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """Note that the answer is complete; after an interim answer (1xx), wait for the final one."""
        if self._complete:
            self.reusable = False
            return
        if self._parser.get_status_code() < 200:
            self._begin()
            return
        self._complete = True
        self.reusable = self._parser.should_keep_alive()
