"""Chromium, controlled by Playwright, for the tests of the console and its screenshots."""

from __future__ import annotations

import contextlib
import os

import pytest
from playwright.sync_api import sync_playwright

from tests.chromium import HOW_TO_GET_IT, find_chromium


@contextlib.contextmanager
def browser():
    """Run Chromium without a window. If Chromium is not installed, skip the test; in CI, fail it."""
    path = find_chromium()
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW_TO_GET_IT)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()
