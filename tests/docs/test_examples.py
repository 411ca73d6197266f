"""Every example in the documents runs. Every command, option, link, method and test that they name exists."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import botwire
from botwire.cli import app
from botwire.errors import BY_CODE
from botwire.plans import load_plans
from tests.examples import blocks, has_environment, run_examples

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


WITH_PYTHON = [document for document in DOCUMENTS if blocks(document, "python") and not has_environment(document)]


@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda document: document.name)
@pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
def test_examples_run(document, shared_server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_examples(document, shared_server.url, capsys)


@pytest.mark.parametrize("name", ["long-conversations", "retention", "crashes"])
def test_examples_of_guides_run_twice_in_a_row(name, shared_server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run_examples(ROOT / "docs" / f"{name}.md", shared_server.url, capsys)


def test_the_main_documents_have_examples():
    assert {"README.md", "tutorial.md", "how-to.md"} <= {document.name for document in WITH_PYTHON}


def test_plans_in_the_documents_are_valid(tmp_path):
    (text,) = blocks(ROOT / "docs" / "how-to.md", "toml")
    (tmp_path / "plans.toml").write_text(text)
    assert load_plans(tmp_path / "plans.toml", "team").of(None)[1].writes_per_day == 100_000


def test_commands_in_the_documents_exist():
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    pattern = r"^(?:    |\| `)botwire ((?:plan set|index on|index off|token \w+|\w+))"
    commands = set(re.findall(pattern, text, re.MULTILINE))
    assert commands >= {"serve", "plan set", "demo"}
    options = set(re.findall(r"`((?:--[\w-]+ ?)+)`", text))
    helped, wide = "", {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    for command in commands:
        done = CliRunner().invoke(app, [*command.split(), "--help"], env=wide)
        assert done.exit_code == 0, command
        helped += done.stdout
    for option in {item for group in options for item in group.split()} - {"--strict", "--version"}:
        assert option in helped, option


def test_make_targets_in_the_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"^(?:    )?make ([a-z]+)", document.read_text(), re.MULTILINE)) <= targets


def test_links_between_documents_are_valid():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not link.startswith("http"):
                assert (document.parent / link).exists(), (document.name, link)


@pytest.mark.parametrize("cls", [botwire.Memory, botwire.History])
def test_the_reference_names_every_method_with_its_parameters(cls):
    text = (ROOT / "docs" / "reference.md").read_text()
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") or not callable(member) or name == "keys":
            continue
        parameters = list(inspect.signature(member).parameters.values())[1:]
        shown = []
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                shown.append(f"*{parameter.name}")
                continue
            if parameter.kind is parameter.KEYWORD_ONLY and not any(name.startswith("*") for name in shown):
                shown.append("*")
            default = parameter.default
            given = f'"{default}"' if isinstance(default, str) else "..." if default is ... else repr(default)
            shown.append(parameter.name if default is parameter.empty else f"{parameter.name}={given}")
        assert f"`{name}({', '.join(shown)})`" in text, (name, shown)


def test_the_reference_names_every_error():
    text = (ROOT / "docs" / "reference.md").read_text()
    for code, cls in BY_CODE.items():
        if cls.__module__ == "botwire.errors":
            assert f"| `{cls.__name__}` | `{code}` | {cls.status} |" in text


def test_every_public_name_has_a_docstring():
    for name in botwire.__all__:
        value = getattr(botwire, name)
        if name == "__version__":
            continue
        assert value.__doc__, name
        for attribute, member in inspect.getmembers(value):
            if not attribute.startswith("_") and inspect.isfunction(member) and member.__module__.startswith("botwire"):
                assert member.__doc__, (name, attribute)


def test_the_api_page_has_every_public_name():
    listed = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    short = {name.rpartition(".")[2] for name in listed}
    for name in set(botwire.__all__) - {"__version__"}:
        assert name in short or getattr(botwire, name).__module__ in listed, name


def test_the_tests_named_in_reliability_exist():
    text = (ROOT / "docs" / "reliability.md").read_text()
    named = re.findall(r"`((?:[\w-]+/)+test_\w+\.py)::([\w:]+)`", text.partition("## Figures")[0])
    assert len(named) > 50
    known = {}
    for file, path in {(file, ROOT / "tests" / file) for file, _ in named}:
        known[file] = set(re.findall(r"^ *(?:async )?def (test_\w+)|^class (Test\w+)", path.read_text(), re.MULTILINE))
    contract = "".join(file.read_text() for file in (ROOT / "src" / "botwire" / "testing").glob("*.py"))
    for file, name in named:
        *cls, test = name.split("::")
        where = {item for pair in known[file] for item in pair if item}
        assert set(cls) <= where, name
        assert test in where or (cls and f"    def {test}(" in contract), (file, name)
    rows = [line for line in text.partition("## Figures")[0].splitlines() if line.startswith("| ")]
    assert all("::" in line or line.startswith(("| promise", "| what |", "| ---")) for line in rows)
