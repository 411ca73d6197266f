"""Separate environments for requirements that conflict with those of the other tests. uv creates them in .cache."""

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
FIXTURES = "tests.adapters.isolated.fixtures"


def environment(name: str, *requirements: str, with_botwire: bool = True, extra: str = "") -> Path:
    """Return the Python of an environment with these requirements. It is created at the first call.

    Args:
        name: the purpose; environments with the same name can have different requirements.
        requirements: requirements in pip's syntax.
        with_botwire: whether to install this botwire, as an editable install.
        extra: the extras of botwire to install, separated by commas.
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
    name: str,
    *requirements: str,
    timeout: float = 240,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    extra: str = "server",
    within: str = "adapters",
) -> Path:
    """Run the tests in ``tests/{within}/{name}/isolated`` in a separate environment, and show their output.

    The main environment does not collect folders with the name ``isolated``. Their tests may import only ``tests.servers``,
    ``tests.environments`` and ``tests.examples`` from the package ``tests``. The examples of the page ``docs/{name}.md`` run too,
    unless `only` is given.

    Args:
        name: the framework, by the name of its page.
        requirements: the framework's releases, in pip's syntax.
        timeout: seconds for all tests together.
        only: names of test files or tests in that folder; none: all of them.
        without: names of test files in that folder that do not run.
        extra: the extras of botwire to install, separated by commas.
        within: the folder in ``tests`` that contains the framework's folder.

    Returns:
        The Python of the environment.
    """
    tools = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
    python = environment(name, *tools, *requirements, extra=extra)
    shared = ROOT / "tests" / "adapters" / "isolated"
    folder = ROOT / "tests" / within / name / "isolated"
    document = ROOT / "docs" / f"{name}.md"
    page = [shared / "test_page.py"] if document.exists() else []
    tests = [folder / test for test in only] or [folder, *page]
    # A folder can have the same name as its framework, so module names begin at the root.
    here = ["-c", shared / "pytest.ini", "--rootdir", ROOT, "--confcutdir", folder]
    ignored = [f"--ignore={folder / test}" for test in without]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", FIXTURES, *here, *ignored, *tests]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PAGE": str(document)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # large frameworks take twice as long to import without
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=variables)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"the tests of {name} failed with {', '.join(requirements)}"
    return python


def installed(python: Path, package: str) -> tuple[int, ...]:
    """Return the release of a package in an environment, as numbers. Resolvers can choose an old release without a warning."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).parent / "uv"
    done = subprocess.run([uv, "--quiet", *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{done.stderr}")
