"""The command line: arguments in, calls down, text out."""

from __future__ import annotations

from . import doctor, files, memory, operating, serving
from .base import app, run

__all__ = ["app", "doctor", "files", "memory", "operating", "run", "serving"]
