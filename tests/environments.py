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
FIXTURES = "tests.adapters.isolated.fixtures"


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
    name: str,
    *requirements: str,
    timeout: float = 240,
    only: Sequence[str] = (),
    extra: str = "server",
    within: str = "adapters",
) -> Path:
    """Run the tests in ``tests/{within}/{name}/isolated`` in an environment of their own.

    The tests of the other environment leave out every folder ``isolated``. A test in one may import only ``tests.servers``,
    ``tests.environments`` and ``tests.examples`` from here. The examples of the page ``docs/{name}.md`` run too, unless
    `only` is given. The output is shown when a test fails.

    Args:
        name: the framework, as its page is called.
        requirements: the releases of it, as pip takes them.
        timeout: seconds for all tests together.
        only: names of test files or tests in that folder; none: all of them.
        extra: the extras of botwire to install, separated by commas.
        within: the folder in ``tests`` that has the folder of this name.

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
    # A folder may be called as its framework is, so modules are named from the root.
    here = ["-c", shared / "pytest.ini", "--rootdir", ROOT, "--confcutdir", folder]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", FIXTURES, *here, *tests]
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
