"""A server that is forked from a process with all imports done, so that it starts in milliseconds instead of a second."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

from tests.servers import Server

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "botwire.cli",
        "botwire.server.serve",
        "botwire.server.protocol",
        "botwire.stores.sqlite.store",
        "botwire.stores.http.store",
        "tests.faults.conversation_check",
        "tests.postgres",
        "uvloop",
    ]
)


class ForkedServer(Server):
    """``botwire serve`` in a forked process, for tests that start it many times."""

    def _run(self, *arguments: str) -> _Process:
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder, "stderr")
            os.mkfifo(pipe)
            process = _FORKS.Process(target=_serve, args=(arguments, str(pipe)))
            process.start()
            return _Process(process, pipe.open())


class _Process:
    """The part of `subprocess.Popen` that `Server` uses."""

    def __init__(self, process: BaseProcess, stderr: TextIO) -> None:
        self._process, self.stderr, self.pid = process, stderr, process.pid
        self.terminate = process.terminate

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode


def _serve(arguments: tuple[str, ...], stderr: str) -> None:
    os.dup2(os.open(stderr, os.O_WRONLY), 2)
    os.environ["BOTWIRE_URL"] = ""
    sys.argv = ["botwire", *arguments]
    from botwire.cli import run

    run()
