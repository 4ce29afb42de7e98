"""Writes what happens to one client until it leaves, on that connection's thread."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Optional

from ngrokd.control.feed import Subscription

LAST_LINE_S = 1.0  # for a client to take what there is when the daemon stops
BELL_BYTES = 4096

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


def follow(conn: socket.socket, subscription: Subscription) -> None:
    """Returns when the client has left or nothing more comes. Raises OSError if it is gone.

    A client that ends only its own side, as `nc -N` does, goes on reading. What it still sends is
    not read: the kernel holds some of it, and then holds the client.
    """
    conn.setblocking(False)
    poll = select.poll()
    poll.register(subscription.bell, select.POLLIN)
    poll.register(conn, 0)  # a hang-up comes unasked
    unsent = b""
    until: Optional[float] = None
    while True:
        ended = subscription.ended  # asked first: what `take` finds then is all there is
        unsent = unsent or subscription.take()
        if unsent:
            unsent = _send(conn, unsent)
            if not unsent:
                continue
        elif ended:
            return
        if ended and until is None:
            until = time.monotonic() + LAST_LINE_S
        poll.modify(conn, select.POLLOUT if unsent else 0)
        if not _wait(poll, until):
            return
        with contextlib.suppress(BlockingIOError):
            subscription.bell.recv(BELL_BYTES)


def _send(conn: socket.socket, line: bytes) -> bytes:
    """What is left of it, because the client takes no more now."""
    try:
        return line[conn.send(line) :]
    except BlockingIOError:
        return line


def _wait(poll: select.poll, until: Optional[float]) -> bool:
    """False: the client has left, or the time is over."""
    left = None if until is None else max(0.0, until - time.monotonic()) * 1000
    ready = poll.poll(left)
    return bool(ready) and not any(seen & _GONE for _, seen in ready)
