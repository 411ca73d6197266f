"""Every public name has a docstring. A method may inherit it."""

from __future__ import annotations

import inspect

import pytest

import botwire
import botwire.testing

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (botwire, botwire.testing)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
}


def undocumented(thing):
    """Return the names of the public methods and properties without a docstring, their own or inherited."""
    if not inspect.isclass(thing):
        return [] if inspect.getdoc(thing) else [thing.__name__]
    return [
        name
        for name, member in inspect.getmembers(thing, lambda m: inspect.isroutine(m) or isinstance(m, property))
        if not name.startswith(("_", "test_")) and not inspect.getdoc(member)
    ]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_documented(name):
    thing = PUBLIC[name]
    assert thing.__doc__
    assert undocumented(thing) == []


def test_a_method_without_a_docstring_is_found():
    class Undocumented:
        def method(self):
            pass

    assert undocumented(Undocumented) == ["method"]
