"""A socket of AF_SYSTEM that utuns are made with, on a system that has no such thing."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any, Protocol

from tests.macos.kernel import Refused

CONTROL_ID = 3  # any: it is asked for by name
ERRNOS = {
    "Operation not permitted": errno.EPERM,
    "Resource busy": errno.EBUSY,
    "No such file or directory": errno.ENOENT,
}
CTL_INFO = struct.Struct("=I96s")


class Utuns(Protocol):
    """Where they are made."""

    def connect_utun(self, unit: int) -> tuple[str, socket.socket]: ...
    def close_utun(self, name: str) -> None: ...


class ControlSocket:
    """What `utunsocket` and `reflector` use of a socket."""

    def __init__(self, mac: Utuns, family: int, kind: int, protocol: int) -> None:
        assert (family, kind, protocol) == (32, socket.SOCK_DGRAM, 2), "<sys/sys_domain.h>"
        self._mac = mac
        self._name = ""
        self._wire, unused = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        unused.close()

    def connect(self, address: tuple[int, int]) -> None:
        """(id, unit)."""
        control_id, unit = address
        assert control_id == CONTROL_ID
        try:
            name, wire = self._mac.connect_utun(unit)
        except Refused as exc:
            raise OSError(ERRNOS[str(exc)], str(exc)) from exc
        self._wire.close()
        self._name, self._wire = name, wire

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        """UTUN_OPT_IFNAME."""
        assert (level, option) == (2, 2) and length > len(self._name)
        return self._name.encode() + b"\0"

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._wire.setblocking(flag)

    def fileno(self) -> int:
        """As of a socket."""
        return self._wire.fileno()

    def recv(self, length: int) -> bytes:
        """A packet of the kernel's."""
        return self._wire.recv(length)

    def send(self, packet: bytes) -> int:
        """A packet for the kernel."""
        return self._wire.send(packet)

    def close(self) -> None:
        """With it the interface goes."""
        self._wire.close()
        if self._name:
            self._mac.close_utun(self._name)
            self._name = ""


def ioctl(sock: Any, request: int, argument: bytes) -> bytes:
    """CTLIOCGINFO."""
    assert request == 0xC0644E03
    number, name = CTL_INFO.unpack(argument)
    assert number == 0 and name.rstrip(b"\0") == b"com.apple.net.utun_control"
    return CTL_INFO.pack(CONTROL_ID, name)
