"""The kernel's sockets that tell when a network comes."""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Iterator
from typing import Callable, Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.netif import kernelfilter, routemessages, rtnetlink
from ngrokd.host.netif.loopback import FALLBACK_SUBNET
from ngrokd.host.netif.networks import AllTold, Event, Networks
from ngrokd.model import NetworkCame

NETLINK_ROUTE = 0
DATAGRAM_BYTES = 32 * 1024  # the kernel's own bound for its answers
READS_A_TURN = 64  # what is left waits: the thread that reads has more to do
ANSWER_S = 1.0  # the kernel answers at once; what stands in for one (gVisor) might not

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


def open_linux(net: NetSettings) -> NetworkWatch:
    """By netlink, which needs no rights. Raises OSError where it is refused."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(_netlink())
        sock.bind((0, rtnetlink.GROUPS))
        try:
            _attach_filter(sock, kernelfilter.program(net.subnet))
        except OSError as exc:
            logger.debug("all messages about routes are read: %s", exc)
        watch = NetworkWatch(sock, _from_kernel, rtnetlink.events, _networks(net), _all_on_linux)
        undo.pop_all()
    return watch


def open_darwin(net: NetSettings) -> NetworkWatch:
    """By a routing socket, which needs no rights. Raises OSError where it is refused."""
    sock = socket.socket(socket.AF_ROUTE, socket.SOCK_RAW, 0)
    return NetworkWatch(sock, _any, routemessages.events, _networks(net))


def _networks(net: NetSettings) -> Networks:
    return Networks(net.interface_name, (net.subnet, FALLBACK_SUBNET))


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


def _any(sock: socket.socket) -> bytes:
    return sock.recv(DATAGRAM_BYTES)


def _all_on_linux() -> Iterator[Event]:
    """Links and addresses. By a socket of its own: the filter judges whole datagrams."""
    with _netlink() as sock:
        sock.settimeout(ANSWER_S)
        for kind in (rtnetlink.GET_LINK, rtnetlink.GET_ADDRESS):
            sock.sendto(rtnetlink.request_all(kind), (0, 0))
            told = False
            while not told:
                for event in rtnetlink.events(_from_kernel(sock)):
                    told = told or isinstance(event, AllTold)
                    yield event
