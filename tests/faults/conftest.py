from __future__ import annotations

import gc
import sys

import apsw
import pytest

from tests.faults import report
from tests.faults.scale import LONG


@pytest.fixture
def disks_may_fail(monkeypatch):
    """apsw reports the second error within one call to nobody in particular; all others are still reported."""
    report = sys.unraisablehook
    monkeypatch.setattr(
        sys, "unraisablehook", lambda args: None if isinstance(args.exc_value, apsw.Error) else report(args)
    )
    yield
    gc.collect()  # connections to disks without power, which would be closed during some later test


@pytest.fixture
def figures(request):
    """Take the figures of a test, by name: to be printed, and for the table that the long form ends with."""

    def take(**found):
        print(found)
        request.node.user_properties.append(("figures", found))

    return take


def pytest_terminal_summary(terminalreporter):
    reports = [item for kind in ("passed", "failed") for item in terminalreporter.stats.get(kind, ())]
    if LONG and reports:
        terminalreporter.write_line(report.write(reports))
