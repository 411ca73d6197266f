"""Finds Chromium for the tests of the console and its screenshots."""

from __future__ import annotations

import os
import shutil

HOW_TO_GET_IT = "The tests of the console need Chromium: apt-get install chromium, or set BOTWIRE_CHROMIUM to its path"


def find_chromium() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return os.environ.get("BOTWIRE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
