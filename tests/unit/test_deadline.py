"""`Deadline`: one point in time for all waits of a call."""

from __future__ import annotations

import math

from botwire.deadline import Deadline


def test_what_is_left_only_shrinks():
    deadline = Deadline.after(60)
    first = deadline.left()
    assert 0 < deadline.left() <= first <= 60
    assert not deadline.is_over


def test_a_deadline_in_the_past():
    deadline = Deadline.after(-1)
    assert deadline.left() == 0
    assert deadline.is_over


def test_no_deadline():
    deadline = Deadline.after(None)
    assert deadline.left() == math.inf
    assert not deadline.is_over
