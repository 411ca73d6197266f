from __future__ import annotations

import sys

import apsw
import pytest


@pytest.fixture
def disks_may_fail(monkeypatch):
    """apsw reports the second error within one call to nobody in particular; all others are still reported."""
    report = sys.unraisablehook
    monkeypatch.setattr(
        sys, "unraisablehook", lambda args: None if isinstance(args.exc_value, apsw.Error) else report(args)
    )
