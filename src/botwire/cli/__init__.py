"""The command line."""

from __future__ import annotations

from . import doctor, files, memory, operating, serving
from .base import app, run

__all__ = ["app", "doctor", "files", "memory", "operating", "run", "serving"]

_PANELS = {
    "Data": "get set delete keys history sessions search embed watch usage",
    "Servers and diagnosis": "serve mcp demo doctor",
    "Backup, copy, export": "backup restore check copy export import",
    "Administration": "namespaces plan token index audit",
}
"""The groups of ``botwire --help`` and the order of the commands."""


def _arrange() -> None:
    panels = {name: panel for panel, names in _PANELS.items() for name in names.split()}
    order = {name: number for number, name in enumerate(panels)}
    named = {
        command.name or command.callback.__name__: command for command in app.registered_commands if command.callback
    }
    for name, command in named.items():
        command.rich_help_panel = panels.get(name)
    for group in app.registered_groups:
        group.rich_help_panel = panels.get(str(group.name))
    app.registered_commands = [named[name] for name in sorted(named, key=lambda name: order.get(name, len(order)))]


_arrange()
