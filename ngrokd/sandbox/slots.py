"""The addresses, names and ports that a running sandbox has for itself.

A slot is held by a UDP socket bound to its first address: the kernel gives it back when the
process dies, however it dies, and two network namespaces have slots of their own, just as they
have loopback addresses of their own.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from ngrokd.errors import HostError

LOCK_PORT = 10707  # below the ports that Linux and macOS give to clients
FIRST_NETWORK, LAST_NETWORK = 107, 126  # the second byte of 127.N.0.0/16
FIRST_HEALTH_PORT = 8081


@dataclass(frozen=True)
class Slot:
    """What the sandbox with this number, from 1 on, uses of the machine."""

    number: int

    @property
    def name(self) -> str:
        """Of the daemon's interface and hosts section, and the domain of the samples."""
        return "sandbox" if self.number == 1 else f"sandbox{self.number}"

    @property
    def subnet(self) -> str:
        """The daemon's endpoint addresses."""
        return f"127.{self._network}.0.0/16"

    @property
    def lock_address(self) -> str:
        """The subnet's first address, which no endpoint gets."""
        return f"127.{self._network}.0.1"

    @property
    def health_port(self) -> int:
        """The daemon's."""
        return FIRST_HEALTH_PORT + self.number - 1

    @property
    def _network(self) -> int:
        return FIRST_NETWORK + self.number - 1


SLOTS = tuple(Slot(number) for number in range(1, LAST_NETWORK - FIRST_NETWORK + 2))


@contextlib.contextmanager
def held(port: int = LOCK_PORT) -> Iterator[Slot]:
    """The first free slot is ours while inside. Raises HostError if there is none."""
    # Python's sockets are close-on-exec: no program that we start keeps the slot.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lock:
        yield _take(lock, port)


def _take(lock: socket.socket, port: int) -> Slot:
    for slot in SLOTS:
        try:
            lock.bind((slot.lock_address, port))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                continue
            if exc.errno == errno.EADDRNOTAVAIL:
                # macOS has only 127.0.0.1 until a daemon adds addresses: nothing to hold on to.
                return slot
            raise HostError(
                f"the sandbox cannot hold UDP {slot.lock_address}:{port}: {exc.strerror}"
            ) from exc
        return slot
    raise HostError(
        f"no room for another sandbox: {SLOTS[0].subnet} to {SLOTS[-1].subnet} are taken, each by "
        f"a program on UDP port {port} of its first address; `ss -ulnp sport = :{port}` names "
        "them: end one"
    )
