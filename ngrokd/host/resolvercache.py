"""Has the machine's resolver forget what it keeps, once the hosts file has changed."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Sequence
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.host import command, platforms
from ngrokd.host.command import CommandError

logger = logging.getLogger(__name__)

THREAD = "resolver"
# Both commands take moments; who uses a name once it is told to be there is to find it.
PATIENCE_S = 1.0
END_S = 2.0

RESOLVERS_FILE = "/etc/hosts"  # the one that programs look names up in


def commands(net: NetSettings, known: Sequence[platforms.Argv]) -> tuple[platforms.Argv, ...]:
    """Of the platform's: all, or none if that is turned off or no resolver reads the file."""
    is_read = os.path.realpath(net.hosts_file) == os.path.realpath(RESOLVERS_FILE)
    return tuple(known) if net.flush_resolver_cache == "auto" and is_read else ()


class ResolverCache:
    """Owner: main, but for what is said to be of thread `resolver`, which is there once needed.

    Names are published and taken back, and all else goes on, while a command hangs.
    """

    def __init__(self, flush: Sequence[platforms.Argv], run: command.Runner) -> None:
        """`flush`: the commands; none where nothing is kept."""
        self._flush = flush
        self._run = run
        self._told = False
        self._asked: queue.SimpleQueue[Optional[threading.Event]] = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None
        self._done = threading.Event()  # the last that was asked for
        self._done.set()

    def flush(self) -> None:
        """To be called once for each change. That it fails costs clients a wait, and no more.

        Waits for it, but not for long, and not at all while an earlier one hangs.
        """
        if not self._flush:
            return
        is_hanging = not self._done.is_set()
        self._done = threading.Event()
        self._asked.put(self._done)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
            self._thread.start()
        if not is_hanging:
            self._done.wait(PATIENCE_S)

    def close(self) -> None:
        """Does not wait long for what hangs. Twice is harmless."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join(END_S)
            self._thread = None

    def _work(self) -> None:
        """Thread `resolver`. Of changes that came meanwhile, one flush is enough for all."""
        while True:
            asked = [self._asked.get()]
            while not self._asked.empty():
                asked.append(self._asked.get())
            events = [each for each in asked if each is not None]
            if events:
                self.flush_now()
            for event in events:
                event.set()
            if len(events) < len(asked):
                return

    def flush_now(self) -> None:
        """To its end, on whichever thread."""
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
