"""The addresses of an origin's host.

A resolver takes no timeout, and may take half a minute when the network is down. Reading the certificates to trust takes
20 ms. So both happen in a thread that no call has to wait for, and that does not delay the end of the program.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import queue
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ...deadline import Deadline
from .origin import Origin
from .waiting import seconds_left


class Address(NamedTuple):
    """One address of a host."""

    family: int
    sockaddr: Any


Outcome: TypeAlias = Sequence[Address] | BaseException


def addresses_of(origin: Origin, deadline: Deadline) -> Sequence[Address]:
    """Return the addresses to connect to, and read the certificates to trust.

    Raises:
        OSError: the host is not known.
        TimeoutError: the deadline has passed.
    """
    known = _numeric(origin)
    if known is not None:
        return known
    # Neither `threading.Thread` nor a future: a KeyboardInterrupt inside a `Condition` becomes a RuntimeError.
    outcome: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    _start(origin, outcome.put)
    try:
        return _result(outcome.get(timeout=seconds_left(deadline)))
    except queue.Empty:
        raise TimeoutError("timed out") from None


async def addresses_of_async(origin: Origin) -> Sequence[Address]:
    """As `addresses_of`, on an event loop."""
    known = _numeric(origin)
    if known is not None:
        return known
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Outcome] = loop.create_future()

    def deliver(result: Outcome) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(_settle, outcome, result)

    _start(origin, deliver)
    return _result(await outcome)


def _settle(future: asyncio.Future[Outcome], result: Outcome) -> None:
    if not future.done():
        future.set_result(result)


def _result(outcome: Outcome) -> Sequence[Address]:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _start(origin: Origin, deliver: Callable[[Outcome], None]) -> None:
    def run() -> None:
        try:
            origin.load_tls()
            outcome: Outcome = _resolve(*origin.endpoint, 0)
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is received
            outcome = error
        deliver(outcome)

    _thread.start_new_thread(run, ())


def _numeric(origin: Origin) -> Sequence[Address] | None:
    """Return the address of a host that is an IP address; None: there is something to wait for."""
    if not origin.is_prepared:
        return None
    try:
        return _resolve(*origin.endpoint, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None


def _resolve(host: str, port: int, flags: int) -> Sequence[Address]:
    """Return the addresses of a host, alternating between IPv6 and IPv4 as RFC 8305 asks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    seen: Counter[int] = Counter()
    ranked: list[tuple[int, Address]] = []
    for family, _, _, _, sockaddr in found:
        ranked.append((seen[family], Address(family, sockaddr)))
        seen[family] += 1
    return [address for _, address in sorted(ranked, key=lambda item: item[0])]
