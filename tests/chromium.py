"""Where Chromium is, for the tests of the console and for the pictures of it in the documents."""

from __future__ import annotations

import os
import shutil

HOW_TO_GET_IT = "The tests of the console need Chromium: apt-get install chromium, or set BOTWIRE_CHROMIUM to its path"


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return os.environ.get("BOTWIRE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
