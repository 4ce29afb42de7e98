"""macOS's control socket of utun: an interface that lives as long as the socket is open."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Any, Callable

from ngrokd.errors import HostError
from ngrokd.host.netif import scene
from ngrokd.host.netif.scene import Scene

CONTROL_NAME = "com.apple.net.utun_control"

# <sys/socket.h>, <sys/sys_domain.h>, <sys/kern_control.h>, <net/if_utun.h>. Python has names for
# the first two on macOS alone, and what it does with them hangs on their values.
AF_SYSTEM, SYSPROTO_CONTROL = 32, 2
CTLIOCGINFO = 0xC0644E03  # _IOWR('N', 3, struct ctl_info)
UTUN_OPT_IFNAME = 2
CTL_INFO = struct.Struct("=I96s")  # struct ctl_info: the id that goes with a name
_NAME_BYTES = 32  # IFXNAMSIZ is 24

_NOT_PERMITTED = frozenset((errno.EPERM, errno.EACCES))


@dataclass(frozen=True)
class UtunSocket:
    """The interface `name` is there until `sock` is closed, also by the end of this process."""

    name: str
    sock: socket.socket


def open_utun(
    number: int,
    new_socket: Callable[[int, int, int], socket.socket] = socket.socket,
    ioctl: Callable[[Any, int, bytes], Any] = fcntl.ioctl,
) -> UtunSocket:
    """Makes `utun<number>`; -1: the first that is free. HostError says why not, and the mend."""
    try:
        sock = new_socket(AF_SYSTEM, socket.SOCK_DGRAM, SYSPROTO_CONTROL)
    except OSError as exc:
        raise _refused(number, exc) from exc
    try:
        answer = ioctl(sock, CTLIOCGINFO, CTL_INFO.pack(0, CONTROL_NAME.encode()))
        control_id, _ = CTL_INFO.unpack(answer)
        # Units count from 1; with 0 the kernel takes the first that is free.
        sock.connect((control_id, number + 1))
        name = sock.getsockopt(SYSPROTO_CONTROL, UTUN_OPT_IFNAME, _NAME_BYTES)
    except OSError as exc:
        sock.close()
        raise _refused(number, exc) from exc
    return UtunSocket(name.partition(b"\0")[0].decode("ascii", "replace"), sock)


def expected_name(interface_name: str, seen: Scene) -> str:
    """What `open_utun` would make for this `net.interface_name`."""
    if interface_name != "utun":
        return interface_name
    taken = set(seen.links.values())
    return next(name for name in map("utun{}".format, range(len(taken) + 1)) if name not in taken)


def refuse_conflict(seen: Scene, network: ipaddress.IPv4Network, own: str = "") -> str:
    """Who else uses a part of the subnet, with the mend; "": nobody. `own`: our interface."""
    conflict = scene.conflict(seen, own, network)
    return (
        f"{network} is in use on this machine: {conflict}. "
        "Mend: set net.subnet to a range that is free here"
        if conflict
        else ""
    )


def _refused(number: int, exc: OSError) -> HostError:
    name = "a utun interface" if number < 0 else f"utun{number}"
    if exc.errno == errno.EBUSY:
        mend = "net.interface_name: utun takes the first that is free"
        return HostError(f"{name} is another program's: {exc.strerror}. Mend: {mend}")
    if exc.errno in _NOT_PERMITTED:
        mend = "run ngrokd as root, with sudo"
        return HostError(f"{name} cannot be made: {str(exc.strerror).lower()}. Mend: {mend}")
    return HostError(
        f"{name} cannot be made: {exc.strerror}. Mend: another net.interface_name than utun serves "
        "without one, by loopback aliases"
    )
