"""What sockets need to keep a deadline."""

from __future__ import annotations

from ...deadline import Deadline


def seconds_left(deadline: Deadline) -> float:
    """Return how long a socket may wait.

    Raises:
        TimeoutError: the deadline has passed.
    """
    left = deadline.left()
    if left <= 0:
        raise TimeoutError("timed out")
    return min(left, 1e6)  # sockets accept no longer timeout than some years


def is_deadline(error: OSError) -> bool:
    """Whether our own timeout ended a wait; the kernel's ETIMEDOUT is a broken connection and has a number."""
    return isinstance(error, TimeoutError) and error.errno is None
