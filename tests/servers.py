"""Servers for the tests: the real command in a separate process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


class Server:
    """``botwire serve`` on a file. `start` uses the same port again after `stop` or `kill`.

    Args:
        db: the file.
        options: more options for the command line.
        prefix: a command that executes the server's command in the same process.
    """

    def __init__(self, db: Path | str, *options: str, prefix: tuple[str, ...] = ()) -> None:
        self.db, self.options, self.prefix, self.port = str(db), options, prefix, 0
        self.start()

    def start(self) -> None:
        self.process = self._run("serve", "--db", self.db, "--port", str(self.port), *self.options)
        self.log: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"https?://(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError("".join(self.log))
        self.url = f"http://127.0.0.1:{self.port}"
        self._reader = threading.Thread(target=self._drain, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _run(self, *arguments: str) -> Any:
        """Start the command with a pipe for stderr."""
        command = [*self.prefix, sys.executable, "-m", "botwire", *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "BOTWIRE_URL": ""})

    def _drain(self, stream) -> None:
        self.log.extend(stream)

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.log if line.startswith("{")]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        self.process.terminate()
        return self._ended()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def _ended(self) -> int:
        code = self.process.wait(30)
        self._reader.join(10)
        self.process.stderr.close()
        return code
