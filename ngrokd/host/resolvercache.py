"""Has the machine's resolver forget what it keeps, once the hosts file has changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from ngrokd.config import NetSettings
from ngrokd.host import command, platforms
from ngrokd.host.command import CommandError

logger = logging.getLogger(__name__)

RESOLVERS_FILE = "/etc/hosts"  # the one that programs look names up in


def commands(net: NetSettings, known: Sequence[platforms.Argv]) -> tuple[platforms.Argv, ...]:
    """Of the platform's: all, or none if that is turned off or no resolver reads the file."""
    is_read = os.path.realpath(net.hosts_file) == os.path.realpath(RESOLVERS_FILE)
    return tuple(known) if net.flush_resolver_cache == "auto" and is_read else ()


class ResolverCache:
    """Owner: main."""

    def __init__(self, flush: Sequence[platforms.Argv], run: command.Runner) -> None:
        """`flush`: the commands; none where nothing is kept."""
        self._flush = flush
        self._run = run
        self._told = False

    def flush(self) -> None:
        """To be called once for each change. That it fails costs clients a wait, and no more."""
        for argv in self._flush:
            try:
                self._run(argv)
            except CommandError as exc:
                self._tell(exc)

    def _tell(self, error: CommandError) -> None:
        """Once: it would fail at every change."""
        if self._told:
            logger.debug("%s", error)
            return
        self._told = True
        logger.warning(
            "the resolver may keep old answers for some minutes: %s; "
            "net.flush_resolver_cache: off leaves it alone",
            error,
        )
