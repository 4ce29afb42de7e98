"""Reads the requests of one connection within their time and size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

from ngrokd.control.protocol import TIMEOUT, RequestReader
from ngrokd.control.visit import Dismissed, Phase, Visit
from ngrokd.errors import ControlError

REQUEST_S = 5.0  # for a whole request to come
BRIEF_REQUEST_S = 1.0  # where all others wait meanwhile
# Plain `nc -U` does not end its side when its input ends; it returns once the daemon ends the
# connection. A client that sends several requests has the next one on the way by then.
NEXT_REQUEST_S = 0.5


def requests(visit: Visit) -> Iterator[bytes]:
    """Each line, blank ones too, until the client ends or falls silent after an answer.

    Blank lines gain no time: the next request must begin as soon as if they had not come.
    Raises ControlError `timeout` or `too_large`, after which the connection must be closed,
    Dismissed within a request, and OSError if the client is gone.
    """
    reader = RequestReader()
    patience = BRIEF_REQUEST_S if visit.brief else REQUEST_S
    limit = time.monotonic() + patience
    line = _next_line(visit, reader, limit, begun=True)
    while line is not None:
        visit.now(Phase.SERVED)
        yield line
        visit.now(Phase.AWAITED)
        now = time.monotonic()
        if line.strip():
            limit = now + patience
        elif now >= limit:
            return
        line = _next_line(visit, reader, min(limit, now + NEXT_REQUEST_S), begun=False)


def _next_line(
    visit: Visit, reader: RequestReader, deadline: float, begun: bool
) -> Optional[bytes]:
    """None at the client's end, or if nothing came in time and nothing has `begun`."""
    while True:
        line = reader.next_line()
        if line is not None or reader.ended:
            return line
        if reader.holds_data and not begun:
            begun = True
            deadline = time.monotonic() + (BRIEF_REQUEST_S if visit.brief else REQUEST_S)
        try:
            reader.receive_data(visit.receive(deadline))
        except TimeoutError as exc:
            if not begun:
                return None
            raise ControlError(TIMEOUT, f"no whole request came within {REQUEST_S:g} s") from exc
        except Dismissed:
            if not begun:
                return None  # it has its answer
            raise
