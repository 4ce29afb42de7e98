"""macOS's socket that tells when a network comes: a routing socket, which needs no rights."""

from __future__ import annotations

import socket

from ngrokd.config import NetSettings
from ngrokd.host.netif import routemessages
from ngrokd.host.netif.watch import NetworkWatch, networks_of

_MESSAGE_BYTES = 32 * 1024  # many times what the longest one has


def open_watch(net: NetSettings) -> NetworkWatch:
    """Raises OSError where it is refused."""
    sock = socket.socket(socket.AF_ROUTE, socket.SOCK_RAW, 0)
    return NetworkWatch(sock, _receive, routemessages.events, networks_of(net))


def _receive(sock: socket.socket) -> bytes:
    return sock.recv(_MESSAGE_BYTES)
