"""Linux's netlink socket for networks: what it tells by itself, and asking it for all there is.

It needs no rights and runs no program. Where it is shut off (a seccomp filter, what stands in for
Linux), opening or asking raises OSError, and `ip` has to be asked instead.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from ngrokd.host.netif import rtnetlink

DATAGRAM_BYTES = 32 * 1024  # the kernel's own bound for its answers

_NETLINK_ROUTE = 0
_ENDS = frozenset((rtnetlink.ERROR, rtnetlink.DONE))
_ANSWER_S = 1.0  # the kernel answers at once; what stands in for one (gVisor) might not
_ROUNDS = 5  # of an answer that is interrupted by a change


def opened(groups: int = 0) -> socket.socket:
    """A socket that is told what the kernel tells these groups. Raises OSError."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def receive(sock: socket.socket) -> bytes:
    """One datagram; b"" of one that is not the kernel's: other programs may write, too."""
    data, (port, _) = sock.recvfrom(DATAGRAM_BYTES)
    return data if port == 0 else b""


def all_of(kind: int) -> list[bytes]:
    """Every datagram of the answer to `rtnetlink.request_all(kind)`. Raises OSError.

    By a socket of its own: what the kernel tells by itself comes in between on others.
    """
    with opened() as sock:
        sock.settimeout(_ANSWER_S)
        for _ in range(_ROUNDS):
            sock.sendto(rtnetlink.request_all(kind), (0, 0))
            answer = list(_answer(sock))
            if not any(map(rtnetlink.is_interrupted, answer)):
                break
    return answer


def _answer(sock: socket.socket) -> Iterator[bytes]:
    while True:
        data = receive(sock)
        yield data
        if not _ENDS.isdisjoint(rtnetlink.kinds(data)):
            _raise_refusal(data)
            return


def _raise_refusal(data: bytes) -> None:
    """Raises OSError for an error up to the answer's end."""
    for kind, body in rtnetlink.messages(data):
        if kind == rtnetlink.ERROR:
            number = rtnetlink.refusal(body)
            raise OSError(number, os.strerror(number))
        if kind == rtnetlink.DONE:
            return
