"""The highly available cluster of the drill: two PostgreSQL nodes under Patroni and one etcd, all on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

NAMES = "alpha", "beta"
PASSWORD = "drill"
USER = "nobody"
"""The user of the processes if root starts the drill, because PostgreSQL refuses to run as root."""
_AS_USER = (
    # With the capability, this user can read a Python and PostgreSQL below /root.
    [
        "setpriv",
        f"--reuid={USER}",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]
    if os.geteuid() == 0
    else []
)


class Cluster:
    """Patroni with two nodes in synchronous replication.

    Args:
        folder: an empty folder that every user may enter.
        install: the folder of the PostgreSQL installation, which contains ``bin``.
    """

    def __init__(self, folder: Path, install: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in NAMES}
        self.apis = {name: free_port() for name in NAMES}
        self.etcd_ports = free_port(), free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.bin = install / "bin"
        if os.geteuid() == 0:
            shutil.chown(folder, USER)

    @property
    def address(self) -> str:
        """The address of both nodes. The client connects to the one that accepts writes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        return f"postgresql://postgres:{PASSWORD}@{hosts}/postgres?target_session_attrs=read-write&connect_timeout=2"

    def start(self) -> None:
        """Start everything and wait for a primary with a synchronous standby."""
        peer, client = self.etcd_ports
        url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        etcd = Path(sys.executable).parent / "etcd"
        self._run(
            "etcd",
            [
                etcd,
                "--name",
                "e",
                "--data-dir",
                self.folder / "etcd",
                "--listen-client-urls",
                url,
                "--advertise-client-urls",
                url,
                "--listen-peer-urls",
                peer_url,
                "--initial-advertise-peer-urls",
                peer_url,
                "--initial-cluster",
                f"e={peer_url}",
            ],
        )
        wait_for(lambda: _listens(client), 20, "etcd")
        for name in NAMES:
            self.start_node(name)
            wait_for(lambda: self.primary() is not None, 60, "a primary")
        self.wait_whole()

    def start_node(self, name: str) -> None:
        """Start Patroni on a node. It starts PostgreSQL."""
        config = self.folder / f"{name}.json"  # JSON is YAML
        config.write_text(json.dumps(self._config(name)))
        self._run(name, [sys.executable, "-m", "patroni", config])

    def primary(self) -> str | None:
        """Return the name of the primary according to Patroni, or None."""
        for name in NAMES:
            if self._status(name, "primary") == 200:
                return name
        return None

    def wait_whole(self, seconds: float = 90) -> None:
        """Wait until there is a primary and the other node is its synchronous standby."""

        def whole() -> bool:
            primary = self.primary()
            return primary is not None and any(
                self._status(name, "synchronous") == 200 for name in NAMES if name != primary
            )

        wait_for(whole, seconds, "a synchronous standby")

    def kill_primary(self, *, machine: bool) -> str:
        """Kill all processes of the primary's PostgreSQL with SIGKILL. With `machine`, kill its Patroni too, as a power cut does."""
        name = self.primary()
        assert name is not None
        postmaster = psutil.Process(int((self.folder / name / "postmaster.pid").read_text().split()[0]))
        doomed = [postmaster, *postmaster.children(recursive=True)]
        if machine:
            patroni = psutil.Process(self.processes[name].pid)
            doomed = [patroni, *patroni.children(recursive=True), *doomed]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        if machine:
            self.processes.pop(name).wait()
        return name

    def stop(self) -> None:
        """Stop everything."""
        for name in (*NAMES, "etcd"):
            process = self.processes.pop(name, None)
            if process is not None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _status(self, name: str, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.apis[name]}/{path}", timeout=1) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def _run(self, name: str, command: list[object]) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), "LANG": "C.UTF-8"}
        self.processes[name] = subprocess.Popen(
            [*_AS_USER, *map(str, command)], stdout=log, stderr=log, cwd=self.folder, env=environment
        )

    def _config(self, name: str) -> dict[str, object]:
        users = {
            "superuser": {"username": "postgres", "password": PASSWORD},
            "replication": {"username": "replicator", "password": PASSWORD},
            "rewind": {"username": "rewinder", "password": PASSWORD},
        }
        return {
            "scope": "drill",
            "name": name,
            "restapi": {"listen": f"127.0.0.1:{self.apis[name]}", "connect_address": f"127.0.0.1:{self.apis[name]}"},
            "etcd3": {"host": f"127.0.0.1:{self.etcd_ports[1]}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,  # Patroni's minimum
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "primary_start_timeout": 0,  # do not wait for a crashed primary
                    "maximum_lag_on_failover": 1048576,
                    "synchronous_mode": True,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"wal_log_hints": "on", "max_connections": 60, "shared_buffers": "64MB"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.ports[name]}",
                "connect_address": f"127.0.0.1:{self.ports[name]}",
                "data_dir": str(self.folder / name),
                "bin_dir": str(self.bin),
                "pgpass": str(self.folder / f"{name}.pgpass"),
                "authentication": users,
                "parameters": {"unix_socket_directories": str(self.folder)},
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                ],
            },
        }


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(condition, seconds: float, what: str) -> float:
    """Wait until a condition holds and return how long that took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() > begun + seconds:
            raise TimeoutError(f"no {what} after {seconds:g} s")
        time.sleep(0.1)
    return time.monotonic() - begun


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
