"""The addresses of an origin's host."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from .origin import Origin


class Address(NamedTuple):
    """One address of a host."""

    family: int
    sockaddr: Any


def look_up(origin: Origin) -> Future[Sequence[Address]]:
    """Return the addresses to connect to; also reads the certificates to trust.

    A resolver takes no timeout, and may take half a minute when the network is down. So it runs in a thread that no one
    has to wait for.
    """
    found: Future[Sequence[Address]] = Future()
    found.set_running_or_notify_cancel()  # so that an event loop cannot cancel it under the thread
    if origin.is_prepared:
        try:
            found.set_result(_addresses(*origin.endpoint, socket.AI_NUMERICHOST))
        except socket.gaierror:
            pass
        else:
            return found

    def run() -> None:
        try:
            origin.load_tls()
            found.set_result(_addresses(*origin.endpoint, 0))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            found.set_exception(error)

    threading.Thread(target=run, name="botwire-lookup", daemon=True).start()
    return found


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    """Return the addresses of a host, alternating between IPv6 and IPv4 as RFC 8305 asks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    seen: Counter[int] = Counter()
    ranked: list[tuple[int, Address]] = []
    for family, _, _, _, sockaddr in found:
        ranked.append((seen[family], Address(family, sockaddr)))
        seen[family] += 1
    return [address for _, address in sorted(ranked, key=lambda item: item[0])]
