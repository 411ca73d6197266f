"""The length of the fault tests: ``make test`` runs the short form, ``make faults`` the long one."""

from __future__ import annotations

import os
import threading
import time
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("BOTWIRE_FAULTS") == "long"


def rounds(short: T, long: T) -> T:
    return long if LONG else short


class Lateness:
    """Measures how late a sleeping thread wakes up. Tests of time limits allow for this on a busy machine."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            time.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - begun - 0.01)
