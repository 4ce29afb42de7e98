"""Linux's socket that tells when a network comes: netlink, which needs no rights."""

from __future__ import annotations

import array
import contextlib
import logging
import socket
import struct
from collections.abc import Iterator

from ngrokd.config import NetSettings
from ngrokd.host.netif import kernelfilter, rtnetlink
from ngrokd.host.netif.networks import Event, Told
from ngrokd.host.netif.watch import DATAGRAM_BYTES, NetworkWatch, networks_of

NETLINK_ROUTE = 0
ANSWER_S = 1.0  # the kernel answers at once; what stands in for one (gVisor) might not

logger = logging.getLogger(__name__)


def open_watch(net: NetSettings) -> NetworkWatch:
    """Raises OSError where it is refused."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(_netlink())
        sock.bind((0, rtnetlink.GROUPS))
        try:
            _attach_filter(sock, kernelfilter.program(net.subnet))
        except OSError as exc:
            logger.debug("all messages about routes are read: %s", exc)
        watch = NetworkWatch(sock, _from_kernel, rtnetlink.events, networks_of(net), _all)
        undo.pop_all()
    return watch


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)


def _attach_filter(sock: socket.socket, program: bytes) -> None:
    """`struct sock_fprog` has the program's address; array tells one, and ctypes costs memory."""
    held = array.array("B", program)
    address, _ = held.buffer_info()
    option = struct.pack("@HP", kernelfilter.count(program), address)
    sock.setsockopt(socket.SOL_SOCKET, kernelfilter.SO_ATTACH_FILTER, option)


def _from_kernel(sock: socket.socket) -> bytes:
    """Other programs may write to a netlink socket too: what they say is nothing."""
    data, (port, _) = sock.recvfrom(DATAGRAM_BYTES)
    return data if port == 0 else b""


def _all() -> Iterator[Event]:
    """Links and addresses. By a socket of its own: the filter judges whole datagrams."""
    with _netlink() as sock:
        sock.settimeout(ANSWER_S)
        for kind in (rtnetlink.GET_LINK, rtnetlink.GET_ADDRESS):
            sock.sendto(rtnetlink.request_all(kind), (0, 0))
            told = False
            while not told:
                for event in rtnetlink.events(_from_kernel(sock)):
                    told = told or event.told is Told.ALL
                    yield event
