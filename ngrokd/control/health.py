"""The health pages over HTTP: a handful of GETs, each on a connection of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from ngrokd.control import metrics as metrics_page
from ngrokd.control.connections import BACKLOG, Connections, linger, receive
from ngrokd.control.report import HealthReport
from ngrokd.errors import HostError

__all__ = ["HealthReport", "HealthServer"]

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 16 * 1024  # a scraper's request has some hundred; this bounds its memory
REQUEST_S = 5.0
ANSWER_S = 5.0

PLAIN = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Page:
    """What one path answers."""

    code: int
    body: str
    content_type: str = PLAIN


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
        self._connections = Connections("health", MAX_CONNECTIONS, self._serve, _refuse_busy)

    @property
    def port(self) -> int:
        """The port in use: where 0 was asked for, the one the kernel gave."""
        return self._port

    def start(self) -> None:
        """Raises HostError if the address and port cannot be had."""
        listening = _listen(self._address, self._port)
        self._port = listening.getsockname()[1]
        self._connections.start(listening)

    def stop(self) -> None:
        """Twice is harmless."""
        self._connections.stop()

    # ON A CONNECTION'S THREAD

    def _serve(self, conn: socket.socket) -> None:
        try:
            head = _read_head(conn)
        except TimeoutError:
            _send(conn, Page(408, f"no whole request came within {REQUEST_S:g} s\n"))
        else:
            method, page = self._answer(head)
            _send(conn, page, with_body=method != "HEAD")
        linger(conn)

    def _answer(self, head: Optional[bytes]) -> tuple[str, Page]:
        """The method and the page. None: the head was too large."""
        if head is None:
            return "", Page(431, f"a request may have {MAX_HEAD_BYTES} bytes\n")
        words = head.split(b"\r\n", 1)[0].split(b"\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            return "", Page(400, "that is not an HTTP request\n")
        method = words[0]
        if method not in ("GET", "HEAD"):
            return method, Page(405, "only GET and HEAD\n")
        try:
            return method, self._page(words[1].partition("?")[0])
        except Exception:
            logger.exception("health: %s failed", words[1][:80])
            return method, Page(500, "failed; the log of ngrokd has the details\n")

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


def _read_head(conn: socket.socket) -> Optional[bytes]:
    """Everything up to the empty line, or what came before the client's end; None: too large."""
    deadline = time.monotonic() + REQUEST_S
    head = bytearray()
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        data = receive(conn, deadline)
        if not data:
            break
        head += data
        if len(head) > MAX_HEAD_BYTES:
            return None
    return bytes(head)


def _send(conn: socket.socket, page: Page, with_body: bool = True) -> None:
    conn.settimeout(ANSWER_S)
    conn.sendall(_encode(page, with_body))


def _encode(page: Page, with_body: bool = True) -> bytes:
    body = page.body.encode("utf-8")
    lines = [
        f"HTTP/1.1 {page.code} {_REASONS[page.code]}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if page.code == 405:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("ascii") + (body if with_body else b"")


def _refuse_busy(conn: socket.socket) -> None:
    conn.setblocking(False)
    with contextlib.suppress(OSError):  # it is being dropped anyway
        conn.send(_encode(Page(503, f"{MAX_CONNECTIONS} connections are in use; try again\n")))


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
    except OSError as exc:
        raise _cannot_listen(address, port, exc) from exc
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        raise _cannot_listen(address, port, exc) from exc
    return listening


def _cannot_listen(address: str, port: int, exc: OSError) -> HostError:
    reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc.strerror or exc)
    return HostError(
        f"health pages on {address}:{port}: {reason}; "
        "set server.health_address and server.health_port to what is free (health_port 0: no pages)"
    )
