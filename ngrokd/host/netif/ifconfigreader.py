"""Looks at links, addresses and routes through Linux's `ifconfig`, where nothing else can be asked.
"""

from __future__ import annotations

import logging
import socket
from typing import Callable

from ngrokd.host.command import Runner
from ngrokd.host.netif import ifconfig, routelist
from ngrokd.host.netif.scene import Scene

logger = logging.getLogger(__name__)


class IfconfigReader:
    """Owner: main. Each look runs two programs."""

    def __init__(
        self, run: Runner, index_of: Callable[[str], int] = socket.if_nametoindex
    ) -> None:
        """`index_of`: what `ifconfig` does not tell; raises OSError where it has gone."""
        self._run = run
        self._index_of = index_of

    def look(self) -> Scene:
        links: dict[int, str] = {}
        held: dict[int, tuple[str, ...]] = {}
        for name, texts in ifconfig.held_addresses(self._run(ifconfig.SHOW_ALL)).items():
            try:
                index = self._index_of(name)
            except OSError as exc:  # gone since
                logger.debug("%s: %s", name, exc)
                continue
            links[index], held[index] = name, tuple(texts)
        routes = routelist.ask(self._run, ifconfig.SHOW_ROUTES)
        ways, needs = tuple(ifconfig.ways(routes)), tuple(ifconfig.gateways(routes))
        return Scene(links, held, ways, needs)

    def close(self) -> None:
        """It holds nothing."""
