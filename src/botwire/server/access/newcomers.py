"""How many new namespaces each address may use in a day, on a server that requires no tokens."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from ...errors import QuotaExceeded
from ...timestamps import now

MAX_ADDRESSES = 10_000
"""Addresses that are counted one by one, about 1 MB. All further ones of the day share one allowance."""
_DAY = 86_400_000_000
_OTHERS = "others"


class Newcomers:
    """Counts, by address and UTC day, the namespaces that callers without an issued token create or claim.

    Each process counts for itself, and forgets the counts when it ends.

    Args:
        limit: namespaces of an address in a day; 0: no limit.
    """

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._day = 0
        self._taken: dict[str, int] = {}
        self.on_refusal: Callable[[], object] = lambda: None

    def counted(self, host: str | None) -> str | None:
        """Return the address under which a client is counted; None: it is not counted.

        A client on this machine is not counted, because it may be a proxy for many others.
        """
        return None if host is None or not self._limit else network_of(host)

    def take(self, address: str) -> None:
        """Count one more namespace, or raise `QuotaExceeded`."""
        moment = now()
        if moment // _DAY != self._day:
            self._day = moment // _DAY
            self._taken.clear()
        key = self._key(address)
        taken = self._taken.get(key, 0)
        if taken >= self._limit:
            self.on_refusal()
            seconds = (self._day + 1) * 86_400 - moment // 1_000_000
            raise QuotaExceeded(
                f"clients without a token from your network may use {self._limit:,} new namespaces a UTC day: all are used. "
                f"Nothing was written. It starts again in {seconds:,} s; namespaces that exist still work. Ask the operator "
                "for a token, or for a higher --namespaces-per-address",
                limit=self._limit,
                retry_after=seconds,
                policy="namespaces",
            )
        self._taken[key] = taken + 1

    def give_back(self, address: str) -> None:
        """Count one namespace less: the write that needed it changed nothing."""
        key = self._key(address)
        left = self._taken.pop(key, 0) - 1
        if left > 0:
            self._taken[key] = left

    def _key(self, address: str) -> str:
        return address if address in self._taken or len(self._taken) < MAX_ADDRESSES else _OTHERS


@lru_cache(maxsize=1_024)
def network_of(host: str) -> str | None:
    """Return an IPv4 address, or the first 64 bits of an IPv6 address, which one client has to itself; None: this machine.

    RFC 6177 says why 64 bits: https://datatracker.ietf.org/doc/html/rfc6177.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # no IP address, as from a Unix socket
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    return str(address) if address.version == 4 else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
