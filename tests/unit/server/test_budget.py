"""What the requests of a server may hold together."""

from __future__ import annotations

import asyncio

import pytest

from botwire import Unavailable
from botwire.server import budget
from botwire.server.budget import HOLD, LARGE, Budget, Hold

ROOM = 10 * LARGE


@pytest.fixture
def shared():
    return Budget(ROOM)


def test_small_ones_are_not_counted(shared):
    for _ in range(100):
        Hold(shared, "").set(LARGE)
    assert shared.held == 0


def test_large_ones_are_refused_when_there_is_no_room(shared):
    first, second, small = Hold(shared, ""), Hold(shared, ""), Hold(shared, "")
    first.set(6 * LARGE)
    second.set(4 * LARGE)
    with pytest.raises(Unavailable):
        second.set(5 * LARGE)
    assert shared.held == ROOM
    small.set(LARGE)
    first.set(2 * LARGE)
    second.set(8 * LARGE)
    first.release()
    second.release()
    assert shared.held == 0


def test_a_request_that_is_alone_may_hold_more(shared):
    """Or what is larger than the budget could never be answered."""
    for client in ("", "192.0.2.1"):
        alone = Hold(shared, client)
        alone.set(2 * ROOM)
        with pytest.raises(Unavailable):
            Hold(shared, "192.0.2.2").set(2 * LARGE)
        alone.release()


def test_one_client_leaves_room_for_others(shared):
    greedy = [Hold(shared, "192.0.2.1") for _ in range(3)]
    greedy[0].set(3 * LARGE)
    greedy[1].set(2 * LARGE)
    with pytest.raises(Unavailable, match="your"):
        greedy[2].set(2 * LARGE)
    Hold(shared, "192.0.2.2").set(5 * LARGE)
    greedy[1].release()
    assert shared.held == 8 * LARGE
    greedy[2].set(2 * LARGE)


def test_one_that_waits_long_for_its_client_gives_way(shared, monkeypatch):
    async def main():
        slow, quick, busy, asking = (Hold(shared, "") for _ in range(4))
        slow.set(4 * LARGE), busy.set(4 * LARGE)

        async def wait(hold):
            async with hold.waiting():
                await asyncio.sleep(60)

        waiting = asyncio.create_task(wait(slow))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):  # it has not waited for long
            asking.set(3 * LARGE)
        monkeypatch.setattr(budget, "PATIENCE", 0.05)
        await asyncio.sleep(0.1)
        quick.set(2 * LARGE)
        asking.set(3 * LARGE)
        with pytest.raises(TimeoutError):
            await waiting
        assert (slow.bytes, busy.bytes, quick.bytes, shared.held) == (0, 4 * LARGE, 2 * LARGE, 9 * LARGE)

    asyncio.run(main())


def test_a_request_has_one_hold(shared):
    scope = {"client": ("127.0.0.1", 1)}
    assert shared.of(scope) is shared.of(scope) is scope[HOLD]
    assert (scope[HOLD].client, shared.of({"client": ("192.0.2.1", 1)}).client) == ("", "192.0.2.1")
