"""How many tokens a caller can make a server hold, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from botwire.limits import ACCESS
from botwire.operations import Put
from botwire.queries import GetEntry, ListKeys
from botwire.server.access import tokens
from botwire.server.access.authorizer import Authorizer
from botwire.server.access.rules import Caller, Forbidden
from botwire.server.access.tokens import KEPT_DEAD, TokenIssuer
from botwire.stores.sqlite.served import ServedSqliteStore
from botwire.stores.sqlite.store import SqliteStore
from botwire.timestamps import now

OWN = "a-token-of-my-own-making"


class AheadStore(SqliteStore):
    """A store on a machine whose clock can be set ahead."""

    ahead = 0.0

    def _wall_ns(self):
        return (now() + int(self.ahead * 1_000_000)) * 1000


@pytest.fixture
def store(tmp_path):
    store = AheadStore(tmp_path / "a.db")
    yield store
    store.close()


async def issuer_of(authorizer, secret):
    caller, guard = await authorizer.tokens.known(Caller(secret))
    return TokenIssuer(authorizer.tokens, caller, guard)


def test_the_live_tokens_of_one_root_are_bounded(store, monkeypatch):
    """All that descend from it count, directly or not; what was revoked or has expired does not. Operators have no limit."""
    monkeypatch.setattr(tokens, "MAX_ISSUED", 4)

    async def main():
        authorizer = Authorizer(ServedSqliteStore(store), mode="open", local_only=False)

        async def issue(secret, namespace="mine", **more):
            return await authorizer.tokens.create(
                namespaces=[namespace], can=["admin"], issuer=await issuer_of(authorizer, secret), **more
            )

        _, operator = await authorizer.tokens.create(namespaces=["*"], can=["admin"])
        _, team = await issue(operator, "mine*")
        await (await authorizer.authorized_store(Caller(OWN), "mine", "write")).write("mine", [Put("k", "1")])
        for root in (OWN, team):
            first, secret = await issue(root)
            second, secret_of_second = await issue(secret)
            await issue(secret_of_second)
            await issue(root, expires_in=3600)
            for issuer in (root, secret, secret_of_second):
                with pytest.raises(Forbidden, match="no more may be issued"):
                    await issue(issuer)
            await authorizer.tokens.revoke(second.id, await issuer_of(authorizer, root))
            await issue(root), await issue(secret)
            with pytest.raises(Forbidden):
                await issue(root)
            store.ahead += 3700
            await issue(root)
            with pytest.raises(Forbidden):
                await issue(root)
            await authorizer.tokens.revoke(first.id, await issuer_of(authorizer, root))
        for _ in range(10):
            await issue(operator)
            await authorizer.tokens.create(namespaces=["mine"], can=["read"])

    asyncio.run(main())


def test_dead_tokens_are_removed_after_a_while_and_claims_stay(store):
    async def main():
        authorizer = Authorizer(ServedSqliteStore(store), mode="open", local_only=False)
        await (await authorizer.authorized_store(Caller(OWN), "mine", "write")).write("mine", [Put("k", "1")])
        claim = await authorizer.tokens.claim_on("mine")
        live, _ = await authorizer.tokens.create(namespaces=["n"], can=["read"])
        expired, _ = await authorizer.tokens.create(namespaces=["n"], can=["read"], expires_in=10)
        revoked, _ = await authorizer.tokens.create(namespaces=["n"], can=["read"])
        await authorizer.tokens.revoke(revoked.id)
        await authorizer.tokens.revoke(claim[0].id)

        async def held():
            return {token.id for token in await authorizer.tokens.listed()}

        store.ahead = KEPT_DEAD - 60
        assert await held() == {live.id, expired.id, revoked.id, claim[0].id}
        store.ahead = KEPT_DEAD + 60
        assert await held() == {live.id, claim[0].id}
        with pytest.raises(Exception, match="another token has claimed"):
            await authorizer.authorized_store(Caller(OWN), "mine", "read")
        store.write(ACCESS, [Put("other", "1")])  # each write removes some of what has expired
        assert store.read(ACCESS, ListKeys("token/")) == [f"token/{live.id}"]
        assert store.read(ACCESS, GetEntry("claim/mine")) is not None

    asyncio.run(main())
