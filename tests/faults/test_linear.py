"""The linearizability checker accepts correct histories and finds planted errors."""

from __future__ import annotations

import random

import pytest

from tests.faults.linear import UNKNOWN, Event, explain, explain_log


def right(seed: int, clients: int = 4, operations: int = 80) -> list[Event]:
    """Return a correct history of one key. Each operation takes effect at a moment between its begin and end."""
    rng, now, version, value, events = random.Random(seed), 0.0, 0, None, []
    free = dict.fromkeys(range(clients), 0.0)
    for number in range(operations):
        now += rng.uniform(0, 1)
        client = min(free, key=free.get)
        begin = max(free[client], now - rng.uniform(0, 3))
        now = max(now, begin)
        end = now + rng.uniform(0, 3)
        free[client] = end
        verb, argument = rng.choice(["set", "get", "get", "cas", "delete"]), None
        if verb == "set":
            argument, value, version = number, number, version + 1
            result = version
        elif verb == "get":
            result = None if value is None else (value, version)
        elif verb == "delete":
            result, value = value is not None, None
        else:
            current = 0 if value is None else version
            argument = (current if rng.random() < 0.7 else version + 5, number)
            if argument[0] == current:
                value, version = number, version + 1
                result = ("done", version)
            else:
                result = ("conflict", current)
        lost = rng.random() < 0.05 and verb != "get"
        events.append(Event(begin, end, verb, argument, UNKNOWN if lost else result))
        if rng.random() < 0.03:  # a write that was never applied
            events.append(Event(begin, end, "set", -number - 1, UNKNOWN))
    return events


def counted(seed: int, operations: int = 60) -> list[Event]:
    rng = random.Random(seed)
    return [
        Event(n - rng.uniform(0, 2), n + rng.uniform(0, 2), "increment", 1, n if rng.random() < 0.95 else UNKNOWN)
        for n in range(1, operations + 1)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_history_is_accepted(seed):
    assert explain(right(seed)) is None
    assert explain(counted(seed)) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_stale_read_is_found(seed):
    events = [
        Event(0, 1, "set", "old", 1),
        Event(2, 3, "set", "new", 2),
        Event(4, 5, "get", None, ("old", 1)),
    ]
    assert explain(events)
    assert explain(events[:2]) is None
    history = right(seed)
    last = max(event.end for event in history)
    version = 10_000 + seed
    history += [
        Event(last + 1, last + 2, "set", "old", version),
        Event(last + 3, last + 4, "set", "new", version + 1),
    ]
    assert explain([*history, Event(last + 5, last + 6, "get", None, ("new", version + 1))]) is None
    assert explain([*history, Event(last + 5, last + 6, "get", None, ("old", version))])


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_update_is_found(seed):
    """Two increments saw the same number, or two compare-and-sets of the same version succeeded."""
    history = counted(seed)
    known = [place for place, event in enumerate(history) if event.result is not UNKNOWN and place > 5]
    place = random.Random(seed).choice(known)
    history[place] = history[place]._replace(result=history[place].result - 1)
    if history[place - 1].result is not UNKNOWN:
        assert explain(history)
    assert explain([Event(0, 5, "cas", (0, "a"), ("done", 1)), Event(0, 5, "cas", (0, "b"), ("done", 2))])
    assert explain([Event(0, 5, "cas", (0, "a"), ("done", 1)), Event(0, 5, "cas", (0, "b"), ("conflict", 1))]) is None


def test_a_lost_write_is_found():
    assert explain([Event(0, 1, "set", "a", 1), Event(2, 3, "get", None, None)])
    assert explain([Event(0, 1, "set", "a", UNKNOWN), Event(2, 3, "get", None, None)]) is None


def test_a_write_without_an_answer_may_apply_late_but_only_once():
    late = [Event(0, 1, "set", "a", UNKNOWN), Event(2, 3, "get", None, None), Event(4, 5, "get", None, ("a", 1))]
    assert explain(late) is None
    assert explain([*late, Event(6, 7, "get", None, None)])
    assert explain([Event(0, 1, "increment", 1, UNKNOWN), Event(2, 3, "increment", 1, 3)])


# A session


def log(length: int = 30) -> tuple[list[Event], list[Event], list[tuple[int, str]]]:
    final = [(seq, f"m{seq}") for seq in range(1, length + 1)]
    appends = [Event(seq, seq + 0.5, "append", name, seq if seq % 7 else UNKNOWN) for seq, name in final]
    reads = [Event(seq + 0.6, seq + 0.7, "read", None, final[:seq]) for seq in range(3, length, 4)]
    return appends, reads, final


def test_a_correct_log_is_accepted():
    assert explain_log(*log()) is None
    appends, reads, final = log()
    assert explain_log([*appends, Event(50, 51, "append", "never", UNKNOWN)], reads, final) is None


@pytest.mark.parametrize("plant", ["lost", "reordered", "doubled", "unsent", "gap", "stale", "future", "shrinking"])
def test_an_error_planted_in_a_log_is_found(plant):
    appends, reads, final = log()
    if plant == "lost":
        final = [(seq, name) for seq, (_, name) in enumerate([*final[:10], *final[11:]], 1)]
    elif plant == "reordered":
        # Only the times of the two appends show that their order is wrong.
        appends[3], appends[4] = appends[3]._replace(end=4.1), appends[4]._replace(result=UNKNOWN)
        final[3], final[4] = (4, "m5"), (5, "m4")
        appends[3] = appends[3]._replace(result=5)
        reads = []
    elif plant == "doubled":
        final.append((31, "m9"))
    elif plant == "unsent":
        final.append((31, "unsent"))
    elif plant == "gap":
        final[5:6] = []
    elif plant == "stale":
        reads[4] = reads[4]._replace(result=reads[4].result[:-1])
    elif plant == "future":
        reads[4] = reads[4]._replace(result=final[:25])
    else:
        reads = [Event(1.6, 1.7, "read", None, final[:7]), Event(1.8, 1.9, "read", None, final[:1])]
        appends = [event._replace(begin=0, end=40, result=UNKNOWN) for event in appends]
    assert explain_log(appends, reads, final)
