"""Runs commands, in this process or in their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from typer.testing import CliRunner

from botwire.cli import app
from botwire.errors import BotWireError


def botwire(*arguments, given="", exit_code=0):
    done = CliRunner().invoke(app, list(map(str, arguments)), input=given)
    if isinstance(done.exception, BotWireError):  # which `run` makes a line on stderr, and 1
        assert exit_code == 1, done.exception
        return str(done.exception)
    assert done.exit_code == exit_code, (done.output, done.stderr, done.exception)
    return done.stdout if exit_code == 0 else done.output


def documents(text):
    return [json.loads(line) for line in text.splitlines()]


def run(*arguments, given=b"", **environment):
    command = [sys.executable, "-m", "botwire", *map(str, arguments)]
    return subprocess.run(
        command, input=given, capture_output=True, timeout=60, env={**os.environ, **environment}, check=False
    )
