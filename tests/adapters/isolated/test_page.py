"""The examples of the framework's page run; see `tests.environments.run_tests`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.examples import run_examples
from tests.servers import Server


def test_the_examples_run(server: Server, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    run_examples(Path(os.environ["PAGE"]), server.url, capsys)
