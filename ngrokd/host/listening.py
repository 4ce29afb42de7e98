"""Listening on one address and port, and saying who or what is in the way."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path

from ngrokd.errors import BindError, PortForbidden
from ngrokd.host import lowports
from ngrokd.host.holders import Holders
from ngrokd.host.lowports import Start
from ngrokd.model import Address

# As many as the kernel allows (net.core.somaxconn): a client for whom it has no room in a burst
# believes to be connected, waits for a minute, and is reset then.
BACKLOG = 65535

_UNPRIVILEGED_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

_DESCRIPTOR_LIMIT = frozenset((errno.EMFILE, errno.ENFILE))


def listen(
    address: Address, holders: Holders, how_started: Callable[[], Start] = lowports.how_started
) -> socket.socket:
    """A bound, listening, non-blocking socket. Raises BindError or PortForbidden.

    `how_started` is asked where a low port is refused, to say what would allow it.
    """
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise _explained(address, exc, holders, how_started) from exc
    try:
        # A port whose last connections are still in TIME_WAIT must not stop a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind((address.ip, address.port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise _explained(address, exc, holders, how_started) from exc
    return listener


def _explained(
    address: Address, exc: OSError, holders: Holders, how_started: Callable[[], Start]
) -> BindError:
    what = f"{address} cannot be listened on"
    if exc.errno == errno.EADDRINUSE:
        holder = holders.of(address)
        if not holder:
            return BindError(
                f"{what}: another program has the port, though none is seen to listen there, or "
                "a connection to it is not quite over. Mend: stop the program that "
                f"`ss -tanp sport = :{address.port}` names"
            )
        if f"(pid {os.getpid()})" in holder:
            return BindError(
                f"{what}: ngrokd itself listens there. Mend: another server.health_address or "
                "server.health_port"
            )
        return BindError(
            f"{what}: {holder} listens there; stop it, or have it listen on an address of its own: "
            "until then clients of this port reach that program"
        )
    if exc.errno == errno.EADDRNOTAVAIL:
        mend = (
            "an endpoint's own address is added again at the next poll; one of "
            "net.listen_interface must be among those of `ip addr`"
        )
        if ipaddress.ip_address(address.ip).is_loopback:
            mend = (
                "an endpoint's own address is added again at the next poll; where none of "
                "127.0.0.0/8 is there: ip link set lo up"
            )
        return BindError(f"{what}: this machine does not have {address.ip}. Mend: {mend}")
    if exc.errno == errno.EACCES and address.port < first_free_port():
        start = how_started()
        mend = lowports.mend(address.port, start)
        if start.permitted:  # so it is about this port, and says nothing of the other low ones
            return BindError(f"{what}: a security policy refuses it. Mend: {mend}")
        return PortForbidden(
            f"{what}: ports below {first_free_port()} need root. Mend: {mend}"
        )
    if exc.errno in _DESCRIPTOR_LIMIT:
        return BindError(
            f"{what}: descriptor limit. Mend: raise LimitNOFILE of the service, or `ulimit -n`"
        )
    return BindError(f"{what}: {exc.strerror}")


def first_free_port() -> int:
    """From which port on no right is needed; 1024 but where the administrator says otherwise."""
    try:
        return int(_UNPRIVILEGED_START.read_text())
    except (OSError, ValueError):
        return 1024
