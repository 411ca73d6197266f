"""Move data between stores, and to and from files."""
