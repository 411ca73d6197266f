from __future__ import annotations

import gc
import sys

import apsw
import pytest

from tests.faults import report
from tests.faults.scale import LONG


@pytest.fixture
def disks_may_fail(monkeypatch):
    """Ignore apsw errors in ``sys.unraisablehook``: apsw reports the second error of one call there."""
    report = sys.unraisablehook
    monkeypatch.setattr(
        sys, "unraisablehook", lambda args: None if isinstance(args.exc_value, apsw.Error) else report(args)
    )
    yield
    gc.collect()  # close connections to disks without power now, not during a later test


@pytest.fixture
def figures(request):
    """Record the figures of a test by name. They are printed, and the long form shows them in a table."""

    def take(**found):
        print(found)
        request.node.user_properties.append(("figures", found))

    return take


def pytest_terminal_summary(terminalreporter):
    reports = [item for kind in ("passed", "failed") for item in terminalreporter.stats.get(kind, ())]
    if LONG and reports:
        terminalreporter.write_line(report.write(reports))
