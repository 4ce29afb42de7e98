"""The health pages where the configuration wants them, moved while the daemon runs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Callable, Optional

from ngrokd import __version__
from ngrokd.config import ServerSettings
from ngrokd.control import metrics, report
from ngrokd.control.health import HealthServer, Told
from ngrokd.errors import HostError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.model import Status
from ngrokd.process.pulse import Pulse

logger = logging.getLogger(__name__)

RETRY_S = 10.0  # what is missing at boot may come: an address, a port that is let go of


class HealthPages:
    """Owner: main thread. What the pages say is asked on threads of the server."""

    def __init__(self, status: Callable[[], Status], forwarder: Forwarder) -> None:
        self._status = status
        self._forwarder = forwarder
        self.pulse = Pulse(forwarder.heartbeat)
        self._told = Told(self.verdict, self._health, self._metrics)
        self._at: Optional[tuple[str, int]] = None
        self._server: Optional[HealthServer] = None
        self._next_try = math.inf  # `time.monotonic()`
        self.problem = ""

    def open(self, server: ServerSettings, now: float) -> None:
        """As `configure`; where that fails it is a problem, and tried again by `tick`."""
        try:
            self.configure(server)
        except HostError as exc:
            if str(exc) != self.problem:
                logger.warning("%s", exc)
            self.problem = str(exc)
            self._next_try = now + RETRY_S

    def tick(self, server: ServerSettings, now: float) -> None:
        """Tries again what `open` could not."""
        if now >= self._next_try:
            self.open(server, now)

    def wait_s(self, now: float) -> float:
        """Until `tick` has something to do."""
        return max(0.0, self._next_try - now)

    def configure(self, server: ServerSettings) -> None:
        """Serves them there, or not at all for port 0. HostError: they stay where they were."""
        at = (server.health_address, server.health_port)
        if at == self._at:
            return
        if self._at is not None and self._at[1] == at[1]:
            self._replace(self._at, at)  # 0.0.0.0 and 127.0.0.1 cannot both have the port
        else:
            fresh = self._serve(at)
            self.stop()
            self._at, self._server = at, fresh
        if self.problem:
            logger.info("the health pages are served again")
        self.problem, self._next_try = "", math.inf

    def stop(self) -> None:
        """Twice is harmless."""
        if self._server is not None:
            self._server.stop()
        self._at = self._server = None

    def _replace(self, old: tuple[str, int], new: tuple[str, int]) -> None:
        self.stop()
        try:
            self._at, self._server = new, self._serve(new)
        except HostError:
            self._at, self._server = old, self._serve(old)
            raise

    def _serve(self, at: tuple[str, int]) -> Optional[HealthServer]:
        if not at[1]:
            return None
        server = HealthServer(*at, self._told)
        server.start()
        return server

    def verdict(self) -> report.Verdict:
        """Any thread: whether the daemon lives, and whether it serves."""
        pulse = self.pulse
        return report.verdict(self._status(), pulse.forwarding(), pulse.reconciling())

    # AT A DESK

    def _health(self) -> Mapping[str, object]:
        counters = self._forwarder.glance().counters
        return report.health_json(self._status(), counters, self.verdict(), time.time())

    def _metrics(self) -> str:
        seen = self._forwarder.glance()
        return metrics.render(self._status(), self.verdict(), seen, __version__)
