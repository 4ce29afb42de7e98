"""Reads the requests of one connection within their time and size."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Optional

from ngrokd.control.connections import receive
from ngrokd.control.protocol import TIMEOUT, RequestReader
from ngrokd.errors import ControlError

REQUEST_S = 5.0  # for a whole request to come
# Plain `nc -U` does not end its side when its input ends; it returns once the daemon ends the
# connection. A client that sends several requests has the next one on the way by then.
NEXT_REQUEST_S = 0.5


def requests(conn: socket.socket) -> Iterator[bytes]:
    """Each line, blank ones too, until the client ends or falls silent after an answer.

    Blank lines gain no time: the next request must begin as soon as if they had not come.
    Raises ControlError `timeout` or `too_large`, after which the connection must be closed, and
    OSError if the client is gone.
    """
    reader = RequestReader()
    limit = time.monotonic() + REQUEST_S
    line = _next_line(conn, reader, limit, begun=True)
    while line is not None:
        yield line
        now = time.monotonic()
        if line.strip():
            limit = now + REQUEST_S
        elif now >= limit:
            return
        line = _next_line(conn, reader, min(limit, now + NEXT_REQUEST_S), begun=False)


def _next_line(
    conn: socket.socket, reader: RequestReader, deadline: float, begun: bool
) -> Optional[bytes]:
    """None at the client's end, or if nothing came by `deadline` and nothing has `begun`."""
    while True:
        line = reader.next_line()
        if line is not None or reader.ended:
            return line
        if reader.holds_data and not begun:
            begun = True
            deadline = time.monotonic() + REQUEST_S
        try:
            reader.receive_data(receive(conn, deadline))
        except TimeoutError as exc:
            if not begun:
                return None
            raise ControlError(TIMEOUT, f"no whole request came within {REQUEST_S:g} s") from exc
