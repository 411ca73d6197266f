"""Who is at the other end of the connections of a process, and how many each of them has."""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter

RESERVED_FILES = 128
"""Files that are left for the database and its threads when connections have taken all others."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an interface (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3)."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_exempt(host: str) -> bool:
    """Whether a client may use all connections: one on this machine may be a proxy for many clients."""
    return is_loopback(host)


class Peers:
    """Connections of each client on another machine. Those of this machine are not counted."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def enter(self, host: str | None) -> int:
        """Count a connection, and return how many the client has, or 0 for this machine."""
        if host is None or is_exempt(host):
            return 0
        self._taken[host] += 1
        return self._taken[host]

    def leave(self, host: str | None) -> None:
        """Count a connection of this client no longer."""
        if host is None or host not in self._taken:
            return
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]


def most_files() -> float:
    """Return how many connections the open files of this process allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else max(soft - RESERVED_FILES, soft // 2)
