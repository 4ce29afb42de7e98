"""Reads what the kernel tells of networks, and says when one comes."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator
from typing import Callable, Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.netif.loopback import RANGE
from ngrokd.host.netif.networks import Event, Networks
from ngrokd.model import NetworkCame

READS_A_TURN = 64  # what is left waits: the thread that reads has more to do

logger = logging.getLogger(__name__)

Receive = Callable[[socket.socket], bytes]
Parse = Callable[[bytes], Iterator[Event]]


class NetworkWatch:
    """Owner: main, which waits for `fileno` to be readable. Nothing is done in between."""

    def __init__(
        self,
        sock: socket.socket,
        receive: Receive,
        parse: Parse,
        networks: Networks,
        tell_all: Callable[[], Iterator[Event]] = lambda: iter(()),
    ) -> None:
        """`tell_all`: what there is, so that only what comes after it is news."""
        sock.setblocking(False)
        self._sock = sock
        self._receive = receive
        self._parse = parse
        self._networks = networks
        self._tell_all = tell_all
        self._learn()

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    def read(self) -> Optional[NetworkCame]:
        """What came, all in one. Raises HostError: nothing more will be told."""
        came: Optional[NetworkCame] = None
        for _ in range(READS_A_TURN):
            try:
                data = self._receive(self._sock)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise HostError(f"the kernel tells no more about networks: {exc}") from exc
                # More happened than the kernel kept for us; what was lost may have been the one.
                self._learn()
                one: Optional[NetworkCame] = NetworkCame("many networks changed", everywhere=True)
            else:
                one = self._taken(data)
            if one is not None:
                came = one if came is None else came.and_also(one)
        return came

    def close(self) -> None:
        """Twice is harmless."""
        self._sock.close()

    def _taken(self, data: bytes) -> Optional[NetworkCame]:
        came: Optional[NetworkCame] = None
        for event in self._parse(data):
            one = self._networks.take(event)
            if one is not None:
                came = one if came is None else came.and_also(one)
        return came

    def _learn(self) -> None:
        self._networks.forget()
        try:
            for event in self._tell_all():
                self._networks.take(event)
        except OSError as exc:  # then the first thing told of each network counts as its coming
            logger.debug("which networks there are is not told: %s", exc)


def networks_of(net: NetSettings) -> Networks:
    """What is not ours, by the settings."""
    return Networks(net.interface_name, (net.subnet, str(RANGE)))
