"""How long the tests of faults run: the short form is part of ``make test``, the long one is ``make faults``."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("BOTWIRE_FAULTS") == "long"


def rounds(short: T, long: T) -> T:
    return long if LONG else short
