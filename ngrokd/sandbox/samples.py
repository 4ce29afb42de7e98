"""The sandbox's own upstreams: hello, files, echo."""

from __future__ import annotations

import functools
import http.server
import logging
import select
import socket
from http import HTTPStatus
from pathlib import Path

from ngrokd.sandbox.endpoints import EndpointSpec, Upstream
from ngrokd.sandbox.httpserver import BodyError, LoopbackHandler, LoopbackServer
from ngrokd.sandbox.link import LinkEnded, wait_for
from ngrokd.sandbox.listener import LOOPBACK, Listener
from ngrokd.sandbox.messages import Reply
from ngrokd.sandbox.stopping import StopSignal
from ngrokd.sandbox.store import make_folder, write_file

logger = logging.getLogger(__name__)

ECHO_BYTES = 64 << 10
SAMPLE_FILE_BYTES = 16 << 20  # zeros, a sparse file
WELCOME = (
    "This folder is served by the ngrokd sandbox's endpoint `files`.\n"
    "Put files into it to download them through the tunnel; zeros-16M.bin is there to time one.\n"
)


class Samples:
    """Owner: who starts it; each server has threads of its own."""

    def __init__(self, files: Path) -> None:
        _furnish(files)
        handler = functools.partial(_FilesHandler, directory=str(files))
        self._hello = LoopbackServer(_HelloHandler, 0, "sandbox-hello")
        self._files = LoopbackServer(handler, 0, "sandbox-files")
        self._echo = Listener("sandbox-echo", 0, _echo)
        self._servers = (self._hello, self._files, self._echo)

    def start(self) -> None:
        """Begins to answer."""
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        """Ends every connection and joins every thread."""
        for server in self._servers:
            server.stop()

    def endpoints(self, domain: str) -> tuple[EndpointSpec, ...]:
        """What the sandbox lists for them."""
        places = (
            (f"http://hello.{domain}", self._hello),
            (f"http://files.{domain}:8000", self._files),
            (f"tcp://echo.{domain}:7000", self._echo),
        )
        return tuple(EndpointSpec(url, Upstream(LOOPBACK, server.port)) for url, server in places)


class _HelloHandler(LoopbackHandler):
    """Says hello and shows the request. Owner: the connection's thread."""

    def _hello(self) -> None:
        try:
            body = self.read_body()
        except BodyError as exc:
            self.write_reply(Reply(HTTPStatus.BAD_REQUEST, f"{exc}\n".encode(), "text/plain"))
            return
        lines = [
            "Hello from the ngrokd sandbox! This is your request:",
            "",
            f"{self.command} {self.path} {self.request_version}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            "",
        ]
        text = "\n".join(lines).encode("utf-8", "replace")
        self.write_reply(Reply(HTTPStatus.OK, text + body, "text/plain; charset=utf-8"))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _hello


class _FilesHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder. Owner: the connection's thread."""

    protocol_version = "HTTP/1.1"
    timeout = LoopbackHandler.timeout
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """To our own log instead of standard error."""
        logger.debug("sandbox-files: " + format, *args)


def _echo(client: socket.socket, stopping: StopSignal) -> None:
    """Gives back what comes, to its end; reads no faster than it is read."""
    try:
        while True:
            wait_for(client, select.POLLIN, None, stopping)
            view = memoryview(client.recv(ECHO_BYTES))
            if not len(view):
                return
            while len(view):
                wait_for(client, select.POLLOUT, None, stopping)
                view = view[client.send(view) :]
    except (LinkEnded, OSError) as exc:
        logger.debug("sandbox-echo: %s", exc)


def _furnish(folder: Path) -> None:
    """What is there already stays."""
    make_folder(folder)
    welcome, zeros = folder / "welcome.txt", folder / "zeros-16M.bin"
    if not welcome.exists():
        write_file(welcome, WELCOME.encode(), 0o644)
    if not zeros.exists():
        write_file(zeros, b"", 0o644)
        with zeros.open("r+b") as file:
            file.truncate(SAMPLE_FILE_BYTES)
