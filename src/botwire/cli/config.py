"""Options: from the command line, then the environment, then a TOML file, then the default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from ..errors import InvalidArgument


def read_config(file: Path, app: TyperGroup) -> dict[str, Any]:
    """Return the defaults for typer: the parameters of each command, by name.

    Raises:
        InvalidArgument: the file cannot be read, or has an unknown command or option.
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
            raise InvalidArgument(
                f"{file}: [{name}] is not a command; the commands are {', '.join(sorted(group.commands))}"
            )
        if isinstance(command, TyperGroup):
            found[name] = _defaults(file, table, command)
            continue
        known = {_name(option): option.name for option in command.params if isinstance(option, TyperOption)}
        wrong = [key for key in table if key.replace("-", "_") not in known]
        if wrong:
            raise InvalidArgument(
                f"{file}: [{name}] has no option {wrong[0]!r}; its options are {', '.join(sorted(known))}"
            )
        found[name] = {known[key.replace("-", "_")]: value for key, value in table.items()}
    return found


def _name(option: TyperOption) -> str:
    long = next((text for text in option.opts if text.startswith("--")), option.opts[0])
    return long.removeprefix("--").replace("-", "_")
