"""Test the store through PgBouncer in transaction mode in front of the primary."""

from __future__ import annotations

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from botwire.operations import Append, Increment, NewMessage
from botwire.queries import CountMessages, GetEntry, ListChanges
from botwire.stores.postgres.store import PostgresStore
from botwire.timestamps import new_id

from .cluster import _AS_USER, PASSWORD, Cluster, _listens, free_port, wait_for


def try_pooler(cluster: Cluster) -> None:
    """Write through PgBouncer from 16 threads. Their transactions share 4 connections."""
    pgbouncer = shutil.which("pgbouncer")
    if pgbouncer is None:
        print("skipped PgBouncer: it is not installed (apt-get install pgbouncer)")
        return
    version = subprocess.run([pgbouncer, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    primary = cluster.primary()
    assert primary is not None
    port = free_port()
    folder = cluster.folder / "pgbouncer"
    folder.mkdir()
    (folder / "users.txt").write_text(f'"postgres" "{PASSWORD}"\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={cluster.ports[primary]}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = transaction\ndefault_pool_size = 4\n"
    )
    server = subprocess.Popen([*_AS_USER, pgbouncer, str(config)], stderr=(folder / "log").open("wb"))
    try:
        wait_for(lambda: _listens(port), 10, "PgBouncer")
        stores = [PostgresStore(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres") for _ in range(2)]

        def work(writer: int) -> None:
            for number in range(100):
                message = NewMessage(new_id(), str(number))
                stores[writer % 2].write("pooled", [Increment(f"k{writer % 4}"), Append(f"s{writer}", (message,))])
                stores[writer % 2].read("pooled", GetEntry(f"k{writer % 4}"))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        for key in range(4):
            entry = stores[0].read("pooled", GetEntry(f"k{key}"))
            assert entry is not None
            assert entry.value == 400
        assert all(stores[1].read("pooled", CountMessages(f"s{writer}")) == 100 for writer in range(16))
        with ThreadPoolExecutor(1) as threads:
            feed = stores[0].changes("watched", ListChanges(0))
            waiting = threads.submit(feed.next, 10)
            time.sleep(0.3)  # by now the watcher has found that notifications do not arrive, and polls
            stores[1].write("watched", [Increment("k")])
            assert waiting.result().changes
            assert not stores[0].listener.is_listening
        for store in stores:
            store.close()
        print(
            f"PgBouncer {version} in transaction mode: 16 threads sent 1,600 writes through 4 connections, each was applied once"
        )
    finally:
        server.terminate()
        server.wait()
