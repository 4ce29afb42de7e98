"""Looks at links, addresses and routes through `ip`, where the kernel itself is not to be asked."""

from __future__ import annotations

from ngrokd.host.command import Runner
from ngrokd.host.netif import iproute
from ngrokd.host.netif.scene import Scene


class IpReader:
    """Owner: main. Each look runs three programs."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def look(self) -> Scene:
        shown = self._run(iproute.SHOW_LINKS)
        held: dict[int, list[str]] = {}
        for one in iproute.held_addresses(self._run(iproute.SHOW_ALL_ADDRESSES)):
            held.setdefault(one.index, []).append(one.text)
        routes = self._run(iproute.SHOW_ROUTES)
        ways, needs = tuple(iproute.ways(routes)), tuple(iproute.gateways(routes))
        texts = {index: tuple(each) for index, each in held.items()}
        return Scene(iproute.links(shown), texts, ways, needs, iproute.down(shown))

    def close(self) -> None:
        """It holds nothing."""
