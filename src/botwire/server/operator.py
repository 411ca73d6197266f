"""What an operator does at the command line, on a store or through a server. Both classes have the same methods."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import msgspec

from .. import wire
from ..plans import Plans
from ..queries import ListNamespaces
from ..records import Message
from ..stores import open_to_serve
from ..stores.http.messages import Request
from ..stores.http.store import HttpStore
from .access.tokens import Tokens, shown

Facts = dict[str, Any]


class OnStore:
    """On a SQLite file or a PostgreSQL database, also while servers run on it. Its user is an operator."""

    def __init__(self, address: str) -> None:
        self._store = open_to_serve(address, Plans())
        self._tokens = Tokens(self._store.to_async())

    def create(self, *, namespaces: list[str], can: list[str], name: str, expires_in: float | None) -> Facts:
        """Issue a token. ``secret`` is the token itself."""
        work = self._tokens.create(namespaces=namespaces, can=can, name=name, expires_in=expires_in)
        token, secret = asyncio.run(work)
        return {"secret": secret, **shown(token)}

    def tokens(self) -> list[Facts]:
        return [shown(token) for token in asyncio.run(self._tokens.listed())]

    def revoke(self, identity: str) -> list[str]:
        """Revoke a token and all tokens issued with it; returns the ids of those that were live."""
        return [token.id for token in asyncio.run(self._tokens.revoke(identity))]

    def namespaces(self) -> list[str]:
        return self._store.read("", ListNamespaces())

    def audit(self) -> list[Facts]:
        return list(map(_shown, asyncio.run(self._tokens.audit())))

    def record(self, act: str, **facts: Any) -> None:
        """Record an action in the audit log."""
        asyncio.run(self._tokens.record(act, **facts))

    def close(self) -> None:
        self._store.close()


class Remote:
    """Through a server, with an operator's token, or with one that administers some namespaces."""

    def __init__(self, address: str, token: str | None) -> None:
        self._store = HttpStore(address, token=token)

    def create(self, *, namespaces: list[str], can: list[str], name: str, expires_in: float | None) -> Facts:
        asked = {"namespaces": namespaces, "can": can, "name": name, "expires_in": expires_in}
        return self._ask("POST", "/tokens", wire.encode(asked))

    def tokens(self) -> list[Facts]:
        return list(self._ask("GET", "/tokens")["tokens"])

    def revoke(self, identity: str) -> list[str]:
        return list(self._ask("DELETE", wire.namespace_path("tokens", identity))["revoked"])

    def namespaces(self) -> list[str]:
        return self._store.read("", ListNamespaces())

    def audit(self) -> list[Facts]:
        found: list[Facts] = []
        after: int | str | None = 0
        while after is not None:
            page = wire.decode_answer(self._store.ask(Request("GET", "/audit" + wire.query(after=after))))
            found += [_shown(message) for message in page.rows("messages")]
            after = page.next
        return found

    def close(self) -> None:
        self._store.close()

    def _ask(self, method: str, path: str, body: bytes = b"") -> Facts:
        return msgspec.json.decode(self._store.ask(Request(method, path, body)), type=Facts)


def _shown(record: Message) -> Facts:
    """Return a record of the audit log."""
    return {"at": record.created_at, **record.data}


Administration: TypeAlias = OnStore | Remote
