"""How many connections are in service at once, and which one ends where another waits."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterable
from dataclasses import dataclass

HURRY_S = 0.1  # after so long in service a request has come, or its place is another's


@dataclass(frozen=True)
class Room:
    """How many connections are in service at once, and when one may be cut to make a place."""

    places: int
    cut_s: float = math.inf  # seconds in service; an answer that is on its way is lost then


@dataclass
class InService:
    """One connection. Owner: the accepting thread."""

    conn: socket.socket
    since: float  # monotonic
    hurried: bool = False  # nothing more is read from it

    def hurry(self) -> None:
        """Ends its reading; what is being answered still gets its answer."""
        self.hurried = True
        self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """Ends it."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended by itself
            self.conn.shutdown(how)


def make_a_place(oldest_first: Iterable[InService], room: Room, now: float) -> None:
    """Cuts what has outstayed, and hurries the oldest one that is not yet."""
    hurried = False
    for each in oldest_first:
        age = now - each.since
        if age >= room.cut_s:
            each.cut()
        elif not hurried and not each.hurried and age >= HURRY_S:
            each.hurry()
            hurried = True
