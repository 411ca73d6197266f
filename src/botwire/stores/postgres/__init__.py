"""The store in a PostgreSQL database."""

try:
    import psycopg  # noqa: F401
except ImportError as error:
    if error.name is not None and not error.name.startswith("psycopg"):
        raise
    missing = "postgresql:// needs the psycopg package: pip install 'botwire[postgres]'"
    raise ImportError(missing, name=error.name) from None
