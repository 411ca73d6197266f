"""Pauses between attempts."""

from __future__ import annotations

import pytest

from botwire.backoff import MAX_ATTEMPTS, Backoff, pause_after
from botwire.deadline import Deadline


def pauses(backoff, count):
    return [backoff.next() for _ in range(count)]


def test_pauses_double_up_to_the_longest():
    for pause, base in zip(pauses(Backoff(1, 8), 6), [1, 2, 4, 8, 8, 8], strict=True):
        assert base / 2 <= pause <= base


def test_clients_do_not_wait_equally_long():
    assert len({Backoff(1, 8).next() for _ in range(20)}) > 1


def test_after_a_success_the_first_pause_comes_again():
    backoff = Backoff(1, 8)
    pauses(backoff, 3)
    backoff.restart()
    assert backoff.next() <= 1


def test_a_server_that_asks_for_time_gets_it():
    backoff = Backoff(1, 8)
    assert 2.5 <= backoff.next(at_least=5) <= 5
    assert backoff.next() >= 4, "later pauses are not shorter"


def test_no_pause_ends_after_the_deadline():
    assert Backoff(10, 20, Deadline.after(1)).next() is None
    assert Backoff(0.5, 20, Deadline.after(60)).next() is not None


@pytest.mark.parametrize("attempt", [0, 1, 5, MAX_ATTEMPTS])
def test_a_conflict_is_a_matter_of_milliseconds(attempt):
    assert all(0 <= pause_after(attempt) <= min(0.1, 0.0005 * 2**attempt) for _ in range(50))
