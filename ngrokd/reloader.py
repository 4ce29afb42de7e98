"""Takes up a new configuration while the daemon runs: all at once or not at all."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd import configfile, logs
from ngrokd.config import Config
from ngrokd.configfile import Source
from ngrokd.configwatch import ConfigWatch
from ngrokd.errors import ConfigError, ControlError, HostError
from ngrokd.healthpages import HealthPages
from ngrokd.process import limits
from ngrokd.reload import effective, needs_restart

logger = logging.getLogger(__name__)


class Reloader:
    """Owner: main thread."""

    def __init__(
        self, config: Config, source: Source, pages: HealthPages, take: Callable[[Config], None]
    ) -> None:
        """`take` gives a configuration to the parts of the daemon, none of which can refuse it."""
        self.config = config  # the one in force
        self._source = source
        self._pages = pages
        self._take = take
        self._watch = ConfigWatch(source.files())
        self._fault = ""
        self._waiting: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The file by which others find this daemon's places, "" if there is none."""
        return self._source.told

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the file that was saved from being what is in force."""
        waiting = (f"needs a restart: {', '.join(self._waiting)}",) if self._waiting else ()
        return (*((self._fault,) if self._fault else ()), *waiting)

    def tick(self, now: float) -> None:
        """Reads the files again if they were saved."""
        if self._watch.changed(now):
            logger.info("the configuration was saved, so it is read again")
            self.reload()

    def wait_s(self, now: float) -> float:
        """Until `tick` has something to do again."""
        return self._watch.wait_s(now)

    def reload(self, reply: Optional[Future[Any]] = None) -> None:
        """A faulty file, or one that this machine cannot follow, changes nothing."""
        self._watch.taken()
        try:
            new = self._source.load()
            taken = effective(self.config, new)
            self._prepare(taken)
        except (ConfigError, HostError) as exc:
            logger.error("the configuration is not taken, the old one stays: %s", exc)
            self._fault = f"the configuration that was saved is not taken: {_first_line(exc)}"
            if reply is not None:
                reply.set_exception(ControlError("bad_configuration", str(exc)))
            return
        self._fault = ""
        changed = configfile.changes(self.config, new)
        waiting = tuple(key for key in changed if needs_restart(key))
        live = tuple(key for key in changed if not needs_restart(key))
        self.config = taken
        self._take(taken)
        self.advise()
        logger.info("configuration read again, changed: %s", ", ".join(live) or "nothing")
        self._waiting = waiting
        if waiting:
            logger.warning("needs a restart: %s", ", ".join(waiting))
        if reply is not None:
            reply.set_result({"changed": live, "needs_restart": waiting})

    def advise(self) -> None:
        """Warns of settings that are allowed and yet seldom meant."""
        for line in self._source.advice(self.config):
            logger.warning("%s", line)
        beyond = limits.out_of_reach(self.config.forward.max_connections)
        if beyond:
            logger.warning("%s", beyond)

    def _prepare(self, new: Config) -> None:
        """What this machine may refuse. Raises HostError, with everything as it was."""
        self._pages.configure(new.server)
        try:
            logs.configure(new.server)
        except HostError:
            self._pages.open(self.config.server, time.monotonic())
            raise


def _first_line(exc: Exception) -> str:
    first, _, more = str(exc).partition("\n")
    return f"{first} (and more: `ngrokd check-config`)" if more else first
