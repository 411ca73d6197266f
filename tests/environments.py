"""Environments of their own for what does not fit into the one of the other tests, made by uv and kept in .cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parent.parent


def environment(name: str, *requirements: str, with_botwire: bool = True) -> Path:
    """Return the Python of an environment with these requirements and, unless told otherwise, with this botwire."""
    wanted = [*requirements, *(["-e", str(ROOT)] if with_botwire else [])]
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


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).parent / "uv"
    done = subprocess.run([uv, "--quiet", *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{done.stderr}")
