"""Reads the daemon's events over its control socket as they come."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import time
from collections.abc import Iterator
from typing import Optional

from ngrokd.control.answers import mapping
from ngrokd.control.client import READ_BYTES, answered, connect
from ngrokd.control.events import STOPPED
from ngrokd.control.protocol import encode_request, parse_event
from ngrokd.errors import DaemonUnreachable, ProtocolError, TimedOut

BEGIN_S = 10.0  # for the daemon to begin
MAX_LINE_BYTES = 1024 * 1024  # an event has some hundred

_GONE = select.POLLHUP | select.POLLERR


def events(
    socket_path: str, output: Optional[int] = None, bell: Optional[int] = None
) -> Iterator[dict[str, object]]:
    """Each event; ends after the last one of a daemon that stops.

    `output`: the descriptor they are written to, so that its reader's leaving is seen without
    another event; that raises BrokenPipeError. `bell`: a descriptor that is readable once a signal
    has come; that raises KeyboardInterrupt. Raises DaemonUnreachable where the daemon ends without
    a word, and what `client.request` raises.
    """
    with connect(socket_path, BEGIN_S) as conn:
        lines = _lines(conn, socket_path, output, bell)
        try:
            conn.settimeout(BEGIN_S)
            with contextlib.suppress(BrokenPipeError):  # refused unread: the reason can be read
                conn.sendall(encode_request("events", []))
            yield mapping(answered(next(lines), socket_path))
            for line in lines:
                event = parse_event(line)
                yield event
                if event["event"] == STOPPED:
                    return
        except ConnectionResetError as exc:
            raise _ended(socket_path) from exc


def _lines(
    conn: socket.socket, socket_path: str, output: Optional[int], bell: Optional[int]
) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(conn, select.POLLIN)
    if bell is not None:
        poll.register(bell, select.POLLIN)
    if output is not None and _tells_its_end(output):
        poll.register(output, 0)  # its end comes unasked
    deadline: Optional[float] = time.monotonic() + BEGIN_S
    buffer = bytearray()
    while True:
        if bell in _wait(poll, output, deadline, socket_path):
            raise KeyboardInterrupt
        data = conn.recv(READ_BYTES)
        if not data:
            raise _ended(socket_path)
        buffer += data
        *lines, rest = buffer.split(b"\n")
        buffer = rest
        if len(buffer) > MAX_LINE_BYTES:
            raise ProtocolError("an event is too large")
        for line in lines:
            deadline = None  # it has begun: the next event may take days
            yield bytes(line)


def _wait(
    poll: select.poll, output: Optional[int], deadline: Optional[float], socket_path: str
) -> list[int]:
    """Until there is something to read; the descriptors."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    ready = poll.poll(left)
    if not ready:
        raise TimedOut(f"the daemon on {socket_path} did not answer within {BEGIN_S:g} s")
    if any(found == output and seen & _GONE for found, seen in ready):
        raise BrokenPipeError
    return [found for found, _ in ready]


def _tells_its_end(descriptor: int) -> bool:
    """A pipe or a socket; a file has no reader."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _ended(socket_path: str) -> DaemonUnreachable:
    return DaemonUnreachable(f"the daemon on {socket_path} ended without a word")
