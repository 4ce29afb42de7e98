"""A TCP port on loopback that can be closed and reopened, with a thread for each connection."""

from __future__ import annotations

import errno
import logging
import queue
import select
import socket
import threading
from collections.abc import Callable
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.sandbox.stopping import StopSignal

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
RETRY_S = 0.2  # after the system had no descriptor left, or the port was taken meanwhile
LOOK_TIMEOUT_S = 5.0
PRUNE_EVERY = 256  # accepted connections between looks for ended threads
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Serve = Callable[[socket.socket, StopSignal], None]


class Listener:
    """Owner: its accepting thread, which owns the listener and joins the connections' threads.

    `serve` runs on the connection's thread and leaves closing to us. While `refusing()` the port
    is closed.
    """

    def __init__(
        self, name: str, port: int, serve: Serve, refusing: Callable[[], bool] = lambda: False
    ) -> None:
        self._name = name
        self._serve = serve
        self._refusing = refusing
        try:
            self._listener: Optional[socket.socket] = _listen(port)
        except OSError as exc:
            raise HostError(
                f"{name} cannot listen on {LOOPBACK}:{port}: {bind_fault(exc)}"
            ) from exc
        self.port: int = self._listener.getsockname()[1]
        self._stopping = StopSignal()
        self._bell, self._ringer = socket.socketpair()
        self._looks: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._connections: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins to accept."""
        self._thread.start()

    def look_again(self) -> None:
        """Any thread: whether the port is to be closed may have changed. Returns once it has."""
        looked = threading.Event()
        self._looks.put(looked)
        self._ringer.send(b"!")
        if not looked.wait(LOOK_TIMEOUT_S):
            logger.warning("%s did not open or close its port in time", self._name)

    def stop(self) -> None:
        """Ends every connection and joins every thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._listener is not None:
            self._listener.close()
        for each in (self._stopping, self._bell, self._ringer):
            each.close()

    def _run(self) -> None:
        timeout_s: Optional[float] = None
        while not self._stopping.wait(0):
            self._wait(timeout_s)
            self._open_or_close()
            timeout_s = RETRY_S if self._listener is None and not self._refusing() else None
            if self._listener is not None and not self._accept(self._listener):
                self._stopping.wait(RETRY_S)
        for thread in self._connections:
            thread.join()

    def _wait(self, timeout_s: Optional[float]) -> None:
        poller = select.poll()
        for watched in (self._stopping, self._bell, self._listener):
            if watched is not None:
                poller.register(watched, select.POLLIN)
        poller.poll(None if timeout_s is None else int(timeout_s * 1000))

    def _open_or_close(self) -> None:
        asked = []
        while not self._looks.empty():
            asked.append(self._looks.get())
            self._bell.recv(1)
        if self._listener is not None and not asked:
            return
        refusing = self._refusing()
        if refusing and self._listener is not None:
            self._listener.close()
            self._listener = None
        elif not refusing and self._listener is None:
            try:
                self._listener = _listen(self.port)
            except OSError as exc:
                logger.warning("%s cannot reopen port %d: %s", self._name, self.port, exc)
        for looked in asked:
            looked.set()

    def _accept(self, listener: socket.socket) -> bool:
        """All who wait; False: the system is out of something, try later."""
        while True:
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return True
            except OSError as exc:
                if exc.errno not in OUT_OF_RESOURCES:
                    raise
                logger.warning("%s cannot accept: %s", self._name, exc.strerror)
                return False
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        if len(self._connections) % PRUNE_EVERY == PRUNE_EVERY - 1:
            self._connections = [each for each in self._connections if each.is_alive()]
        thread = threading.Thread(
            target=self._serve_one, args=(connection,), name=f"{self._name}-connection", daemon=True
        )
        self._connections.append(thread)
        thread.start()

    def _serve_one(self, connection: socket.socket) -> None:
        """On the connection's thread."""
        with connection:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve(connection, self._stopping)


def bind_fault(error: OSError) -> str:
    """Why a port cannot be had, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; choose another port or end that program"
    return f"{error.strerror}; choose another port"


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
