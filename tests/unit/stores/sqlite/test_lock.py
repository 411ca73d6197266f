"""Waiting for another process that writes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

from botwire import Memory

TIMEOUT = 60
GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from botwire import Memory, Timeout

ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.01)

gevent.spawn(tick)
with Memory("n", sys.argv[1], timeout=1) as memory:
    try:
        memory.set("k", 2)
    except Timeout:
        print("Timeout", ticks > 10)
"""


def test_greenlets_run_while_one_waits_for_another_process(tmp_path):
    address = f"sqlite:///{tmp_path}/a.db"
    with Memory("n", address) as memory:
        memory.set("k", 1)
    file = os.open(tmp_path / "a.db-lock", os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    command = [sys.executable, "-W", "ignore", "-c", GREENLETS, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    os.close(file)
    assert done.stdout == "Timeout True\n", done.stderr
