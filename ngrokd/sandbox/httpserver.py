"""An HTTP server on loopback that can be stopped at once."""

from __future__ import annotations

import http.server
import logging
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Optional

from ngrokd.errors import HostError
from ngrokd.sandbox.listener import LOOPBACK, bind_fault
from ngrokd.sandbox.messages import Reply, json_reply
from ngrokd.sandbox.stopping import StopSignal

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT_S = 30  # of a client that sends nothing or reads nothing
MAX_BODY_BYTES = 8 << 20
LENGTH = re.compile(r"[0-9]{1,10}")
BACKLOG = 128
ACCEPT_TURN_S = 0.05  # how long stop() may wait for the accepting thread


Handler = Callable[[Any, Any, Any], http.server.BaseHTTPRequestHandler]


class BodyError(Exception):
    """The request's body cannot be read. Handler: answer 400 and close."""


class LoopbackServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Owner: its accepting thread; each connection has a thread of its own, joined by `stop`."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = BACKLOG
    allow_reuse_address = True

    def __init__(self, handler: Handler, port: int, name: str) -> None:
        self._name = name
        # Written by the accepting thread and the connections' own, one dict operation each, which
        # is atomic; read once more only after the accepting thread has ended.
        self._open: dict[int, socket.socket] = {}
        self.stopping = StopSignal()
        try:
            super().__init__((LOOPBACK, port), handler)
        except OSError as exc:
            self.stopping.close()
            fault = bind_fault(exc)
            raise HostError(f"{name} cannot listen on {LOOPBACK}:{port}: {fault}") from exc
        self._thread = threading.Thread(
            target=self.serve_forever, args=(ACCEPT_TURN_S,), name=name, daemon=True
        )

    @property
    def port(self) -> int:
        """The one it listens on."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """As the base class, but without its DNS look-up of our own name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.port

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection and joins every thread."""
        self.stopping.set()
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        for connection in list(self._open.values()):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("%s: a connection had ended already", self._name)
        self.server_close()
        self.stopping.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers the connection for `stop`."""
        self._open[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets the connection."""
        self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing; anything else is a bug and leaves its trace."""
        error = sys.exc_info()[1]
        if isinstance(error, (ConnectionError, socket.timeout)):
            logger.debug("%s: %s went away: %s", self._name, client_address, error)
        else:
            logger.error("%s: request of %s failed", self._name, client_address, exc_info=error)


class LoopbackHandler(http.server.BaseHTTPRequestHandler):
    """What all handlers of the sandbox share. Owner: the connection's thread."""

    protocol_version = "HTTP/1.1"
    timeout = CLIENT_TIMEOUT_S
    disable_nagle_algorithm = True

    def version_string(self) -> str:
        """The Server header; the interpreter's version is nobody's business."""
        return "ngrokd-sandbox"

    def read_body(self) -> bytes:
        """The request's whole body; `BodyError` if its length is unknown, too large or a lie."""
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise BodyError("a body needs a Content-Length; chunked bodies are not supported here")
        given = self.headers.get("Content-Length", "0")
        if not LENGTH.fullmatch(given) or int(given) > MAX_BODY_BYTES:
            self.close_connection = True
            raise BodyError(f"Content-Length {given!r} is not a number up to {MAX_BODY_BYTES}")
        body = self.rfile.read(int(given))
        if len(body) < int(given):
            self.close_connection = True
            raise BodyError(f"the body ended after {len(body)} of {given} bytes")
        return body

    def write_reply(self, reply: Reply, cut_at: int = -1) -> None:
        """The whole reply, or its first bytes under the length of the whole."""
        if cut_at >= 0:
            self.close_connection = True
        self.write_head(reply, str(len(reply.content)))
        if self.command != "HEAD":
            self.wfile.write(reply.content if cut_at < 0 else reply.content[:cut_at])

    def write_head(self, reply: Reply, length: str) -> None:
        """`length` "": the content ends with the connection, if ever."""
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Type", reply.content_type)
            if length:
                self.send_header("Content-Length", length)
        if self.close_connection or not length:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(
        self, code: int, message: Optional[str] = None, explain: Optional[str] = None
    ) -> None:
        """What the HTTP parser itself refuses, as JSON like everything else."""
        self.close_connection = True
        text = message or HTTPStatus(code).phrase
        self.command = getattr(self, "command", None) or "GET"
        self.write_reply(json_reply(code, {"status_code": code, "msg": text, "details": {}}))

    def log_message(self, format: str, *args: Any) -> None:
        """To our own log instead of standard error."""
        logger.debug("sandbox: " + format, *args)
