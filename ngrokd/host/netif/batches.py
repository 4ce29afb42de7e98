"""Many `ip` commands in one process, where this `ip` can do that."""

from __future__ import annotations

import logging
from collections.abc import Collection

from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute

logger = logging.getLogger(__name__)

# One `ip` takes them all in one process; more at once would only delay the first error.
_BATCH_SIZE = 1000


class Batches:
    """Runs one command for each of many addresses. Owner: main."""

    def __init__(self, run: Runner, takes_batches: bool = True) -> None:
        """`takes_batches`: it may be able to."""
        self._run = run
        self._takes_batches = takes_batches
        self.unsure: set[str] = set()  # failed at the last `each`, and perhaps done all the same

    def each(self, commands: dict[str, list[str]]) -> dict[str, str]:
        """Runs the command of each address; the addresses whose command failed, with the reason."""
        failed: dict[str, str] = {}
        self.unsure = set()
        ips = list(commands)
        for start in range(0, len(ips), _BATCH_SIZE):
            part = {ip: commands[ip] for ip in ips[start : start + _BATCH_SIZE]}
            failed.update(self._batch(part) if self._takes_batches else self._singly(part))
        return failed

    def add(
        self, name: str, commands: dict[str, list[str]], had: Collection[str]
    ) -> dict[str, str]:
        """As `each`; that those which the interface `name` has had were taken from it is told."""
        failed = self.each(commands)
        again = commands.keys() & set(had) - failed.keys()
        if again:
            lost = "%d addresses of %s were removed by another program: added again"
            logger.warning(lost, len(again), name)
        return failed

    def _batch(self, commands: dict[str, list[str]]) -> dict[str, str]:
        try:
            self._run(iproute.BATCH, iproute.as_batch(list(commands.values())))
        except CommandError as exc:
            failures = iproute.batch_failures(exc.stderr)
            if failures:
                ips = list(commands)
                return {ips[index]: reason for index, reason in failures.items()}
            if exc.returncode is None:  # one by one would not be better
                self.unsure |= commands.keys() if exc.was_killed else set()
                return dict.fromkeys(commands, str(exc))
            logger.info("this `ip` takes no batches: addresses are set one by one")
            self._takes_batches = False
            return self._singly(commands)
        return {}

    def _singly(self, commands: dict[str, list[str]]) -> dict[str, str]:
        failed = {}
        for ip, argv in commands.items():
            try:
                self._run(argv)
            except CommandError as exc:
                failed[ip] = iproute.complaint(exc.stderr) or str(exc)
                self.unsure |= {ip} if exc.was_killed else set()
        return failed
