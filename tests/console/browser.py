"""Chromium, driven by Playwright, for the tests of the console and the pictures of it in the documents."""

from __future__ import annotations

import contextlib
import os

import pytest
from playwright.sync_api import sync_playwright

from tests.chromium import HOW_TO_GET_IT, find_chromium


@contextlib.contextmanager
def browser():
    """Run a Chromium without a window. Without one, skip the test, but fail in CI."""
    path = find_chromium()
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW_TO_GET_IT)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()
