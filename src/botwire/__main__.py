"""``python -m botwire`` and the ``botwire`` command."""

from __future__ import annotations

import sys

_PART_OF_EXTRA = {"typer", "uvicorn", "fastapi", "starlette", "rich", "click"}


def main() -> None:
    """Run the command line, or say in one line what has to be installed for it."""
    try:
        from .cli import run
    except ModuleNotFoundError as error:
        if error.name not in _PART_OF_EXTRA:
            raise
        sys.exit(f"botwire: the command line needs {error.name}: pip install 'botwire[server]'")
    run()


if __name__ == "__main__":
    main()
