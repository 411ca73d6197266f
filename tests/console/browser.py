"""Chromium, driven by Playwright, for the tests of the console and the pictures of it in the documents."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

HOW = "these tests need Chromium: apt-get install chromium, or name one in $BOTWIRE_CHROMIUM"


def chromium() -> str:
    """Return the path of a Chromium; without one skip, but fail where everything is to be tested."""
    found = os.environ.get("BOTWIRE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail(HOW)
    pytest.skip(HOW)


@contextlib.contextmanager
def browser():
    """Run a Chromium without a window."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()
