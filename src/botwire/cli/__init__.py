"""The command line: arguments in, calls down, text out."""

from __future__ import annotations

from . import doctor, files, memory, operating, serving
from .base import app, run

__all__ = ["app", "doctor", "files", "memory", "operating", "run", "serving"]

_PANELS = {
    "What is remembered": "get set delete keys history sessions search embed watch usage",
    "Serve": "serve mcp demo doctor",
    "Save and move": "backup restore check copy export import",
    "Operate": "namespaces plan token index audit",
}
"""How ``botwire --help`` shows them, and in which order."""


def _arrange() -> None:
    panels = {name: panel for panel, names in _PANELS.items() for name in names.split()}
    places = {name: number for number, name in enumerate(panels)}
    named = {
        command.name or command.callback.__name__: command for command in app.registered_commands if command.callback
    }
    for name, command in named.items():
        command.rich_help_panel = panels.get(name)
    for group in app.registered_groups:
        group.rich_help_panel = panels.get(str(group.name))
    app.registered_commands = [named[name] for name in sorted(named, key=lambda name: places.get(name, len(places)))]


_arrange()
