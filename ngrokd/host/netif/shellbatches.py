"""Runs one command for each of many addresses, in batches by `sh`."""

from __future__ import annotations

from collections.abc import Mapping

from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import shellscript

# Two hundred take less than a second; a batch must end long before its time is over.
_BATCH_SIZE = 200


class ShellBatches:
    """Owner: main."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self.unsure: set[str] = set()  # failed at the last `each`, and perhaps done all the same

    def each(self, commands: Mapping[str, list[str]]) -> dict[str, str]:
        """The addresses whose command failed, with the reason.

        After a batch that did not end in time no other is tried: each would take as long.
        """
        failed: dict[str, str] = {}
        self.unsure = set()
        ips = list(commands)
        if len(ips) == 1:
            return self._alone(ips[0], commands[ips[0]])
        for start in range(0, len(ips), _BATCH_SIZE):
            part = ips[start : start + _BATCH_SIZE]
            failed.update(self._batch({ip: commands[ip] for ip in part}))
            if self.unsure:
                failed.update(dict.fromkeys(ips[start + _BATCH_SIZE :], failed[part[0]]))
                break
        return failed

    def _alone(self, ip: str, argv: list[str]) -> dict[str, str]:
        try:
            self._run(argv)
        except CommandError as exc:
            self.unsure = {ip} if exc.was_killed else set()
            return {ip: str(exc)}
        return {}

    def _batch(self, commands: Mapping[str, list[str]]) -> dict[str, str]:
        script = shellscript.script(list(commands.values()))
        try:
            said = self._run(shellscript.ARGV, script)
        except CommandError as exc:  # one by one would not be better
            self.unsure |= commands.keys() if exc.was_killed else set()
            return dict.fromkeys(commands, str(exc))
        lines = list(commands.items())
        return {
            lines[number][0]: f"`{' '.join(lines[number][1])}`: {why}"
            for number, why in shellscript.failures(said).items()
            if number < len(lines)
        }
