"""Reload on SIGHUP: new plans, a new certificate and a new log level, without closing a connection.

The process that an operator signals reads the options again and checks them. If they are wrong, it logs why and everything
stays. One process alone then applies them. With several, the parent writes them to a file and signals its workers.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from ..errors import BotWireError
from ..plans import Plan, Plans
from .settings import LiveSettings, Settings, check_tls, tls_context
from .telemetry import logs

log = logging.getLogger("botwire.server")


class ReplaceablePlans(Plans):
    """Plans that a store keeps, and that change for all its following writes when they are replaced."""

    current: Plans

    def __init__(self, plans: Plans) -> None:
        self.replace(plans)

    def replace(self, plans: Plans) -> None:
        """Use these plans from now on."""
        object.__setattr__(self, "current", plans)
        object.__setattr__(self, "default", plans.default)
        object.__setattr__(self, "named", plans.named)

    def of(self, name: str | None) -> tuple[str, Plan]:
        """As `Plans.of`, from one version of the plans even while another thread replaces them."""
        return self.current.of(name)


class Certificate:
    """The certificate of a server, which can be replaced for all following connections.

    Each certificate gets a TLS context of its own. Loading it into the context in use would keep the old one beside it if
    its key is of another type, and would leave a certificate without its key if the files change in between.

    Args:
        live: with the files of the first certificate.
    """

    def __init__(self, live: LiveSettings) -> None:
        self._current = self.context = tls_context(live)
        self.context.sni_callback = self._use_current

    def replace(self, live: LiveSettings) -> None:
        """Use another certificate from now on, or raise `InvalidArgument`."""
        self._current = tls_context(live)

    def _use_current(self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        """OpenSSL calls it for each connection, also for one that names no server, before it chooses a certificate."""
        connection.context = self._current


class Rereader:
    """Reads the settings again and checks them.

    Args:
        running: the settings that the server was started with.
        reread: returns the settings as they are given now.
    """

    def __init__(self, running: Settings, reread: Callable[[], Settings]) -> None:
        self._running = running
        self._reread = reread

    def __call__(self) -> LiveSettings:
        """Return what changes without a restart, and log what needs one; or raise `BotWireError`."""
        new = self._reread()
        check_tls(new.live)
        if changed := self._running.changed(new):
            log.warning("restart needed", extra={"options": changed})
        return new.live


def attempt(change: Callable[[], None]) -> bool:
    """Make a change; when it fails, log why. Whatever is wrong with a new configuration, the server keeps serving."""
    try:
        change()
    except BotWireError as error:
        log.error("not reloaded", extra={"reason": error.message})  # noqa: TRY400 - an error of the operator
        return False
    except Exception:
        log.exception("not reloaded")
        return False
    return True


def read_live(file: Path) -> LiveSettings:
    """Read the settings that the parent process wrote."""
    return msgspec.json.decode(file.read_bytes(), type=LiveSettings)


class Workers(Multiprocess):
    """The worker processes and their parent, which passes SIGHUP on to them.

    Args:
        config: for uvicorn.
        sockets: that they listen on.
        reread: returns the checked new settings.
        renew: stores them for workers that start later.
        file: where the running workers read them.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[Any],
        reread: Callable[[], LiveSettings],
        renew: Callable[[LiveSettings], None],
        file: Path,
    ) -> None:
        super().__init__(config, sockets)
        self._reread_live = reread
        self._renew = renew
        self._file = file

    def handle_hup(self) -> None:
        """Reload. A worker that has not finished its start ends by the signal, and its replacement has the new settings."""
        if attempt(self._publish):
            for process in self.processes:
                if process.pid is not None and process.exitcode is None:
                    os.kill(process.pid, signal.SIGHUP)

    def _publish(self) -> None:
        live = self._reread_live()
        unfinished = self._file.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(live))
        unfinished.replace(self._file)
        self._renew(live)
        logs.set_level(live.log_level)
