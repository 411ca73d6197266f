"""What an operator does at the command line, on a store or through a server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from .. import wire
from ..plans import Plans
from ..queries import ListNamespaces
from ..stores import guarded_store, open_to_serve
from ..stores.http.messages import Request
from ..stores.http.store import HttpStore
from .access.tokens import Tokens, shown

T = TypeVar("T")
Facts = dict[str, Any]


class Administration(ABC):
    """The tokens, the namespaces and the audit log of a store, as plain facts."""

    @abstractmethod
    def create(self, *, namespaces: list[str], can: list[str], name: str, expires_in: float | None) -> Facts:
        """Mint a token; ``secret`` is the token itself."""

    @abstractmethod
    def tokens(self) -> list[Facts]:
        """List tokens and claims."""

    @abstractmethod
    def revoke(self, identity: str) -> list[str]:
        """Revoke a token and all that it minted; returns the ids of those that were live."""

    @abstractmethod
    def namespaces(self) -> list[str]:
        """List namespaces."""

    @abstractmethod
    def audit(self) -> list[Facts]:
        """Return the audit log."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the store."""


class OnStore(Administration):
    """On a SQLite file or a PostgreSQL database, also while servers run on it. Whoever may write there is an operator."""

    def __init__(self, address: str) -> None:
        self._store = open_to_serve(address, Plans())
        self._tokens = Tokens(guarded_store(self._store))

    def create(self, *, namespaces: list[str], can: list[str], name: str, expires_in: float | None) -> Facts:
        work = self._tokens.create(namespaces=namespaces, can=can, name=name, expires_in=expires_in)
        token, secret = _run(work)
        return {"secret": secret, **shown(token)}

    def tokens(self) -> list[Facts]:
        return [shown(token) for token in _run(self._tokens.listed())]

    def revoke(self, identity: str) -> list[str]:
        return [token.id for token in _run(self._tokens.revoke(identity))]

    def namespaces(self) -> list[str]:
        return self._store.read("", ListNamespaces())

    def audit(self) -> list[Facts]:
        return [{"at": message.created_at, **message.data} for message in _run(self._tokens.audit())]

    def record(self, act: str, **facts: Any) -> None:
        """Put down in the audit log what was done here."""
        _run(self._tokens.record(act, **facts))

    def close(self) -> None:
        self._store.close()


class Remote(Administration):
    """Through a server, with an operator's token; or with another, for the namespaces that it administers."""

    def __init__(self, address: str, token: str | None) -> None:
        self._store = HttpStore(address, token=token)

    def create(self, *, namespaces: list[str], can: list[str], name: str, expires_in: float | None) -> Facts:
        asked = {"namespaces": namespaces, "can": can, "name": name, "expires_in": expires_in}
        return self._ask("POST", "/tokens", wire.encode_document(asked))

    def tokens(self) -> list[Facts]:
        return list(self._ask("GET", "/tokens")["tokens"])

    def revoke(self, identity: str) -> list[str]:
        return list(self._ask("DELETE", wire.namespace_path("tokens", identity))["revoked"])

    def namespaces(self) -> list[str]:
        return self._store.read("", ListNamespaces())

    def audit(self) -> list[Facts]:
        found: list[Facts] = []
        after: int | None = 0
        while after is not None:
            page = wire.decode_answer(self._store.ask(Request("GET", "/audit" + wire.query(after=after))))
            records = [message.record() for message in page.messages]
            found += [{"at": record.created_at, **record.data} for record in records]
            after = int(page.next) if page.next is not None else None
        return found

    def close(self) -> None:
        self._store.close()

    def _ask(self, method: str, path: str, body: bytes = b"") -> Facts:
        headers = (("Content-Type", wire.MEDIA_TYPE),) if body else ()
        return msgspec.json.decode(self._store.ask(Request(method, path, body, headers)), type=Facts)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
