"""The response to a request, parsed from bytes."""

from __future__ import annotations

import httptools

from .messages import Response
from .origin import Origin

MAX_RESPONSE_BYTES = 1024**3


class Exchange:
    """The response to one request, as the parser finds it."""

    response: Response | None = None
    """The response, once it is complete."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._length = 0
        self._complete = False
        self.status = 0
        """The status, once the header is complete."""
        self.is_reusable = False
        """Whether the connection can be used for another request."""

    def feed(self, data: bytes) -> Response | None:
        """Take bytes from the peer (none: it closed the connection); return the response when it is complete."""
        if not data:
            # Without a length and unchunked, the end of the stream is the end of the body (RFC 9112, section 6.3).
            if not self.status or {"content-length", "transfer-encoding"} & self._headers.keys():
                raise self._origin.failed("the connection was closed before the answer was complete")
            self._complete = True
        else:
            self._parse(data)
        if self._complete:
            self.response = Response(self.status, self._headers, b"".join(self._parts))
        return self.response

    def _parse(self, data: bytes) -> None:
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

    def take(self) -> bytes:
        """Return the part of the body that has come since the last call."""
        body = b"".join(self._parts)
        self._parts, self._length = [], 0
        return body

    # Called by the parser. After a complete answer it may find more bytes, which belong to no request.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            self.is_reusable = False
        else:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._complete and status >= 200:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._length += len(data)
        if self._length <= MAX_RESPONSE_BYTES:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._complete:
            self.is_reusable = False
        elif self._parser.get_status_code() < 200:  # an interim answer: the final one follows
            self._begin()
        else:
            self._complete = True
            self.is_reusable = self._parser.should_keep_alive()
