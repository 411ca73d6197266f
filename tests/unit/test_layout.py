"""`tests/unit` mirrors `src/botwire`: every test file has the path of its module."""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parent
SOURCE = UNIT.parents[1] / "src" / "botwire"


def has_module(test):
    """Return whether a file, such as ``stores/test_sqlite.py``, names a module or package in the same folder of the source.

    A topic may follow the module's name: ``test_store_search.py`` tests searches of ``store.py``.
    """
    words = test.stem.removeprefix("test_").split("_")
    folder = SOURCE / test.parent
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return any((folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file() for name in names)


def test_every_unit_test_has_a_module_of_its_name():
    tests = {path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")} - {Path("test_layout.py")}
    assert len(tests) > 10
    assert [str(test) for test in sorted(tests) if not has_module(test)] == []


def test_a_test_without_a_module_is_found():
    assert has_module(Path("stores/sqlite/test_lock.py"))
    assert has_module(Path("stores/test_sqlite.py"))
    assert has_module(Path("stores/sqlite/test_store_pragmas.py"))
    assert not has_module(Path("stores/sqlite/test_loc.py"))
    assert not has_module(Path("test_lock.py"))
