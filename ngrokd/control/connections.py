"""Serves a bounded number of connections at once, each on a thread of its own.

Both servers of this room stand on it. Connections over the bound wait in the kernel's backlog, then
here for a little, and are then told that the daemon is busy. While one waits here, those that have
kept a place without sending a request lose it, the oldest first: who does send one, is served soon
behind any number of them. When the process has no descriptor
left, a spare one is given up so that an operator can still ask what is wrong.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Optional

from ngrokd.control.room import InService, Room, make_a_place

logger = logging.getLogger(__name__)

BACKLOG = 1024  # a client with a timeout is refused, not kept waiting, while it is full: connect(2)
SLOT_WAIT_S = 5.0  # for one of the connections in service to end
LOOK_S = 0.05  # between two looks for one whose place can be had
PAUSE_S = 0.2  # when the descriptors are used up and the spare one too
TICK_S = 2.0  # between two looks at things nobody tells us about
JOIN_S = 2.0  # for connections in service at stop; their threads are daemons
LINGER_S = 1.0  # for a client to take its answer and close
READ_BYTES = 64 * 1024

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE_BEFORE_ACCEPT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN})

Serve = Callable[[socket.socket], None]


def nothing() -> None:
    """The tick of a server that has nothing to look at."""


class Connections:
    """Accepts on a thread of its own, which owns the listening socket and knows every connection.

    `serve` runs on a thread for each connection and need not close it; `refuse` gets a connection
    that found no place, and may not block; `tick` runs on the accepting thread every `TICK_S`.
    """

    def __init__(
        self, name: str, room: Room, serve: Serve, refuse: Serve, tick: Callable[[], None] = nothing
    ) -> None:
        self._name = name
        self._room = room
        self._serve = serve
        self._refuse = refuse
        self._tick = tick
        self._slots: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: a place; False: stop
        for _ in range(room.places):
            self._slots.put(True)
        self._in_service: dict[threading.Thread, InService] = {}  # the oldest first
        self._listening: Optional[socket.socket] = None
        self._spare: Optional[int] = None
        self._stopping = threading.Event()
        self._wake: Optional[socket.socket] = None
        self._thread: Optional[threading.Thread] = None

    def start(self, listening: socket.socket) -> None:
        """Takes ownership of a listening socket and starts to accept."""
        listening.setblocking(False)
        self._listening = listening
        self._spare = _spare_descriptor()
        woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, args=(woken,), name=self._name, daemon=True
        )
        self._thread.start()

    def look(self) -> None:
        """Has `tick` run now, on the accepting thread. For who calls `start` and `stop`."""
        if self._wake is not None and not self._stopping.is_set():
            with contextlib.suppress(OSError):  # it has so much to look at that it will anyway
                self._wake.send(b"!")

    def stop(self) -> None:
        """Accepts no more and gives connections in service a moment. Twice is harmless."""
        if self._thread is None or self._wake is None:
            return
        self._stopping.set()
        self._slots.put(False)
        self._wake.close()
        self._thread.join(2 * JOIN_S)
        self._thread = None

    # ON THE ACCEPTING THREAD

    def replace(self, listening: socket.socket) -> None:
        """Goes on with another listening socket, after who waits at the old. For `tick` only."""
        assert self._listening is not None
        listening.setblocking(False)
        while _is_readable(self._listening):
            self._accept()
        self._listening.close()
        self._listening = listening

    def _run(self, woken: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(woken)
            stack.callback(self._finish)
            next_tick = time.monotonic() + TICK_S
            while not self._stopping.is_set():
                if self._wait(woken):
                    self._accept()
                asked = _is_readable(woken) and woken.recv(READ_BYTES) != b""
                if asked or time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + TICK_S
                    self._tick()

    def _wait(self, woken: socket.socket) -> bool:
        """True if a connection may be waiting, False after `TICK_S` or at stop."""
        assert self._listening is not None
        with selectors.PollSelector() as selector:  # epoll would need a descriptor
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            ready = selector.select(TICK_S)
        return any(key.fileobj is self._listening for key, _ in ready)

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            conn, _ = self._listening.accept()
        except OSError as exc:
            if exc.errno in _OUT_OF_DESCRIPTORS:
                self._accept_with_the_spare()
            elif exc.errno not in _GONE_BEFORE_ACCEPT:
                raise
            return
        free = self._place()
        if free is None:
            logger.warning("%s: every connection is in use, one was refused", self._name)
            self._end(conn, self._refuse)
        elif free:
            self._begin(conn)
        else:
            conn.close()

    def _place(self) -> Optional[bool]:
        """True: one may begin. False: none any more. None: there was no place for a long time."""
        deadline = time.monotonic() + SLOT_WAIT_S
        wait = 0.0
        while True:
            try:
                return self._slots.get(timeout=wait)
            except queue.Empty:
                now = time.monotonic()
                if now >= deadline:
                    return None
                living = [each for thread, each in self._in_service.items() if thread.is_alive()]
                make_a_place(living, self._room, now)
                wait = min(LOOK_S, deadline - now)

    def _begin(self, conn: socket.socket) -> None:
        for ended in [thread for thread in self._in_service if not thread.is_alive()]:
            del self._in_service[ended]
        thread = threading.Thread(
            target=self._serve_one, args=(conn,), name=f"{self._name}-connection", daemon=True
        )
        self._in_service[thread] = InService(conn, time.monotonic())
        try:
            thread.start()
        except RuntimeError:  # the kernel gives no more threads
            logger.warning("%s: no thread for a connection, it was refused", self._name)
            del self._in_service[thread]
            self._slots.put(True)
            self._end(conn, self._refuse)

    def _accept_with_the_spare(self) -> None:
        """No descriptor is left: serves one connection here, with the spare one."""
        assert self._listening is not None
        if self._spare is None:
            self._stopping.wait(PAUSE_S)
        else:
            os.close(self._spare)
            with contextlib.suppress(OSError):  # another thread took it: the next turn pauses
                conn, _ = self._listening.accept()
                logger.warning(
                    "%s: the process has no file descriptor left (ulimit -n)", self._name
                )
                self._end(conn, self._serve)
        self._spare = _spare_descriptor()

    def _finish(self) -> None:
        assert self._listening is not None
        self._listening.close()
        if self._spare is not None:
            os.close(self._spare)
        for each in self._in_service.values():
            each.hurry()  # what is being answered still gets its answer
        deadline = time.monotonic() + JOIN_S
        for thread in self._in_service:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ON A CONNECTION'S THREAD

    def _serve_one(self, conn: socket.socket) -> None:
        try:
            self._end(conn, self._serve)
        finally:
            self._slots.put(True)

    # ON EITHER THREAD

    def _end(self, conn: socket.socket, serve: Serve) -> None:
        """A connection's whole life. Its peer may go away at any point of it.

        A bug met on the way ends this connection and not the daemon, as it would through
        `threading.excepthook`; one of the accepting thread itself still does.
        """
        with conn:
            try:
                serve(conn)
            except OSError as exc:  # TimeoutError too: it did not take its answer
                logger.debug("a client went away: %s", exc)
            except Exception:
                logger.exception(
                    "%s: a connection met a fault of ngrokd's own and was ended", self._name
                )


def linger(conn: socket.socket) -> None:
    """Ends our side and waits a little for the peer's end.

    Closing at once with unread bytes would reset the connection under the answer.
    """
    conn.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + LINGER_S
    while receive(conn, deadline):
        pass  # what comes after the last answer is read so that it is not "unread"


def receive(conn: socket.socket, deadline: float) -> bytes:
    """Reads what is there, `b""` at the end. Raises TimeoutError at `deadline` (monotonic)."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the peer was too slow")
    conn.settimeout(left)
    try:
        return conn.recv(READ_BYTES)
    except socket.timeout as exc:  # an alias of TimeoutError only since Python 3.10
        raise TimeoutError("the peer was too slow") from exc


def _is_readable(sock: socket.socket) -> bool:
    with selectors.PollSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _spare_descriptor() -> Optional[int]:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # none to spare right now; the next turn asks again
