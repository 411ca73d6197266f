"""The gate: who sent a request, whether that may be, and the store as it is for those who were let in.

A decision is made once and kept for a while; the store sees to it that it still holds whenever something is read or written
(`store.GuardedStore`). So a caller who comes again costs a look into a dict, and a token that was revoked, by whichever
process, is good for nothing from that moment on.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from starlette.types import Scope as Connection

from ...errors import InvalidArgument, InvalidName, Unavailable
from ...limits import ACCESS, check_namespace
from ...operations import Guard, Operation, Result
from ...queries import Query
from ...store import GuardedStore, GuardFailed
from ...timestamps import now
from ..telemetry.usage_history import Recorder
from .rules import (
    EVERYWHERE,
    NEEDED,
    NOT_ACCEPTED,
    NOT_ALLOWED,
    Caller,
    Forbidden,
    Mode,
    Rule,
    Scope,
    Unauthorized,
    caller_of,
    judge,
)
from .tokens import Maker, Tokens, is_operator

T = TypeVar("T")

KEPT = 10_000
"""Decisions that are kept; then all are forgotten, so that nobody can fill the memory with names and tokens."""
KEPT_SECONDS = 60.0
"""How long a decision is kept: it still holds after that, but to see that takes longer when others have been changed."""
_ATTEMPTS = 50
_TOO_FAST = "tokens and claims change faster than they can be looked at; try again"


class Gate:
    """Judges callers.

    Args:
        store: where the namespaces and the rules are.
        mode: open, or required: see `auth.Mode`.
        local_only: refuse requests that name a host other than this machine. A page of another site can have its name
            resolve to 127.0.0.1 and be of one origin with an open server there; the browser still says what it thinks it
            talks to.
    """

    def __init__(self, store: GuardedStore, *, mode: Mode, local_only: bool) -> None:
        self.store = store
        self.tokens = Tokens(store)
        self.recorder = Recorder(store)
        self.mode: Mode = mode
        self._local_only = local_only
        self._kept: dict[tuple[bytes | None, str, Scope], Admitted] = {}

    def known(self, connection: Connection, namespace: str, scope: Scope) -> Admitted | None:
        """Return the store for a caller who was let in here before, if that need not be judged anew."""
        credential = host = None
        for name, value in connection["headers"]:
            if name == b"authorization":
                if credential is not None:
                    return None
                credential = value
            elif name == b"host":
                host = value
        if self._local_only and not is_local(host):
            return None
        admitted = self._kept.get((credential, namespace, scope))
        return admitted if admitted is not None and admitted.until > time.time() else None

    async def enter(
        self, connection: Connection, rule: Rule, namespace: str = ""
    ) -> Admitted | Maker | Caller | GuardedStore:
        """Return what a request may work with: a namespace, the tokens that it administers, who sent it, or everything.

        Raises:
            AuthError: the caller may not do this.
        """
        credentials = [value for name, value in connection["headers"] if name == b"authorization"]
        self._check_host(connection)
        if rule.where == "nowhere" or (rule.where == "counts" and self.mode == "open"):
            return self.store
        caller = caller_of(credentials)
        if rule.where == "namespace":
            return await self.admit(caller, namespace, rule.scope)
        caller, guard = await self.tokens.known(caller)
        if not caller.secret and rule.where != "caller":
            raise Unauthorized(NEEDED)
        if caller.minted_id and caller.token is None:
            raise Unauthorized(NOT_ACCEPTED, "invalid_token")
        if rule.where == "caller":
            return caller
        if rule.where == "tokens":
            return Maker(self.tokens, caller, guard)
        if not caller.minted_id:
            raise Unauthorized(NOT_ACCEPTED, "invalid_token")
        if rule.where == "counts":
            if caller.token is None or not caller.token.allows(rule.scope, EVERYWHERE):
                raise Forbidden(NOT_ALLOWED, rule.scope)
            return self.store
        if not is_operator(caller.token):
            raise Forbidden(NOT_ALLOWED, rule.scope)
        return self.store

    async def admit(self, caller: Caller, namespace: str, scope: Scope) -> Admitted:
        """Return the store for a caller in a namespace, or raise why he is not let in."""
        for _ in range(_ATTEMPTS):
            known, rests_on = await self.tokens.known(caller)
            claim, guard = None, Guard(ACCESS, rests_on.needs)
            asks_for_claim = not known.minted_id and (known.secret or self.mode == "open")
            if asks_for_claim and _is_allowed(namespace):
                # What a minted token may do does not depend on the claim, and where every request needs a token, it is
                # not looked at for those who have none: to be refused takes as long whatever is there.
                claim, on_claim = await self.tokens.claim_on(namespace)
                guard = Guard(ACCESS, (*guard.needs, *on_claim.needs))
            judge(known, scope, namespace, claim, mode=self.mode, now=now())
            check_namespace(namespace)
            try:
                await self.tokens.confirm(guard)
            except GuardFailed:
                continue
            claims = bool(known.secret) and not known.minted_id and claim is None and scope == "write"
            expires = known.token.expires if known.token else None
            admitted = Admitted(self, caller, namespace, scope, guard, _until(expires), claims=claims)
            if not claims:
                self._keep(admitted)
            return admitted
        raise Unavailable(_TOO_FAST)

    def _keep(self, admitted: Admitted) -> None:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        secret = admitted.caller.secret
        credential = f"Bearer {secret}".encode() if secret else None
        self._kept[credential, admitted.namespace, admitted.scope] = admitted

    def _check_host(self, connection: Connection) -> None:
        host = next((value for name, value in connection["headers"] if name == b"host"), None)
        if self._local_only and not is_local(host):
            raise Misdirected(
                "this server is for this machine only, and the request names another host: ask for it as 127.0.0.1, or "
                "start it with --open or --auth required if something in front of it passes on another name"
            )


class Admitted:
    """A `Store` as it is for a caller who was let into a namespace: this one, and this scope."""

    __slots__ = ("_claims", "_gate", "_guard", "_store", "caller", "namespace", "scope", "until")

    def __init__(
        self, gate: Gate, caller: Caller, namespace: str, scope: Scope, guard: Guard, until: float, *, claims: bool
    ) -> None:
        self._gate = gate
        self._store = gate.store
        self._guard = guard
        self._claims = claims
        self.caller = caller
        self.namespace = namespace
        self.scope: Scope = scope
        self.until = until

    async def read(self, namespace: str, query: Query[T]) -> T:
        """As `Store.read`; when the rules have changed since the caller was let in, he is judged anew."""
        self._check(namespace)
        for _ in range(_ATTEMPTS):
            try:
                return await self._store.read(namespace, query, guard=self._guard)
            except GuardFailed:
                self._guard = (await self._gate.admit(self.caller, namespace, self.scope))._guard
        raise Unavailable(_TOO_FAST)

    async def write(
        self, namespace: str, operations: Sequence[Operation], *, idempotency_key: str | None = None
    ) -> list[Result]:
        """As `Store.write`, and as `read`. The first write with a token of the caller's own making claims the namespace."""
        self._check(namespace)
        if self.scope == "read":
            raise Forbidden(NOT_ALLOWED, "write")
        if any(operation.reveals for operation in operations):  # this needs read as well as write
            await self._gate.admit(self.caller, namespace, "read")
        if self._claims:
            await self._gate.tokens.claim(namespace, self.caller.secret)
            again = await self._gate.admit(self.caller, namespace, self.scope)
            return await again.write(namespace, operations, idempotency_key=idempotency_key)
        self._gate.recorder.written.add(namespace)
        for _ in range(_ATTEMPTS):
            try:
                return await self._store.write(
                    namespace, operations, idempotency_key=idempotency_key, guard=self._guard
                )
            except GuardFailed:
                self._guard = (await self._gate.admit(self.caller, namespace, self.scope))._guard
        raise Unavailable(_TOO_FAST)

    def _check(self, namespace: str) -> None:
        if namespace != self.namespace:
            raise Forbidden(NOT_ALLOWED, self.scope)


class Misdirected(InvalidArgument):
    """The request is for another host (RFC 9110, section 15.5.20); nothing was done."""

    status = 421


def _is_allowed(namespace: str) -> bool:
    try:
        check_namespace(namespace)
    except InvalidName:
        return False
    return True


def _until(expires: int | None) -> float:
    kept = time.time() + KEPT_SECONDS
    return kept if expires is None else min(kept, expires / 1_000_000)


@lru_cache(maxsize=256)
def is_local(host: bytes | None) -> bool:
    """Whether a ``Host`` field names this machine, whatever the port."""
    if host is None:  # HTTP/1.0: no browser
        return True
    name, colon, port = host.decode("latin-1").rpartition(":")
    return is_loopback((name if colon and port.isdigit() else name + colon + port).strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether an interface can be reached from this machine only (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3)."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
