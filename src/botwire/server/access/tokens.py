"""Tokens, claims and the audit log: entries and a session of the namespace `ACCESS`, in whatever store there is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import Conflict, InvalidArgument, NotFound, Unavailable
from ...limits import ACCESS, MAX_PAGE, MAX_TTL_SECONDS
from ...operations import Append, Guard, NewMessage, Operation, Put
from ...queries import GetEntry, ListEntries, ListMessages
from ...records import Message
from ...store import GuardedStore, GuardFailed
from ...timestamps import new_id, now
from .rules import (
    EVERYWHERE,
    LEAST_OWN_CHARS,
    NOT_ALLOWED,
    Caller,
    Forbidden,
    Token,
    check_grant,
    hash_of,
    new_secret,
    proven,
)

_TOKEN, _CLAIM = "token/", "claim/"
_AUDIT = "audit"
_UNKNOWN = "there is no such token among those that you administer"
CLI = "cli"
"""Who mints and revokes at the command line, where whoever may write the store is an operator."""
_ATTEMPTS = 50
_decode = msgspec.json.Decoder(Token).decode


class Tokens:
    """The tokens of a store.

    Args:
        store: where they are.
    """

    def __init__(self, store: GuardedStore) -> None:
        self._store = store

    # What a request is judged by

    async def known(self, caller: Caller) -> tuple[Caller, Guard]:
        """Return the caller with the minted token it has proven to have, and what that rests on."""
        if not caller.minted_id:
            return caller, Guard(ACCESS)
        key = _TOKEN + caller.minted_id
        token, version = await self._find(key)
        return caller._replace(token=proven(caller.secret, token, now())), Guard(ACCESS, ((key, version),))

    async def claim_on(self, namespace: str) -> tuple[Token | None, Guard]:
        """Return the claim on a namespace, and what that rests on."""
        key = _CLAIM + namespace
        claim, version = await self._find(key)
        return claim, Guard(ACCESS, ((key, version),))

    async def confirm(self, guard: Guard) -> None:
        """Raise `GuardFailed` if what was found does not hold any more; else let the guard know as of when it does."""
        await self._store.read(ACCESS, GetEntry(_AUDIT), guard=guard)

    async def claim(self, namespace: str, secret: str) -> None:
        """Let a namespace belong to whoever has this token, if nobody else was faster.

        Raises:
            InvalidArgument: the token is too short to be safe.
        """
        if len(secret) < LEAST_OWN_CHARS:
            raise InvalidArgument(
                f"a token that claims a namespace has at least {LEAST_OWN_CHARS} characters that nobody can guess: make one "
                'with python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        identity, _ = new_secret()
        claim = Token(identity, "", hash_of(secret), (namespace,), ("read", "write", "admin"), now(), claim=True)
        put = Put(_CLAIM + namespace, _text(claim), if_version=0)
        with contextlib.suppress(Conflict):
            await self._store.write(ACCESS, [put, _act("claim", identity, token=claim)])

    # What administrators do

    async def create(
        self,
        *,
        namespaces: Sequence[str],
        can: Sequence[str],
        name: str = "",
        expires_in: float | None = None,
        maker: Maker | None = None,
    ) -> tuple[Token, str]:
        """Mint a token; returns it and its secret, which is kept nowhere.

        Args:
            namespaces: patterns, see `auth.covers`.
            can: scopes.
            name: what it is for.
            expires_in: seconds until it expires; None: never, or when its maker does.
            maker: who mints it; None: the operator at the command line.

        Raises:
            InvalidArgument: there can be no such token.
            Forbidden: its maker does not administer all of the namespaces.
        """
        name, patterns, scopes = check_grant(name, namespaces, can)
        if maker is not None:
            await maker.check(patterns)
        identity, secret = new_secret()
        token = Token(
            identity,
            name,
            hash_of(secret),
            patterns,
            scopes,
            now(),
            _expiry(expires_in, maker),
            by=maker.id if maker else CLI,
        )
        act = _act("token.create", token.by, token=token)
        guard = None if maker is None else maker.guard
        try:
            await self._store.write(ACCESS, [Put(_TOKEN + identity, _text(token), if_version=0), act], guard=guard)
        except GuardFailed:
            raise Forbidden(NOT_ALLOWED, "admin") from None  # what its maker had is gone since
        return token, secret

    async def listed(self, maker: Maker | None = None, namespace: str | None = None) -> list[Token]:
        """Return tokens and claims, the oldest first: those whose every namespace the maker administers.

        Args:
            maker: who asks; None: the operator at the command line.
            namespace: only tokens that are for this namespace, or for a pattern with it alone.
        """
        found = []
        for _, token in await self._all():
            if namespace is not None and namespace not in token.namespaces:
                continue
            if maker is None or await maker.administers(token.namespaces):
                found.append(token)
        return sorted(found, key=lambda token: token.created)

    async def revoke(self, identity: str, maker: Maker | None = None, namespace: str | None = None) -> list[Token]:
        """Revoke a token or a claim, and all that it minted; returns those that were live until now.

        When this returns, none of them writes or reads any more, at any server on this store. A claimed namespace stays
        closed to everybody but operators and those they mint tokens for.

        Args:
            identity: the token's or the claim's.
            maker: who revokes; None: the operator at the command line.
            namespace: what is claimed, for whoever revokes his own claim.

        Raises:
            NotFound: there is no such token among those that the maker administers.
        """
        if maker is not None:
            await self._check_target(identity, maker, namespace)
        for _ in range(_ATTEMPTS):
            # Whatever else changes here meanwhile might be a token that one of these minted: look again.
            guard = Guard(ACCESS, (("", -1),))
            everything = await self._all(guard)
            target = next((token for _, token in everything if token.id == identity), None)
            if target is None:
                raise NotFound(_UNKNOWN)
            ids = _descendants(target, [token for _, token in everything])
            gone = [(key, token) for key, token in everything if token.id in ids and token.revoked is None]
            if not gone:
                return []
            moment = now()
            revoked = [(key, msgspec.structs.replace(token, revoked=moment)) for key, token in gone]
            operations: list[Operation] = [Put(key, _text(token)) for key, token in revoked]
            operations.append(_act("token.revoke", maker.id if maker else CLI, *(token.id for _, token in revoked)))
            try:
                await self._store.write(ACCESS, operations, guard=guard)
            except GuardFailed:
                continue
            return [token for _, token in revoked]
        raise Unavailable("tokens are being made faster than they can be revoked; try again")

    async def _check_target(self, identity: str, maker: Maker, namespace: str | None) -> None:
        """Raise `NotFound` unless the maker administers this token: before all tokens are looked through for anybody."""
        target, _ = await self._find(_TOKEN + identity)
        if target is None and namespace is not None:
            claim, _ = await self._find(_CLAIM + namespace)
            target = claim if claim is not None and claim.id == identity else None
        if target is None or not await maker.administers(target.namespaces):
            raise NotFound(_UNKNOWN)

    async def record(self, act: str, by: str = CLI, **facts: Any) -> None:
        """Put down in the audit log what was done by an administrator."""
        await self._store.write(ACCESS, [_act(act, by, **facts)])

    async def audit(self, *, after: int = 0, limit: int | None = None) -> list[Message]:
        """Return the audit log in order, from behind a seq on."""
        return await self._store.read(ACCESS, ListMessages(_AUDIT, after, limit))

    async def _find(self, key: str) -> tuple[Token | None, int]:
        entry = await self._store.read(ACCESS, GetEntry(key))
        return (None, 0) if entry is None else (_decode(str(entry.stored)), entry.version)

    async def _all(self, guard: Guard | None = None) -> list[tuple[str, Token]]:
        """Return all tokens and claims by their keys, as they are at the version that the guard is given."""
        found: list[tuple[str, Token]] = []
        if guard is not None:
            begin = Guard(ACCESS)
            await self.confirm(begin)
            guard.version = begin.version
        for prefix in (_CLAIM, _TOKEN):
            after = ""
            while page := await self._store.read(ACCESS, ListEntries(prefix, after, MAX_PAGE)):
                found += [(entry.key, _decode(str(entry.stored))) for entry in page]
                after = page[-1].key
        return found


class Maker:
    """Somebody who mints and revokes tokens over HTTP, and what that rests on.

    Args:
        tokens: the store's.
        caller: who; a minted token has been proven.
        guard: what that rests on.
    """

    def __init__(self, tokens: Tokens, caller: Caller, guard: Guard) -> None:
        self._tokens = tokens
        self._caller = caller
        self._claims: dict[str, Token | None] = {}
        self.guard = guard

    @property
    def id(self) -> str:
        """Who it is, for the audit log: the id of its token or of its claim."""
        token = self._caller.token
        return token.id if token else next(claim.id for claim in self._claims.values() if claim)

    @property
    def minted(self) -> bool:
        """Whether its token was minted, and is not of its own making."""
        return self._caller.token is not None

    @property
    def is_admin(self) -> bool:
        """Whether its token administers anything."""
        return self._caller.token is not None and "admin" in self._caller.token.can

    @property
    def expires(self) -> int | None:
        """When its token expires."""
        return self._caller.token.expires if self._caller.token else None

    async def check(self, patterns: Sequence[str]) -> None:
        """Raise `Forbidden` unless it administers all of these."""
        if not await self.administers(patterns):
            raise Forbidden(NOT_ALLOWED, "admin")

    async def administers(self, patterns: Sequence[str]) -> bool:
        """Whether it administers all of these."""
        token = self._caller.token
        if token is not None:
            return all(token.administers(pattern) for pattern in patterns)
        return all([await self._claimed(pattern) for pattern in patterns])

    async def _claimed(self, namespace: str) -> bool:
        if namespace not in self._claims:
            claim, guard = await self._tokens.claim_on(namespace)
            self._claims[namespace] = proven(self._caller.secret, claim, now())
            if self._claims[namespace] is not None:
                self.guard = Guard(ACCESS, (*self.guard.needs, *guard.needs))
        claim = self._claims[namespace]
        return claim is not None and claim.administers(namespace)


def is_operator(token: Token | None) -> bool:
    """Whether a minted token is an operator's."""
    return token is not None and token.administers(EVERYWHERE)


def shown(token: Token) -> dict[str, Any]:
    """Return what is told of a token: all but its hash."""
    fields = msgspec.structs.asdict(token)
    del fields["hash"]
    return fields


def _expiry(expires_in: float | None, maker: Maker | None) -> int | None:
    if expires_in is not None and not 0 < expires_in <= MAX_TTL_SECONDS:
        raise InvalidArgument(f"a token expires in more than 0 seconds and at most 100 years, not {expires_in!r}")
    asked = None if expires_in is None else now() + int(expires_in * 1_000_000)
    limits = [moment for moment in (asked, maker.expires if maker else None) if moment is not None]
    return min(limits, default=None)


def _descendants(token: Token, tokens: Sequence[Token]) -> set[str]:
    ids = {token.id}
    while more := {other.id for other in tokens if other.by in ids} - ids:
        ids |= more
    return ids


def _text(token: Token) -> str:
    return msgspec.json.encode(token).decode()


def _act(act: str, by: str, *tokens: str, **facts: Any) -> Append:
    token = facts.pop("token", None)
    if token is not None:
        facts |= {"token": token.id, "namespaces": token.namespaces, "can": token.can}
    if tokens:
        facts["tokens"] = tokens
    return Append(_AUDIT, (NewMessage(new_id(), msgspec.json.encode({"act": act, "by": by, **facts}).decode()),))
