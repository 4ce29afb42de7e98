"""Looks at interfaces, addresses and routes of macOS, through `ifconfig` and `netstat`."""

from __future__ import annotations

from ngrokd.host.command import Runner
from ngrokd.host.netif import bsd, routelist
from ngrokd.host.netif.scene import Scene


class BsdReader:
    """A Reader. Owner: main. Each look runs two programs.

    They do not tell the kernel's index: the place in the list is what a `Scene` has instead.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._answers: tuple[str, str] = ("", "")
        self._scene = Scene()

    def look(self) -> Scene:
        answers = self._shown(), routelist.ask(self._run, bsd.SHOW_ROUTES)
        if answers != self._answers:
            self._answers, self._scene = answers, _scene(*answers)
        return self._scene

    def close(self) -> None:
        """It holds nothing."""

    def _shown(self) -> str:
        answer = self._run(bsd.SHOW_ALL)
        names = [each.name for each in bsd.interfaces(answer)]
        if bsd.LOOPBACK not in names or not answer.endswith("\n"):  # which each Mac has
            raise bsd.strange(bsd.SHOW_ALL)
        return answer


def _scene(shown: str, routes: str) -> Scene:
    found = list(enumerate(bsd.interfaces(shown), 1))
    return Scene(
        {index: each.name for index, each in found},
        {index: each.texts for index, each in found},
        tuple(bsd.ways(routes)),
        tuple(bsd.gateways(routes)),
        frozenset(index for index, each in found if not each.is_up),
    )
