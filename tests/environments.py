"""Environments of their own for what does not fit into the one of the other tests, made by uv and kept in .cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parent.parent


def environment(name: str, *requirements: str, with_botwire: bool = True, extra: str = "") -> Path:
    """Return the Python of an environment with these requirements and, unless told otherwise, with this botwire.

    Args:
        name: what it is for; one name may stand for several lists of requirements.
        requirements: as pip takes them.
        with_botwire: whether this botwire is in it, as an editable install.
        extra: which of botwire's extras, with commas between.
    """
    botwire = f"-e{ROOT}[{extra}]" if extra else f"-e{ROOT}"
    wanted = [*requirements, *([botwire] if with_botwire else [])]
    mark = hashlib.sha256("\n".join([sys.version, *wanted, (ROOT / "pyproject.toml").read_text()]).encode()).hexdigest()
    folder = ROOT / ".cache" / "environments" / f"{name}-{mark[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(folder))
            if wanted:
                _uv("pip", "install", "--python", str(python), *wanted)
            (folder / "ready").touch()
    return python


def run_tests(
    name: str, *requirements: str, timeout: float = 240, only: Sequence[str] = (), extra: str = "server"
) -> Path:
    """Run the tests of a framework, ``tests/frameworks/{name}``, with these releases of it, in an environment of their own.

    The examples of its page, ``docs/{name}.md``, run with them, unless ``only`` names the files, or the tests, to run. They
    have no part in the environment of the other tests, so nothing there may import from it but ``tests.servers``,
    ``tests.environments`` and ``tests.examples``. What they print is shown when they fail. Returns the Python of the
    environment.
    """
    tools = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
    python = environment(name, *tools, *requirements, extra=extra)
    folder = ROOT / "tests" / "frameworks" / name
    document = ROOT / "docs" / f"{name}.md"
    tests = [folder / test for test in only] or [
        folder,
        *([folder.parent / "test_page.py"] if document.exists() else []),
    ]
    # A folder may be called as its framework is, so modules are named from the root.
    here = ["-c", folder.parent / "pytest.ini", "--rootdir", ROOT, "--confcutdir", folder.parent]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *here, *tests]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PAGE": str(document)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # large frameworks take twice as long to import without
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=variables)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"the tests of {name} failed with {', '.join(requirements)}"
    return python


def installed(python: Path, package: str) -> tuple[int, ...]:
    """Return which release of a package an environment has, as numbers: resolvers may choose an old one without a word."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).parent / "uv"
    done = subprocess.run([uv, "--quiet", *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{done.stderr}")
