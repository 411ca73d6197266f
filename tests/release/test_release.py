"""The wheel and the sdist work in a new environment, without extras and with each extra; types and version are correct."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from botwire import __version__
from tests.environments import environment

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

ALONE = """
import botwire, sys
assert "site-packages" in botwire.__file__, botwire.__file__
memory = botwire.Memory("n", "sqlite:///:memory:")
memory.set("k", {"a": 1})
assert memory.get("k") == {"a": 1}
try:
    botwire.BotWireChatHistory
except ImportError as error:
    print(error)
print(botwire.__version__)
"""

USES = {
    "server": "from botwire.server.app import create_app; import botwire.server.console",
    "langchain": "from botwire import BotWireChatHistory; BotWireChatHistory('s', url='sqlite:///:memory:').add_user_message('x')",
    "mcp": "from botwire.adapters.mcp import create_server; create_server('n', 'sqlite:///:memory:')",
    "postgres": "import botwire.stores.postgres.store",
    "encryption": "import botwire; m = botwire.Memory('n', 'sqlite:///:memory:', encryption_key=botwire.generate_key()); m.set('k', 1); assert m['k'] == 1",
    "vectors": "import botwire; m = botwire.Memory('n', 'sqlite:///:memory:', embedder=lambda texts: [[1] for _ in texts]); m['k'] = 'v'; assert m.search('x')",
    "minilm": "import botwire.search.minilm",
    "otel": "import opentelemetry.exporter.otlp.proto.http, opentelemetry.sdk.trace, botwire.stores.wrappers.tracing",
    "all": "import botwire.server.app, botwire.adapters.langchain, botwire.stores.postgres.store, botwire.stores.wrappers.cipher",
}
"""A use of each extra. An extra that is not listed is for the adapter with its name."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--out-dir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(name, wheel, extra=""):
    python = environment(name, with_botwire=False)
    what = f"botwire[{extra}] @ {wheel.as_uri()}" if extra else wheel
    run(UV, "pip", "install", "--quiet", "--reinstall-package", "botwire", "--python", python, what)
    return python


def test_the_wheel_and_the_sdist_contain_the_right_files(built):
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "botwire").rglob("*") if path.is_file()}
    sources = {name for name in sources if "__pycache__" not in name}
    assert {"botwire/py.typed", "botwire/server/console/index.html", "botwire/server/console/main.js"} <= sources
    assert {name for name in names if not name.partition("/")[0].endswith(".dist-info")} == sources
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/botwire/version.py", "tests/conftest.py"} <= inside
    assert not [name for name in inside if name.startswith((".cache", ".venv"))]


def test_the_version_is_in_one_place(built):
    wheel, sdist = built
    assert wheel.name == f"botwire-{__version__}-py3-none-any.whl"
    assert sdist.name == f"botwire-{__version__}.tar.gz"
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", __version__)
    tracked = run("git", "ls-files", "src", "pyproject.toml", "mkdocs.yml", cwd=ROOT).split()
    literal = re.compile(rf"""["']{re.escape(__version__)}["']""")
    assert [name for name in tracked if literal.search((ROOT / name).read_text(errors="replace"))] == [
        "src/botwire/version.py"
    ]


def test_the_wheel_works_without_extras(built, tmp_path):
    python = install("wheel", built[0])
    printed = run(python, "-c", ALONE, cwd=tmp_path)
    assert "pip install 'botwire[langchain]'" in printed
    assert printed.splitlines()[-1] == __version__
    done = subprocess.run([python.parent / "botwire", "serve"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install 'botwire[server]'")


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_works(built, extra, tmp_path):
    python = install(f"wheel-{extra}", built[0], extra)
    use = USES.get(extra, f"import botwire.adapters.{extra.replace('-', '_')}")
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OTEL_SDK_DISABLED": "true"}
    run(python, "-c", use, cwd=tmp_path, env=variables)


def test_the_installed_types_find_wrong_uses(built, tmp_path):
    """Mypy accepts a correct program that uses the installed package, and reports each wrong call."""
    python = install("wheel-langchain", built[0], "langchain")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--cache-dir",
        tmp_path / "cache",
    ]
    (tmp_path / "right.py").write_text((ROOT / "tests" / "release" / "typed.py").read_text())
    run(*command, "right.py", cwd=tmp_path)
    (tmp_path / "wrong.py").write_text(
        "from botwire import Memory\n"
        "memory = Memory('n', url=1)\n"
        "memory.set(1, 2)\n"
        "keys: list[int] = memory.list_keys()\n"
        "memory.history('s').append([], id=[])\n"
        "memory.nothing()\n"
    )
    done = subprocess.run([*command, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line} == set("23456")
