"""The health pages over HTTP: a handful of GETs, each on a connection of its own.

Theory of operation. What restarts a process that does not answer asks `/health`, often with one
second of patience. `/status` and `/metrics` have lines for each endpoint and can take longer, so
they wait for each other only: at a desk of their own, and in no more than half of the places.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from ngrokd.control import jsontext
from ngrokd.control import metrics as metrics_page
from ngrokd.control.connections import BACKLOG, Connections
from ngrokd.control.desk import Desk
from ngrokd.control.page import MAX_HEAD_BYTES, Page
from ngrokd.control.report import Verdict
from ngrokd.control.room import Room
from ngrokd.control.visit import Phase, Visit
from ngrokd.errors import HostError

if TYPE_CHECKING:
    from ngrokd.control.exchange import Exchange

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
LONG_AT_ONCE = 16  # half of the places: what asks whether the daemon lives always finds one
SHORT_PART = 0.1  # of the time, at most, for a crowd that asks for short pages
TAKING_S = 1.0  # where others wait for a place: for a client to take its answer
REQUEST_S = 5.0  # for all of a request, so that one byte at a time gains nothing
ANSWER_S = 5.0

_EMPTY_LINE = re.compile(rb"\n\r?\n")


@dataclass(frozen=True)
class Told:
    """What the pages say. Each is called on the thread of a connection."""

    verdict: Callable[[], Verdict]  # at once: it must not wait for a thread that it is about
    status: Callable[[], Mapping[str, object]]
    metrics: Callable[[], str]


class HealthServer:
    """Owner: main thread."""

    def __init__(self, address: str, port: int, told: Told) -> None:
        self._address = address
        self._port = port
        self._told = told
        self._desk = Desk("health", SHORT_PART)
        self._long_desk = Desk("health-long")
        self._long_places: queue.SimpleQueue[None] = queue.SimpleQueue()  # an entry for each permit
        for _ in range(LONG_AT_ONCE):
            self._long_places.put(None)
        self._connections = Connections(
            "health", Room(MAX_CONNECTIONS, TAKING_S), self._serve, self._refuse_busy
        )

    @property
    def port(self) -> int:
        """The port in use: where 0 was asked for, the one the kernel gave."""
        return self._port

    def start(self) -> None:
        """Raises HostError if the address and port cannot be had."""
        try:
            listening = socket.create_server((self._address, self._port), backlog=BACKLOG)
        except OSError as exc:
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
            raise HostError(
                f"health pages on {self._address}:{self._port}: {reason}; set server.health_address"
                " and server.health_port to what is free (health_port 0: no pages)"
            ) from exc
        self._port = listening.getsockname()[1]
        self._desk.start()
        self._long_desk.start()
        self._connections.start(listening)

    def stop(self) -> None:
        """Twice is harmless."""
        self._connections.stop()
        self._desk.stop()
        self._long_desk.stop()

    # ON A CONNECTION'S THREAD

    def _serve(self, visit: Visit) -> None:
        exchange = self._exchange()
        try:
            head = _read_head(visit)
            visit.now(Phase.SERVED)
            answer = self._desk.ask(lambda: exchange.answer(head))
        except TimeoutError:
            answer = exchange.refuse(408, f"no whole request came within {REQUEST_S:g} s")
        if answer:
            visit.send(answer, ANSWER_S)
        else:
            self._serve_long(visit, exchange)
        visit.linger()

    def _serve_long(self, visit: Visit, exchange: Exchange) -> None:
        """Its place is taken until the client has the page, however slowly that is read."""
        try:
            self._long_places.get_nowait()
        except queue.Empty:
            reason = f"{LONG_AT_ONCE} clients are given such pages now; try again"
            visit.send(exchange.refuse(503, reason), ANSWER_S)
            return
        try:
            page = self._long_desk.ask(lambda: exchange.answer_later(self._long_page))
            visit.send(page, ANSWER_S)
        finally:
            self._long_places.put(None)

    def _exchange(self) -> Exchange:
        from ngrokd.control import exchange  # see there

        return exchange.Exchange(self._page)

    # AT A DESK

    def _page(self, path: str) -> Optional[Page]:
        """None: a long one."""
        if path in ("/health", "/healthz"):
            healthy = self._told.verdict().healthy
            return Page(200, "healthy\n") if healthy else Page(503, "unhealthy\n")
        if path in ("/ready", "/readyz"):
            ready = self._told.verdict().ready
            return Page(200, "ready\n") if ready else Page(503, "not ready\n")
        if path in ("/status", "/metrics"):
            return None
        return Page(404, "there are /health /ready /status /metrics\n")

    def _long_page(self, path: str) -> Page:
        return self._long_desk.shared(path, self._status if path == "/status" else self._metrics)

    def _status(self) -> Page:
        return Page(200, jsontext.text(self._told.status()) + "\n", "application/json")

    def _metrics(self) -> Page:
        return Page(200, self._told.metrics(), metrics_page.CONTENT_TYPE)

    # ON THE CONNECTION'S OR THE ACCEPTING THREAD

    def _refuse_busy(self, visit: Visit) -> None:
        visit.conn.setblocking(False)
        answer = self._exchange().refuse(503, "every connection is in use; try again")
        with contextlib.suppress(OSError):  # it is being dropped anyway
            visit.conn.send(answer)


def _read_head(visit: Visit) -> bytes:
    """What comes up to the empty line, the client's end or the bound.

    Raises TimeoutError and Dismissed.
    """
    deadline = time.monotonic() + REQUEST_S
    head = b""
    while len(head) <= MAX_HEAD_BYTES:
        data = visit.receive(deadline)
        seen = max(0, len(head) - 2)  # an empty line may have begun there
        head += data
        if not data or _EMPTY_LINE.search(head, seen):
            break
    return head
