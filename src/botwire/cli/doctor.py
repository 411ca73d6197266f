"""``botwire doctor``: checks packages, address, connection and durability."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import apsw
import typer

from ..errors import BotWireError
from ..memory import Memory
from ..stores.address import default_address, default_path, is_postgres, sqlite_path
from ..version import __version__
from .base import Json, Url, app, as_address, line_of, memory_at
from .finding import Finding, reached

_EXTRAS = {
    "server": ("fastapi", "uvicorn", "typer"),
    "langchain": ("langchain-core",),
    "postgres": ("psycopg",),
    "encryption": ("cryptography",),
    "vectors": ("sqlite-vec",),
    "mcp": ("mcp",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
}
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_OVER_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})
_PROBE = "botwire-doctor"
_PATIENCE = 3.0
"""Seconds until a memory counts as unreachable."""


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Check the installed packages, the address and its source, the connection, and durability.

    Writes nothing. Exits with 1 if a check fails.
    """
    wrong = False
    for finding in _findings(url):
        wrong = wrong or finding.ok is False
        mark = {None: " ", True: "✓", False: "✗"}[finding.ok]
        typer.echo(line_of(finding._asdict()) if as_json else f"{mark} {finding.what:<12}  {finding.found}")
    if wrong:
        raise typer.Exit(1)


def _findings(url: str | None) -> Iterator[Finding]:
    yield Finding("botwire", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    yield Finding("sqlite", f"{apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}")
    for extra, packages in _EXTRAS.items():
        yield Finding(extra, _installed(extra, packages))
    address = default_address() if url is None else str(as_address(url))
    yield Finding("address", f"{_shown(address)}, {_why(url)}")
    if address.startswith("http"):
        yield Finding(
            "token", "BOTWIRE_TOKEN is set" if os.environ.get("BOTWIRE_TOKEN") else "none: BOTWIRE_TOKEN is not set"
        )
    file = None if address.startswith("http") or is_postgres(address) else sqlite_path(address)
    if file is not None and file != ":memory:" and not Path(file).exists():
        yield _not_there(Path(file))
        return
    try:
        if is_postgres(address):
            from .doctor_postgres import findings

            yield from findings(address, _PATIENCE)
            return
        with memory_at(_PROBE, url, timeout=_PATIENCE) as memory:
            yield reached(memory.usage)
            yield from _durable(memory, address)
    except (BotWireError, ImportError) as error:
        yield Finding("reached", f"no: {error}", ok=False)


def _installed(extra: str, packages: tuple[str, ...]) -> str:
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            return f"not installed: pip install 'botwire[{extra}]'"
    return ", ".join(versions)


def _shown(address: str) -> str:
    if not is_postgres(address):
        return address
    from ..stores.postgres.connection import without_password

    return without_password(address)


def _why(url: str | None) -> str:
    if url is not None:
        return "from --url"
    if os.environ.get("BOTWIRE_URL", "").strip():
        return "from the environment variable BOTWIRE_URL"
    return "the default, because neither --url nor BOTWIRE_URL is set"


def _not_there(file: Path) -> Finding:
    folder = file.parent
    if file == default_path() or (folder.is_dir() and os.access(folder, os.W_OK)):
        return Finding("reached", "the file does not exist yet; the first write creates it", ok=True)
    why = "is not writable" if folder.is_dir() else "does not exist"
    return Finding("reached", f"no: the folder {folder} {why}", ok=False)


def _durable(memory: Memory, address: str) -> Iterator[Finding]:
    if address.startswith("http"):
        yield Finding("durable", "a returned write is on the server's disk")
    elif memory.address == "sqlite:///:memory:":
        yield Finding("durable", "no: it is in memory and ends with the process", ok=False)
    else:
        yield from _durable_file(Path(sqlite_path(memory.address)))


def _durable_file(file: Path) -> Iterator[Finding]:
    kind = _filesystem_of(file)
    where = f"the file system of {file} ({kind})" if kind else f"the file system of {file}"
    if kind in _IN_MEMORY:
        yield Finding("durable", f"no: {where} is in memory and does not survive a restart", ok=False)
    elif kind in _OVER_NETWORK:
        yield Finding(
            "durable",
            f"no: {where} is on the network, where SQLite's locks are not reliable: use botwire serve",
            ok=False,
        )
    else:
        yield Finding("durable", f"yes: each write is synced to {where}", ok=True)
    mode = file.stat().st_mode & 0o077
    if mode:
        yield Finding(
            "private", f"no: other users of this machine can access it ({mode:03o}): run chmod 600 {file}", ok=False
        )
    space = os.statvfs(file)
    free = space.f_bavail * space.f_frsize
    yield Finding("free space", f"{free / 1e9:,.1f} GB", ok=free > 100_000_000)


def _filesystem_of(file: Path) -> str:
    """Return the type of the file system of a file; empty if the system does not report it."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for _, mount, found, *_ in (line.split(" ") for line in mounts):
        inside = file.resolve().is_relative_to(mount.replace("\\040", " "))
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind
