"""A worker process ends with the process that started it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from threading import Thread

log = logging.getLogger("botwire.server")


def end_with_parent(grace: float) -> None:
    """Stop this process as on SIGTERM when its parent ends in any way, also by SIGKILL, or has ended already.

    Args:
        grace: seconds until this process is ended, if it has not stopped by then.
    """
    Thread(target=_wait, args=(grace,), name="botwire-parent", daemon=True).start()


def _wait(grace: float) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # the end of a pipe that only the parent has: stopping or tracing it changes nothing
    log.error("the parent process has ended: stopping", extra={"pid": os.getpid(), "parent": parent.pid})
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)
