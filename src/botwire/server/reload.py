"""Beginning anew on SIGHUP without refusing anybody: new plans, a new certificate, a new version of the program.

Several processes are replaced one after the other. One alone answers what is under way and then runs the program again in its place,
under its process id; whoever connects meanwhile waits in the queue of the socket, which stays open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.supervisors import Multiprocess

from ..errors import BotWireError

log = logging.getLogger("botwire.server")

_LISTENER = "BOTWIRE_LISTENER"
"""The descriptor that the program before left open."""


class One(uvicorn.Server):
    """A process that serves alone.

    Args:
        config: what and how.
        started: is called when it listens.
        check: raises when it would not begin anew.
    """

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], check: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._check = check
        self.begins_anew = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, also to SIGHUP."""
        await super().startup(sockets)
        with contextlib.suppress(
            AttributeError, NotImplementedError, RuntimeError, ValueError
        ):  # Windows; not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        self._started()

    def _reload(self) -> None:
        if _can_begin(self._check):
            self.begins_anew = self.should_exit = True


class Several(Multiprocess):
    """Processes that serve together, and are replaced one after the other."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], check: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._check = check

    def handle_hup(self) -> None:
        """Replace them."""
        if _can_begin(self._check):
            self.restart_all()
            log.info("reloaded")


def _can_begin(check: Callable[[], None]) -> bool:
    try:
        check()
    except BotWireError as error:
        log.error("not reloaded", extra={"reason": error.message})  # noqa: TRY400 - it is the operator's
        return False
    log.info("reloading")
    return True


def begin_anew(listener: socket.socket) -> None:
    """Run the program again in place of this one, with its listening socket."""
    listener.set_inheritable(True)
    os.environ[_LISTENER] = str(listener.fileno())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it listens to that again
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the command that this is


def inherited() -> socket.socket | None:
    """Return the socket that the program before left, if there is one."""
    left = os.environ.pop(_LISTENER, None)
    return None if left is None else socket.socket(fileno=int(left))
