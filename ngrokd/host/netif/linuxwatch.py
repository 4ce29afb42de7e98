"""Linux's socket that tells when a network comes: netlink, which needs no rights."""

from __future__ import annotations

import array
import contextlib
import logging
import socket
import struct
from collections.abc import Iterator

from ngrokd.config import NetSettings
from ngrokd.host.netif import kernelfilter, netlink, rtnetlink
from ngrokd.host.netif.networks import Event
from ngrokd.host.netif.watch import NetworkWatch, networks_of

logger = logging.getLogger(__name__)


def open_watch(net: NetSettings) -> NetworkWatch:
    """Raises OSError where it is refused."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(netlink.opened(rtnetlink.GROUPS))
        try:
            _attach_filter(sock, kernelfilter.program(net.subnet))
        except OSError as exc:
            logger.debug("all messages about routes are read: %s", exc)
        watch = NetworkWatch(sock, netlink.receive, rtnetlink.events, networks_of(net), _all)
        undo.pop_all()
    return watch


def _attach_filter(sock: socket.socket, program: bytes) -> None:
    """`struct sock_fprog` has the program's address; array tells one, and ctypes costs memory."""
    held = array.array("B", program)
    address, _ = held.buffer_info()
    option = struct.pack("@HP", kernelfilter.count(program), address)
    sock.setsockopt(socket.SOL_SOCKET, kernelfilter.SO_ATTACH_FILTER, option)


def _all() -> Iterator[Event]:
    """Links and addresses."""
    for kind in (rtnetlink.GET_LINK, rtnetlink.GET_ADDRESS):
        for data in netlink.all_of(kind):
            yield from rtnetlink.events(data)
