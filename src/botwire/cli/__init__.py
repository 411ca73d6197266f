"""The command line."""

from __future__ import annotations

from . import doctor, files, memory, operating, serving, sessions
from .base import app, run

__all__ = ["app", "run"]

_PANELS = {
    memory.__name__: "Data",
    sessions.__name__: "Sessions",
    serving.__name__: "Servers and diagnosis",
    doctor.__name__: "Servers and diagnosis",
    files.__name__: "Backup, copy, export",
    operating.__name__: "Administration",
}
"""The groups of ``botwire --help``, in order. In a group, the commands have the order of their module."""

_modules = list(_PANELS)
app.registered_commands.sort(key=lambda command: _modules.index(str(command.callback.__module__)))
for _command in app.registered_commands:
    _command.rich_help_panel = _PANELS[str(_command.callback.__module__)]
for _group in app.registered_groups:
    _group.rich_help_panel = _PANELS[operating.__name__]
