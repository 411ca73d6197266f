"""An MCP server over stdio that is killed at its first write: ``crashing.py ADDRESS before``, or ``after``, or ``never``."""

from __future__ import annotations

import sys
from typing import Any

from botwire.adapters.mcp import create_server, serve_stdio
from tests.adapters.isolated.crashes import Strike, store_at


def main(address: str, moment: Any) -> None:
    strike = None if moment == "never" else Strike(moment, 1)
    serve_stdio(create_server("n", store=store_at(address, strike)))


if __name__ == "__main__":
    main(*sys.argv[1:])
