"""Tokens, claims and the audit log: entries and a session of the namespace `ACCESS`, in any store."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import InvalidArgument, NotFound, Unavailable
from ...limits import ACCESS, MAX_PAGE, MAX_TTL_SECONDS, check_namespace
from ...operations import Append, Delete, Guard, NewMessage, Operation, Put, Write
from ...queries import CountEntries, GetEntry, ListEntries, ListMessages
from ...records import Message
from ...store import GuardedStore, GuardFailed
from ...timestamps import new_id, now
from . import rules
from .rules import EVERYWHERE, SCOPES, Caller, Forbidden, Token

MAX_ISSUED = 1_000
"""Live tokens that descend from one claim, or from one token that is no operator's. Calls at the same time may exceed it a little."""
KEPT_DEAD = 30 * 86_400.0
"""Seconds for which an expired or revoked token is still listed. Then the store removes it."""
_TOKEN, _CLAIM = "token/", "claim/"
_COUNTED = "issued/"
_AUDIT = "audit"
_UNKNOWN = "there is no such token among those that you administer"
_ATTEMPTS = 50
_decode = msgspec.json.Decoder(Token).decode


class Tokens:
    """The tokens of a store."""

    def __init__(self, store: GuardedStore) -> None:
        self._store = store

    # Read by each decision

    async def known(self, caller: Caller) -> tuple[Caller, Guard]:
        """Return the caller with the issued token that they have proven, and the guard of this fact."""
        if not caller.issued_id:
            return caller, Guard(ACCESS)
        token, guard = await self._find(_TOKEN + caller.issued_id)
        guard.until = None if token is None else token.expires
        return caller._replace(token=rules.proven(caller.secret, token, now())), guard

    async def claim_on(self, namespace: str) -> tuple[Token | None, Guard]:
        """Return the claim on a namespace, and the guard of this fact."""
        return await self._find(_CLAIM + namespace)

    async def confirm(self, guard: Guard) -> None:
        """Raise `GuardFailed` if a guard no longer holds, else set the version at which it does."""
        await self._store.read(ACCESS, GetEntry(_AUDIT), guard=guard)

    def claim(self, namespace: str, secret: str) -> Write:
        """Return the write that lets a namespace belong to a self-generated token, which must be long enough."""
        if len(secret) < rules.MIN_CLAIM_CHARS:
            raise InvalidArgument(
                f"a token that claims a namespace has at least {rules.MIN_CLAIM_CHARS} characters that no one can guess: create "
                'one with python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        identity, _ = rules.new_secret()
        claim = Token(identity, "", rules.hash_of(secret), (namespace,), SCOPES, now(), claim=True)
        return Write(ACCESS, (_put(claim, if_version=0), _act("claim", identity, **_grant(claim))))

    # Administration. The issuer None is the operator at the command line.

    async def create(
        self,
        *,
        namespaces: Sequence[str],
        can: Sequence[str],
        name: str = "",
        expires_in: float | None = None,
        issuer: TokenIssuer | None = None,
    ) -> tuple[Token, str]:
        """Issue a token; returns it and its secret, which is not stored.

        ``namespaces``: patterns, see `rules.covers`. The issuer must administer all of them. ``expires_in``: seconds until it
        expires; None: never, or with its issuer. Raises `Forbidden` if the issuer has no permission, or `MAX_ISSUED` tokens.
        """
        issuer = issuer or TokenIssuer(self)
        name, patterns, scopes = rules.check_grant(name, namespaces, can)
        await issuer.check(patterns)
        identity, secret = rules.new_secret()
        expires = issuer.expiry(expires_in)
        token = Token(
            identity, name, rules.hash_of(secret), patterns, scopes, now(), expires, by=issuer.id, root=issuer.root
        )
        act = _act("token.create", token.by, **_grant(token))
        try:
            await self._store.write(
                ACCESS, [_put(token, if_version=0), *await self._count(token), act], guard=issuer.guard
            )
        except GuardFailed:
            raise Forbidden(
                "the token that issues this one was revoked or has expired in the meantime", "admin"
            ) from None
        return token, secret

    async def _count(self, token: Token) -> list[Operation]:
        """Return what counts a new token until it expires, or raise `Forbidden` if there are too many already."""
        if not token.root:
            return []
        if await self._store.read(ACCESS, CountEntries(f"{_COUNTED}{token.root}/")) >= MAX_ISSUED:
            raise Forbidden(
                f"{MAX_ISSUED:,} tokens that descend from {token.root} are live, and no more may be issued: revoke some, or let "
                "them expire",
                "admin",
            )
        return [Put(_counter(token), "1", ttl=_seconds_to(token.expires))]

    async def listed(self, issuer: TokenIssuer | None = None, namespace: str | None = None) -> list[Token]:
        """Return the tokens and claims of which the issuer administers every namespace, the oldest first.

        ``namespace``: only tokens for this namespace, or for the same pattern; a self-generated token must name one. Raises
        `Forbidden` if the issuer does not administer it, or nothing at all.
        """
        issuer = issuer or TokenIssuer(self)
        if namespace is not None or not issuer.is_admin:
            await issuer.check([check_namespace(namespace) if namespace else ""])
        found = [
            token
            for token in await self._all()
            if (namespace is None or namespace in token.namespaces) and await issuer.administers(token.namespaces)
        ]
        return sorted(found, key=lambda token: token.created)

    async def revoke(
        self, identity: str, issuer: TokenIssuer | None = None, namespace: str | None = None
    ) -> list[Token]:
        """Revoke a token or a claim, and all tokens issued with it; returns those that were live.

        When this returns, none of them reads or writes any more, at any server on this store. A claimed namespace stays closed,
        except to operators and the tokens that they issue. ``namespace``: the claimed one, for a caller who revokes their own
        claim.

        Raises:
            NotFound: the issuer administers no such token.
            Forbidden: it is a claim of another caller, or the issuer's own token was issued by it, directly or not.
            Unauthorized: the issuer's own token was revoked or has expired in the meantime.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(GuardFailed):
                return await self._revoke(identity, issuer, namespace)
        raise Unavailable("tokens are created faster than they can be revoked; try again")

    async def _check_target(self, identity: str, issuer: TokenIssuer, namespace: str | None) -> None:
        target, _ = await self._find(_TOKEN + identity)
        if target is None and namespace is not None:
            claim, _ = await self._find(_CLAIM + namespace)
            target = claim if claim is not None and claim.id == identity else None
        if target is None or not await issuer.administers(target.namespaces):
            raise NotFound(_UNKNOWN)
        if target.claim and not issuer.may_revoke_claims:
            raise Forbidden("only its owner and operators revoke a claim", "admin")
        by = issuer.issued_by
        while by:
            if by == identity:
                raise Forbidden("a token does not revoke the one that it was issued with", "admin")
            ancestor, _ = await self._find(_TOKEN + by)
            by = "" if ancestor is None else ancestor.by
        if issuer.guard is not None:
            try:
                await self.confirm(issuer.guard)
            except GuardFailed:
                raise rules.Unauthorized(rules.NOT_ACCEPTED, "invalid_token") from None

    async def _revoke(self, identity: str, issuer: TokenIssuer | None, namespace: str | None) -> list[Token]:
        """Revoke unless anything changes in the meantime, which could be a token that one of these issues."""
        guard = Guard(ACCESS)
        await self.confirm(guard)
        guard.needs = (("", -1),)  # no entry is at this version, so the guard holds at its own version only
        if issuer is not None:  # first: a caller without permission must not make the server read all tokens
            await self._check_target(identity, issuer, namespace)
        everything = await self._all()
        target = next((token for token in everything if token.id == identity), None)
        if target is None:
            raise NotFound(_UNKNOWN)
        ids = {target.id}
        while more := {token.id for token in everything if token.by in ids} - ids:
            ids |= more
        moment = now()
        revoked = [
            msgspec.structs.replace(token, revoked=moment)
            for token in everything
            if token.id in ids and token.revoked is None
        ]
        if not revoked:
            return []
        operations: list[Operation] = [_put(token) for token in revoked]
        operations += [Delete(_counter(token)) for token in revoked if token.root]
        operations.append(
            _act("token.revoke", (issuer or TokenIssuer(self)).id, tokens=[token.id for token in revoked])
        )
        await self._store.write(ACCESS, operations, guard=guard)
        return revoked

    async def record(self, act: str, by: str = "", **facts: Any) -> None:
        """Record the action of an administrator in the audit log."""
        await self._store.write(ACCESS, [_act(act, by or _OPERATOR.id, **facts)])

    async def audit(self, *, after: int = 0, limit: int | None = None) -> list[Message]:
        """Return the audit log in order, after a seq."""
        return await self._store.read(ACCESS, ListMessages(_AUDIT, after, limit))

    async def _find(self, key: str) -> tuple[Token | None, Guard]:
        entry = await self._store.read(ACCESS, GetEntry(key))
        if entry is None:
            return None, Guard(ACCESS, ((key, 0),))
        return _decode(str(entry.stored)), Guard(ACCESS, ((key, entry.version),))

    async def _all(self) -> list[Token]:
        """Return all tokens and claims."""
        found: list[Token] = []
        for prefix in (_CLAIM, _TOKEN):
            after = ""
            while page := await self._store.read(ACCESS, ListEntries(prefix, after, MAX_PAGE)):
                found += [_decode(str(entry.stored)) for entry in page]
                after = page[-1].key
        return found


_OPERATOR = Token("cli", "", "", (EVERYWHERE,), ("admin",), 0)
_COMMAND_LINE = Caller("", _OPERATOR)
"""The command line writes to the store directly, so its user is an operator."""


class TokenIssuer:
    """A caller who issues and revokes tokens. The guard is that of the decision that the caller is authorized."""

    def __init__(self, tokens: Tokens, caller: Caller = _COMMAND_LINE, guard: Guard | None = None) -> None:
        self._tokens = tokens
        self._caller = caller
        self._claims: dict[str, Token | None] = {}
        self.guard = guard

    @property
    def id(self) -> str:
        """The id of its token or of its claim, for the audit log."""
        token = self._caller.token
        return token.id if token else next(claim.id for claim in self._claims.values() if claim)

    @property
    def root(self) -> str:
        """The root of the tokens that it issues."""
        token = self._caller.token
        if token is None:
            return self.id
        return "" if token.administers(EVERYWHERE) else token.root or token.id

    @property
    def issued_by(self) -> str:
        """The id of the token that issued its own; empty if it has no issued token."""
        return "" if self._caller.token is None else self._caller.token.by

    @property
    def may_revoke_claims(self) -> bool:
        """Whether it is an operator, or has a self-generated token, which administers what was claimed with it."""
        return self._caller.token is None or self._caller.token.administers(EVERYWHERE)

    @property
    def is_admin(self) -> bool:
        """Whether it has an issued token that administers anything."""
        return self._caller.token is not None and "admin" in self._caller.token.can

    def expiry(self, expires_in: float | None) -> int | None:
        """Return when a token that it issues expires: after these seconds, but not after its own token."""
        if expires_in is not None and not 0 < expires_in <= MAX_TTL_SECONDS:
            raise InvalidArgument(f"a token expires in more than 0 seconds and at most 100 years, not {expires_in!r}")
        asked = None if expires_in is None else now() + int(expires_in * 1_000_000)
        own = self._caller.token.expires if self._caller.token else None
        return min((moment for moment in (asked, own) if moment is not None), default=None)

    async def check(self, patterns: Sequence[str]) -> None:
        """Raise `Forbidden` unless it administers all of these."""
        for pattern in patterns:
            if not await self.administers([pattern]):
                raise rules.forbidden(self._caller.token, "admin", pattern)

    async def administers(self, patterns: Sequence[str]) -> bool:
        """Whether it administers all of these."""
        token = self._caller.token
        if token is not None:
            return all(token.administers(pattern) for pattern in patterns)
        return all([await self._claimed(pattern) for pattern in patterns])

    async def _claimed(self, namespace: str) -> bool:
        if namespace not in self._claims:
            claim, guard = await self._tokens.claim_on(namespace)
            self._claims[namespace] = rules.proven(self._caller.secret, claim, now())
            if self._claims[namespace] is not None and self.guard is not None:
                self.guard = msgspec.structs.replace(self.guard, needs=(*self.guard.needs, *guard.needs))
        claim = self._claims[namespace]
        return claim is not None and claim.administers(namespace)


def shown(token: Token) -> dict[str, Any]:
    """Return everything about a token except its hash and its root."""
    fields = msgspec.structs.asdict(token)
    del fields["hash"], fields["root"]
    return fields


def _put(token: Token, if_version: int | None = None) -> Put:
    """Return what stores a token, until it is removed. A claim stays, because its namespace stays closed."""
    if token.claim:
        return Put(_CLAIM + token.namespaces[0], _text(token), if_version=if_version)
    ends = min((moment for moment in (token.expires, token.revoked) if moment is not None), default=None)
    left = _seconds_to(ends)
    ttl = None if left is None else min(left + KEPT_DEAD, MAX_TTL_SECONDS)
    return Put(_TOKEN + token.id, _text(token), if_version=if_version, ttl=ttl)


def _counter(token: Token) -> str:
    return f"{_COUNTED}{token.root}/{token.id}"


def _seconds_to(moment: int | None) -> float | None:
    """Return the seconds until a time, as a time to live; None: for ever."""
    return None if moment is None else max((moment - now()) / 1_000_000, 0.001)


def _text(token: Token) -> str:
    return msgspec.json.encode(token).decode()


def _grant(token: Token) -> dict[str, Any]:
    return {"token": token.id, "namespaces": token.namespaces, "can": token.can}


def _act(act: str, by: str, **facts: Any) -> Append:
    return Append(_AUDIT, (NewMessage(new_id(), msgspec.json.encode({"act": act, "by": by, **facts}).decode()),))
