"""Commands that react to Ctrl-C, also if the tests run in the background."""

from __future__ import annotations

import sys

_CODE = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"

WITH_CTRL_C = (sys.executable, "-c", _CODE)
"""Put this in front of a command, as an absolute path and its arguments, that a test interrupts with SIGINT.

A shell starts background jobs with SIGINT ignored, and every child inherits that. The process id does not change.
"""
