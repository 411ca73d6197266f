"""Authorizes requests: who sends one, whether the rules allow it, and the store as this caller may use it.

A decision is made once and kept for a while. The store checks in each read and write that it still holds (`store.GuardedStore`).
So a request of a known caller costs a lookup in a dict, and a revoked token is useless at once in every process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import msgspec
from starlette import types

from ...connections.peers import is_loopback
from ...errors import BotWireError, InvalidArgument, InvalidName, Timeout, Unavailable
from ...limits import check_namespace
from ...operations import Guard, Operation, Result, has_effect
from ...queries import GetProgress, Query
from ...store import GuardedStore, GuardFailed
from ...timestamps import now
from ..telemetry.usage_history import Recorder
from .newcomers import Newcomers
from .rules import Caller, Forbidden, Mode, Rule, Scope, authorize, authorize_route, parse_credentials
from .tokens import TokenIssuer, Tokens

T = TypeVar("T")

MAX_KEPT = 10_000
"""Decisions that are kept. At this number all are dropped, so that no client can fill the memory with names and tokens."""
KEPT_SECONDS = 60.0
"""How long a decision is kept. It holds longer, but checking it takes longer once others have changed."""
_ATTEMPTS = 50
_OTHER_HOST = (
    "this server answers this machine only, and the request names another host: use 127.0.0.1, or start the server with --open "
    "or --auth required if a proxy in front of it passes on another name"
)
_OTHER_SITE = (
    "a page of another site, or of another port, sent this request: open this server in the browser itself, or start it with "
    "--auth required"
)
_OWN_SITES = (b"", b"none", b"same-origin")
"""Values of ``Sec-Fetch-Site`` (https://www.w3.org/TR/fetch-metadata/) that are served: no browser, its user, and the console."""
_TOO_FAST = "tokens and claims change faster than the server can check them; try again"


class Authorizer:
    """Authorizes the requests to a store, which has the namespaces and the tokens.

    ``local_only``: refuse requests that name a host other than this machine. A page of another site can let its own name resolve
    to 127.0.0.1, so that the browser takes an open server here for that site. The ``Host`` field still has the name. Also refuse
    requests that a browser sends for a page of another site. Such a page cannot read the answer, but a search changes the index.
    """

    def __init__(
        self, store: GuardedStore, *, mode: Mode, local_only: bool, newcomers: Newcomers | None = None
    ) -> None:
        self.store = store
        self.newcomers = newcomers or Newcomers()
        self.tokens = Tokens(store)
        self.recorder = Recorder(store)
        self.mode: Mode = mode
        self._local_only = local_only
        self._kept: dict[tuple[bytes | str, ...], AuthorizedStore] = {}
        """By the ``Authorization`` field if there is one, the namespace and the scope."""

    async def authorize_request(
        self, request: types.Scope, rule: Rule, namespace: str = ""
    ) -> AuthorizedStore | TokenIssuer | Caller | GuardedStore:
        """Return what a request may use: a namespace, the tokens that its caller administers, the caller, or the whole store."""
        credentials, host, site = [], None, b""
        for name, value in request["headers"]:
            if name == b"authorization":
                credentials.append(value)
            elif name == b"host" and host is None:
                host = value
            elif name == b"sec-fetch-site":
                site = value
        if self._local_only:
            if not is_local(host):
                raise Misdirected(_OTHER_HOST)
            if site not in _OWN_SITES and rule.where != "nowhere":
                raise CrossSite(_OTHER_SITE)
        if rule.where == "namespace":
            kept = self._kept.get((*credentials, namespace, rule.scope))
            if kept is not None and kept.until > time.time():
                return kept
            peer = request.get("client")
            client = None if peer is None else self.newcomers.counted(peer[0])
            return await self.authorized_store(parse_credentials(credentials), namespace, rule.scope, client)
        if rule.where == "nowhere" or (rule.where == "counts" and self.mode == "open"):
            return self.store
        caller, guard = await self.tokens.known(parse_credentials(credentials))
        authorize_route(caller, rule)
        if rule.where == "caller":
            return caller
        return TokenIssuer(self.tokens, caller, guard) if rule.where == "tokens" else self.store

    async def authorized_store(
        self, caller: Caller, namespace: str, scope: Scope, client: str | None = None
    ) -> AuthorizedStore:
        """Return the store for a caller in a namespace, or raise `AuthError`. ``client``: see `Newcomers.counted`."""
        for _ in range(_ATTEMPTS):
            known, guard = await self.tokens.known(caller)
            claim = None
            if not known.issued_id and (known.secret or self.mode == "open") and _is_valid(namespace):
                # An issued token does not depend on the claim. A server that requires tokens does not read it for a caller
                # without one: a refusal takes the same time, whatever the namespace holds.
                claim, on_claim = await self.tokens.claim_on(namespace)
                guard = msgspec.structs.replace(guard, needs=(*guard.needs, *on_claim.needs))
            authorize(known, scope, namespace, claim, mode=self.mode, now=now())
            check_namespace(namespace)
            try:
                await self.tokens.confirm(guard)
            except GuardFailed:
                continue
            may_found = scope == "write" and not known.issued_id and claim is None
            claims = may_found and bool(known.secret)
            if may_found and client is not None and not claims and await self._exists(namespace):
                client = None
            until = time.time() + KEPT_SECONDS
            if guard.until is not None:
                until = min(until, guard.until / 1_000_000)
            found = AuthorizedStore(self, caller, namespace, scope, guard, until, claims, client if may_found else None)
            if not claims and found.newcomer is None:
                self._keep(found)
            return found
        raise Unavailable(_TOO_FAST)

    async def _exists(self, namespace: str) -> bool:
        return (await self.store.read(namespace, GetProgress())).version > 0

    def _keep(self, found: AuthorizedStore) -> None:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        secret = found.caller.secret
        credentials = (f"Bearer {secret}".encode(),) if secret else ()
        self._kept[*credentials, found.namespace, found.scope] = found


class AuthorizedStore(msgspec.Struct):
    """A `Store` for one caller, limited to one namespace and one scope.

    ``until``: the time (`time.time`) until which the decision may be used again. ``claims``: the first write that changes something
    claims the namespace. ``newcomer``: the address of the client if such a write creates or claims the namespace, and is counted.
    """

    authorizer: Authorizer
    caller: Caller
    namespace: str
    scope: Scope
    guard: Guard
    until: float
    claims: bool
    newcomer: str | None = None

    async def read(self, namespace: str, query: Query[T]) -> T:
        """As `Store.read`. If tokens or claims have changed, the caller is authorized again."""
        if namespace != self.namespace:
            raise self._refusal("read")
        for _ in range(_ATTEMPTS):
            try:
                return await self.authorizer.store.read(namespace, query, guard=self.guard)
            except GuardFailed:
                await self._authorize_again()
        raise Unavailable(_TOO_FAST)

    async def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        """As `Store.write`, and as `read`. A write that changes something claims the namespace, if it ``claims``."""
        if namespace != self.namespace or self.scope == "read":
            raise self._refusal("write")
        for operation in operations:
            if operation.reveals:  # its result shows stored data
                await self.authorizer.authorized_store(self.caller, namespace, "read")
                break
        if self.newcomer is not None:
            return await self._write_as_newcomer(self.newcomer, operations, idempotency_key)
        for _ in range(_ATTEMPTS):
            claim = self.authorizer.tokens.claim(namespace, self.caller.secret) if self.claims else None
            try:
                results = await self.authorizer.store.write(
                    namespace, operations, idempotency_key=idempotency_key, guard=self.guard, also=claim
                )
            except GuardFailed:
                await self._authorize_again()
                continue
            if has_effect(operations, results):
                self.authorizer.recorder.written.add(namespace)
            return results
        raise Unavailable(_TOO_FAST)

    async def _write_as_newcomer(
        self, newcomer: str, operations: Sequence[Operation], idempotency_key: str | None
    ) -> list[Result]:
        """Write, and count the namespace unless the write changes nothing."""
        newcomers, self.newcomer = self.authorizer.newcomers, None
        newcomers.take(newcomer)
        try:
            results = await self.write(self.namespace, operations, idempotency_key=idempotency_key)
        except BotWireError as error:
            if not isinstance(error, Timeout):  # after one, the write may have happened
                newcomers.give_back(newcomer)
            raise
        if idempotency_key is None and not has_effect(operations, results):  # a key is kept in the namespace
            newcomers.give_back(newcomer)
        return results

    def expires_in(self) -> float:
        """Return the seconds until the caller's token expires, not below 0; infinite if it does not."""
        return math.inf if self.guard.until is None else max(self.guard.until - now(), 0) / 1_000_000

    async def _authorize_again(self) -> None:
        again = await self.authorizer.authorized_store(self.caller, self.namespace, self.scope)
        self.guard, self.claims = again.guard, again.claims

    def _refusal(self, scope: Scope) -> Forbidden:
        return Forbidden(f"this request may {self.scope} {self.namespace!r} and nothing else", scope)


class Misdirected(InvalidArgument):
    """The request is for another host (RFC 9110, section 15.5.20); nothing was done."""

    status = 421


class CrossSite(InvalidArgument):
    """A browser sent the request for a page of another site; nothing was done."""

    status = 403


def _is_valid(namespace: str) -> bool:
    try:
        check_namespace(namespace)
    except InvalidName:
        return False
    return True


@lru_cache(maxsize=256)
def is_local(host: bytes | None) -> bool:
    """Whether a ``Host`` field names this machine, with any port."""
    if host is None:  # HTTP/1.0: no browser
        return True
    name, colon, port = host.decode("latin-1").rpartition(":")
    return is_loopback((name if colon and port.isdigit() else name + colon + port).strip("[]"))
