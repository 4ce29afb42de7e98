"""The TCP options and errnos that both legs of a connection share."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
import termios

# A peer that vanished while nothing was under way is noticed after 60 + 4 * 15 seconds. Cloud load
# balancers and NAT forget a silent connection after 5 minutes or so: the probes keep it known.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 15
KEEPALIVE_PROBES = 4

# accept(2): the connection that was waiting is gone; the listener is fine.
ACCEPT_AGAIN = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EPROTO,
        errno.EPERM,  # a firewall rule of this machine
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.ETIMEDOUT,
        errno.EINTR,
    }
)
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
NO_MEMORY = frozenset({errno.ENOBUFS, errno.ENOMEM})
# The peer left in one of the usual ways: no news to an operator.
ROUTINE_LOSS = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})

# <netinet/tcp.h> and <sys/socket.h> of macOS. Its TCP_KEEPALIVE is what others call TCP_KEEPIDLE;
# Python before 3.10 has no name for it, and none has one for SO_NWRITE.
_TCP_KEEPALIVE, _TCP_KEEPINTVL, _TCP_KEEPCNT = 0x10, 0x101, 0x102
_SO_NWRITE = 0x1024  # bytes in the send buffer, which TCP keeps there until they are acknowledged
_ONLY_OF_TERMINALS = frozenset({errno.ENOTTY, errno.EOPNOTSUPP})  # TIOCOUTQ, to such a kernel

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# struct tcp_info of linux/tcp.h, as far as it has been the same since Linux 2.6
_TCP_INFO_BYTES = 60
_TCP_INFO_RETRANSMITS = 2  # offset of a byte: time-outs in a row without an answer
_TCP_INFO_PROBES = 3  # likewise, of zero-window and keep-alive probes


def keepalive_options(names: object) -> tuple[tuple[int, int], ...]:
    """What asks for the probes, by the names that `names` has for it."""
    idle = getattr(names, "TCP_KEEPIDLE", getattr(names, "TCP_KEEPALIVE", _TCP_KEEPALIVE))
    return (
        (idle, KEEPALIVE_IDLE_S),
        (getattr(names, "TCP_KEEPINTVL", _TCP_KEEPINTVL), KEEPALIVE_INTERVAL_S),
        (getattr(names, "TCP_KEEPCNT", _TCP_KEEPCNT), KEEPALIVE_PROBES),
    )


_KEEPALIVE = keepalive_options(socket)


def prepare(sock: socket.socket) -> None:
    """Non-blocking, no delay, keep-alive: one leg of a connection."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def is_unanswered(sock: socket.socket) -> bool:
    """Whether what was sent last goes unacknowledged (Linux; elsewhere: False).

    TCP_USER_TIMEOUT would end such a connection by itself, but since Linux 5.11 it also ends one
    whose peer answers every probe and merely does not read for a while: a paused download, a
    database client waiting for a lock. So the driver asks, and only silence counts.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return bool(info[_TCP_INFO_RETRANSMITS] or info[_TCP_INFO_PROBES])


def is_of_this_machine(ip: str) -> bool:
    """Whether one of its interfaces has this IPv4 address. Raises OSError: the kernel is not asked.

    A bind would say the same, but succeeds for any address under net.ipv4.ip_nonlocal_bind, which
    machines with a floating address set; a multicast interface is looked up by an address that is
    really there (ip(7), IP_MULTICAST_IF). Nothing is sent, and nothing waits.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ip))
        except OSError as exc:
            if exc.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True


def unsent(sock: socket.socket) -> int:
    """How many bytes the peer's kernel has not acknowledged yet (tcp(7), SIOCOUTQ)."""
    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError as exc:
        if exc.errno not in _ONLY_OF_TERMINALS:
            raise
    return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)


def reset_on_close(sock: socket.socket) -> None:
    """Make the coming close a reset, which the peer cannot take for an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def pending_error(sock: socket.socket) -> int:
    """The errno that waits on the socket (0: none), once."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def open_towards(ip: str) -> socket.socket:
    """A prepared socket of the right family for `ip`, IPv4 or IPv6."""
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    try:
        prepare(sock)
    except OSError:
        sock.close()
        raise
    return sock
