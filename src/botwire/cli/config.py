"""The configuration: the command line comes first, then the environment, then a file in TOML, then what is the default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from ..errors import InvalidArgument


def read_config(file: Path, app: TyperGroup) -> dict[str, Any]:
    """Return what typer takes for defaults: for each command, its parameters by name.

    Raises:
        InvalidArgument: the file cannot be read, or says something that no command knows.
    """
    try:
        given = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} is not TOML: {error}") from error
    return _defaults(file, given, app)


def _defaults(file: Path, given: Mapping[str, Any], group: TyperGroup) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, table in given.items():
        command = group.commands.get(name)
        if command is None or not isinstance(table, dict):
            raise InvalidArgument(f"{file}: [{name}] is not a command; there are {', '.join(sorted(group.commands))}")
        if isinstance(command, TyperGroup):
            found[name] = _defaults(file, table, command)
            continue
        known = {_name(option): option.name for option in command.params if isinstance(option, TyperOption)}
        wrong = [key for key in table if key.replace("-", "_") not in known]
        if wrong:
            raise InvalidArgument(f"{file}: [{name}] knows no {wrong[0]!r}; it knows {', '.join(sorted(known))}")
        found[name] = {known[key.replace("-", "_")]: value for key, value in table.items()}
    return found


def _name(option: TyperOption) -> str:
    long = next((text for text in option.opts if text.startswith("--")), option.opts[0])
    return long.removeprefix("--").replace("-", "_")
