"""The part of 127.0.0.0/8 that serves in place of a subnet: one for each instance of a machine.

Each interface name has a range of its own, the same at each start. Two names may yet have the same
one, and the first sandbox has that of the default name: so a range in use is held by a UDP socket
on its first address, as the sandbox holds its own, and where it is another's the next one serves.
The kernel gives it back when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import NetSettings

logger = logging.getLogger(__name__)

CLAIM_PORT = 10707  # that of ngrokd/sandbox/slots.py
# Of the default name, and the second bytes of the others'. Those between are the sandboxes'.
DEFAULT_RANGE = "127.107.0.0/16"
FIRST, LAST = 128, 253


@dataclass(frozen=True)
class Range:
    """A subnet, and what keeps others from it; None: it could not be held."""

    subnet: str
    claim: Optional[socket.socket] = None

    def release(self) -> None:
        """Twice is harmless."""
        if self.claim is not None:
            self.claim.close()


def first_of(name: str) -> str:
    """That of an instance with an interface of this name, if no other has it."""
    return next(_ranges(name))


def take(name: str) -> Range:
    """The first that nobody has; the first of all where none can be held."""
    for subnet in _ranges(name):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((f"{subnet.rpartition('.')[0]}.1", CLAIM_PORT))
        except OSError as exc:
            claim.close()
            if exc.errno == errno.EADDRINUSE:
                logger.info("%s is another ngrokd's or sandbox's", subnet)
                continue
            # `lo` is down, or a macOS that has 127.0.0.1 alone: nothing to hold on to.
            logger.debug("%s cannot be held: %s", subnet, exc.strerror)
            break
        return Range(subnet, claim)
    return Range(first_of(name))


def _ranges(name: str) -> Iterator[str]:
    if name == NetSettings.interface_name:
        yield DEFAULT_RANGE
    count = LAST - FIRST + 1
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for number in range(count):
        yield f"127.{FIRST + (start + number) % count}.0.0/16"
