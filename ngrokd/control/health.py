"""The health pages over HTTP: a handful of GETs, each on a connection of its own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Optional

from ngrokd.control import metrics as metrics_page
from ngrokd.control.connections import BACKLOG, Connections, linger, receive
from ngrokd.control.report import HealthReport
from ngrokd.errors import HostError

__all__ = ["HealthReport", "HealthServer"]

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 16 * 1024  # a scraper's request has some hundred; this bounds its memory
REQUEST_S = 5.0  # for all of a request, so that one byte at a time gains nothing
ANSWER_S = 5.0

_EMPTY_LINE = re.compile(rb"\n\r?\n")


@dataclass(frozen=True)
class Page:
    """What one path answers."""

    code: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


class HealthServer:
    """Owner: main thread. `health` and `metrics` are called on a thread for each connection."""

    def __init__(
        self,
        address: str,
        port: int,
        health: Callable[[], HealthReport],
        metrics: Callable[[], str],
    ) -> None:
        self._address = address
        self._port = port
        self._health = health
        self._metrics = metrics
        self._connections = Connections("health", MAX_CONNECTIONS, self._serve, self._refuse_busy)

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
        self._connections.start(listening)

    def stop(self) -> None:
        """Twice is harmless."""
        self._connections.stop()

    # ON A CONNECTION'S THREAD

    def _serve(self, conn: socket.socket) -> None:
        exchange = _Exchange(self._page)
        try:
            answer = exchange.answer(_read_head(conn))
        except TimeoutError:
            answer = exchange.refuse(408, f"no whole request came within {REQUEST_S:g} s")
        conn.settimeout(ANSWER_S)
        conn.sendall(answer)
        linger(conn)

    def _page(self, path: str) -> Page:
        if path in ("/health", "/healthz"):
            healthy = self._health().healthy
            return Page(200, "healthy\n") if healthy else Page(503, "unhealthy\n")
        if path in ("/ready", "/readyz"):
            ready = self._health().ready
            return Page(200, "ready\n") if ready else Page(503, "not ready\n")
        if path == "/status":
            return Page(200, json.dumps(self._health().status) + "\n", "application/json")
        if path == "/metrics":
            return Page(200, self._metrics(), metrics_page.CONTENT_TYPE)
        return Page(404, "there are /health /ready /status /metrics\n")

    # ON THE ACCEPTING THREAD

    def _refuse_busy(self, conn: socket.socket) -> None:
        conn.setblocking(False)
        answer = _Exchange(self._page).refuse(503, "every connection is in use; try again")
        with contextlib.suppress(OSError):  # it is being dropped anyway
            conn.send(answer)


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer, both in memory. Owner: the thread that made it."""

    protocol_version = "HTTP/1.1"
    default_request_version = request_version = ""  # "HTTP/0.9" would be answered without a head
    requestline = command = ""

    def __init__(self, page: Callable[[str], Page]) -> None:
        # Not the base class's: that one reads from a socket, without a bound on the whole request.
        self._page = page
        self.wfile = self._answer = io.BytesIO()

    def answer(self, head: bytes) -> bytes:
        """All that is to be sent, whatever came."""
        if len(head) > MAX_HEAD_BYTES:
            return self.refuse(431, f"a request may have {MAX_HEAD_BYTES} bytes")
        self.rfile = io.BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        try:
            if self.parse_request() and self.request_version:
                self._send(self._wanted())
        except Exception:
            logger.exception("health: %.80a failed", self.requestline)
            return self.refuse(500, "failed; the log of ngrokd has the details")
        return self._answer.getvalue() or self.refuse(400, "that is not an HTTP request")

    def refuse(self, code: int, reason: str) -> bytes:
        """All that is to be sent to a client that gets no page."""
        self._send(Page(code, f"{reason}\n"))
        return self._answer.getvalue()

    def send_error(self, code: int, message: Optional[str] = None, explain: object = None) -> None:
        """Called by `parse_request`. The base class's own answers in HTML and writes to stderr."""
        self.refuse(code, message or HTTPStatus(code).phrase)

    def _wanted(self) -> Page:
        if self.command in ("GET", "HEAD"):
            return self._page(self.path.partition("?")[0])
        return Page(405, "only GET and HEAD\n")

    def _send(self, page: Page) -> None:
        body = page.body.encode("utf-8")
        self.send_response_only(page.code)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if page.code == 405:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _read_head(conn: socket.socket) -> bytes:
    """What comes up to the empty line, the client's end or the bound. Raises TimeoutError."""
    deadline = time.monotonic() + REQUEST_S
    head = b""
    while len(head) <= MAX_HEAD_BYTES and not _EMPTY_LINE.search(head):
        data = receive(conn, deadline)
        if not data:
            break
        head += data
    return head
