"""The wheel as a stranger installs it: alone, without any extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.environments import environment

ROOT = Path(__file__).parents[2]
CODE = """
import botwire, sys
assert "site-packages" in botwire.__file__, botwire.__file__
memory = botwire.Memory("n", "sqlite:///:memory:")
memory.set("k", {"a": 1})
assert memory.get("k") == {"a": 1}
from importlib.resources import files
assert files("botwire").joinpath("py.typed").is_file()
try:
    botwire.BotWireChatHistory
except ImportError as error:
    print(error)
"""


def test_the_wheel_alone(tmp_path):
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    python = environment("wheel", with_botwire=False)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--reinstall-package", "botwire", "--python", python, wheel],
        check=True,
        timeout=120,
    )
    done = subprocess.run([python, "-c", CODE], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install 'botwire[langchain]'" in done.stdout
    done = subprocess.run([python.parent / "botwire", "serve"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install 'botwire[server]'")
