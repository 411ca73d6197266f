"""Nothing over HTTP outlives its event loop: a closed loop is freed, with its connections, streams and timers."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
import uvloop

from botwire import AsyncMemory


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_no_loop_outlives_its_run(shared_server, factory):
    """One memory, twenty loops, and every kind of call on each."""
    memory = AsyncMemory("loops", shared_server.url)
    history = memory.history("session")
    loops = []

    async def use():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await memory.set("k", 1)
        await history.append({"role": "user", "content": "hello"})
        async with memory.watch(wait=0.05) as watch:
            async for _ in watch:
                pass
        await asyncio.gather(*(memory.get("k") for _ in range(20)))

    for _ in range(20):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(use())
        del runner
    gc.collect()
    assert [loop() for loop in loops] == [None] * 20


def test_a_loop_that_ends_without_a_farewell(shared_server):
    """``loop.close`` alone, without ``shutdown_asyncgens``."""
    memory = AsyncMemory("loops", shared_server.url)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(memory.set("k", 1))
    loop.close()
    ended = weakref.ref(loop)
    with pytest.warns(ResourceWarning):
        del loop
        gc.collect()
    assert ended() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # nothing can close a stream whose loop was closed
def test_a_watch_that_is_used_on_a_second_loop(shared_server):
    memory = AsyncMemory("second", shared_server.url)
    watch = memory.watch(wait=10)

    async def use(watch, value):
        await memory.set("k", value)
        return (await anext(watch)).value

    asyncio.run(watch.__aenter__())
    assert asyncio.run(use(watch, 1)) == 1
    assert asyncio.run(use(watch, 2)) == 2
    asyncio.run(watch.close())
    assert watch._feed._connection is None
    del watch
    gc.collect()


def test_connections_are_kept_while_the_loop_lives(shared_server):
    memory = AsyncMemory("kept", shared_server.url)

    async def use():
        for _ in range(3):
            await memory.set("k", 1)
            gc.collect()
        store = memory.bridge._store
        store = getattr(store, "store", store)  # calls are spans once a test has imported OpenTelemetry
        pool = store.transport._loops[asyncio.get_running_loop()]()
        return len(pool._idle)

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(use()) == 1
