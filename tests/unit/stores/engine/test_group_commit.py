import asyncio
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import botwire
from botwire import Memory, StoreError, Timeout, Unavailable
from botwire.operations import Delete, Write
from botwire.stores.engine import group_commit as module
from botwire.stores.engine.group_commit import CommitQueue
from tests.signals import WITH_CTRL_C
from tests.unit.stores.engine.ctrl_c import Strike, strikes


def soon(seconds):
    return time.monotonic() + seconds


class Slow:
    """Commits that take a while, and what was committed together."""

    def __init__(self, seconds=0.05):
        self.groups, self.seconds, self.fail = [], seconds, None

    def __call__(self, writes, deadline):
        time.sleep(self.seconds)
        self.groups.append([write.namespace for write in writes])
        if self.fail:
            raise self.fail
        return [[1] for _ in writes]


def test_writes_gather_while_a_commit_is_under_way():
    commit = Slow()
    queue = CommitQueue(commit)
    threads = [threading.Thread(target=queue.write, args=(Write(str(n), ()), soon(5))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(commit.groups) <= 4
    assert sorted(sum(commit.groups, [])) == sorted(map(str, range(20)))
    queue.close()


def test_small_writes_do_not_wait_for_all_large_ones_of_others():
    """Writes of one namespace keep their order, also a small one after a large one."""
    commit = Slow(0)
    queue = CommitQueue(commit)
    large = tuple(Delete(f"k{number}") for number in range(int(module.MAX_ROWS)))

    async def main():
        turns = (
            [("first", ())]
            + [(f"large{n % 3}", large) for n in range(9)]
            + [("large2", ()), ("small", ()), ("large0", ())]
        )
        await asyncio.gather(*(queue.write_async(Write(name, what), soon(20)) for name, what in turns))

    asyncio.run(main())
    queue.close()
    names = [name for group in commit.groups for name in group]
    assert len(names) == 13
    assert "small" in sum(commit.groups[:2], [])
    assert len(commit.groups) >= 9  # each large write has one
    assert names[-1] == "large2"
    assert names[-2:].count("large2") == 2


def test_a_write_that_waits_too_long_times_out_and_is_not_applied():
    commit = Slow(0.4)
    queue = CommitQueue(commit)
    first = threading.Thread(target=queue.write, args=(Write("first", ()), soon(5)))
    first.start()
    time.sleep(0.1)
    with pytest.raises(Timeout, match="nothing was written"):
        queue.write(Write("late", ()), soon(0.1))
    first.join(10)
    queue.write(Write("next", ()), soon(5))
    assert commit.groups == [["first"], ["next"]]
    queue.close()


def test_a_commit_that_fails_fails_all_of_its_group_and_no_other():
    commit = Slow(0.1)
    queue = CommitQueue(commit)
    commit.fail = StoreError("the disk failed")
    errors = []

    def work():
        try:
            queue.write(Write("n", ()), soon(5))
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 5
    commit.fail = None
    assert queue.write(Write("n", ()), soon(5)) == [1]
    queue.close()


def test_tasks_and_threads_take_turns():
    commit = Slow(0.01)
    queue = CommitQueue(commit)

    async def tasks():
        await asyncio.gather(*(queue.write_async(Write(f"task {n}", ()), soon(5)) for n in range(20)))

    threads = [threading.Thread(target=queue.write, args=(Write(f"thread {n}", ()), soon(5))) for n in range(20)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join(10)
    assert len(sum(commit.groups, [])) == 40
    queue.close()


def test_a_cancelled_task_is_taken_out_of_the_queue():
    commit = Slow(0.2)
    queue = CommitQueue(commit)

    async def work():
        first = asyncio.create_task(queue.write_async(Write("first", ()), soon(5)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(queue.write_async(Write("second", ()), soon(5)))
        await asyncio.sleep(0.05)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await first == [1]
        await queue.write_async(Write("third", ()), soon(5))

    asyncio.run(work())
    assert commit.groups == [["first"], ["third"]]
    queue.close()


def test_one_timer_ends_the_wait_of_each_task_at_its_deadline(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.3)
    commit = Slow(2)
    queue = CommitQueue(commit)

    async def ended(name, seconds):
        start = time.monotonic()
        with pytest.raises(Timeout) as raised:
            await queue.write_async(Write(name, ()), start + seconds)
        return raised.value, time.monotonic() - start

    async def main():
        leader = asyncio.create_task(ended("leader", 0.5))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(ended(str(n), 0.1 * n)) for n in (8, 2, 6, 4)]
        await asyncio.sleep(0.05)
        timers = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]
        return len(timers), await leader, await asyncio.gather(*waiting)

    timers, (error, seconds), others = asyncio.run(main())
    assert timers == 1
    assert 0.8 <= seconds < 1.8, "a commit has begun, so it ends later"
    assert "the write may still happen" in error.message
    for n, (error, seconds) in zip((8, 2, 6, 4), others, strict=True):
        assert 0.1 * n - 0.01 <= seconds < 1.8
        assert "nothing was written" in error.message
    queue.close()
    assert commit.groups == [["leader"]]


# Ctrl-C


def test_ctrl_c_anywhere_in_the_queue_leaves_it_free():
    queue = CommitQueue(lambda writes, deadline: [[1] for _ in writes])
    count = 0
    for count in strikes(module.__file__, lambda: queue.write(Write("struck", ()), soon(5))):
        assert queue.write(Write("next", ()), soon(0.2)) == [1], count
    assert count >= 5
    queue.close()


def test_every_writer_gets_an_answer_after_ctrl_c():
    """One thread's commit is under way, the main thread waits behind it, and another behind that."""
    go = threading.Event()

    def commit(writes, deadline):
        if writes[0].namespace == "first":
            go.wait(5)
        return [[1] for _ in writes]

    def write(name):
        try:
            answers.append(queue.write(Write(name, ()), soon(1)))
        except Unavailable:  # it was in the group whose leader was struck
            answers.append([1])

    def come_behind():
        while not queue._waiting and time.monotonic() < started + 0.02:
            time.sleep(0.0001)
        last = threading.Thread(target=write, args=("behind",))
        last.start()
        while len(queue._waiting) < 2 and time.monotonic() < started + 0.02:
            time.sleep(0.0001)
        go.set()
        last.join()

    queue = CommitQueue(commit)
    count = 0
    while True:
        answers, started = [], time.monotonic()
        go.clear()
        threads = [threading.Thread(target=write, args=("first",)), threading.Thread(target=come_behind)]
        threads[0].start()
        while queue._leader is None:
            time.sleep(0.0001)
        threads[1].start()
        with Strike(module.__file__, count) as strike:
            queue.write(Write("struck", ()), soon(5))
        for thread in threads:
            thread.join(5)
        assert answers == [[1], [1]], count
        if strike.error is None:
            break
        count += 1
    assert count > 10
    queue.close()


@pytest.mark.filterwarnings("ignore:.*never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_anywhere_in_a_write_leaves_the_file_usable(tmp_path):
    address = f"sqlite:///{tmp_path}/a.db"
    with Memory("n", address, timeout=1) as memory, Memory("n", address, timeout=1) as other:
        memory.set("key", 0)
        for count in strikes(str(Path(botwire.__file__).parent), lambda: memory.set("key", {"a": 1})):
            assert other.increment("count") == count + 1
            assert memory.increment("count", -1) == count
            assert memory.increment("count") == count + 1
            assert memory["key"] in (0, {"a": 1})
        assert count > 50


CTRL_C = """
import sys, threading
from botwire import Memory
memory = Memory("n", sys.argv[1])
memory.set("ready", 1)
print("ready", flush=True)
number = 0
interrupted = 0
while interrupted < 5:
    try:
        while True:
            memory.set("count", number)
            number += 1
    except KeyboardInterrupt:
        interrupted += 1
        memory.set("after", interrupted)   # no lock is left held
        print("interrupted", flush=True)
print(memory.get("after"))
"""


def test_ctrl_c_leaves_no_lock_held(tmp_path):
    process = subprocess.Popen(
        [*WITH_CTRL_C, sys.executable, "-c", CTRL_C, f"sqlite:///{tmp_path}/a.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    for _ in range(5):
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n", process.stderr.read()
    assert process.stdout.read() == "5\n", process.stderr.read()
    assert process.wait(30) == 0
    process.stdout.close()
    process.stderr.close()


def test_two_threads_that_pass_the_same_write_commit_one_after_the_other():
    """Both once led, because the write was the sign of the leader."""
    inside, together = [], []

    def commit(writes, _):
        inside.append(1)
        together.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return [[1]] * len(writes)

    queue = CommitQueue(commit)
    write = Write("n", ())
    threads = [threading.Thread(target=queue.write, args=(write, time.monotonic() + 5)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(together) == {1}
