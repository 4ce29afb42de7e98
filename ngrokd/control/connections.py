"""Serves a bounded number of connections at once, each on a thread of its own.

Both servers of this room stand on it. Who comes over the bound takes the place of the client that
has been waited for longest: for a request that does not come, or for its end. While something is
being done for every one of them, newcomers wait a little, all of them together, and are then told
that the daemon is busy. When the process has no descriptor left, a spare one is given up so that an
operator can still ask what is wrong.
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

from ngrokd.control.room import HURRY_S, Room, make_a_place
from ngrokd.control.visit import READ_BYTES, Dismissed, Visit

logger = logging.getLogger(__name__)

BACKLOG = 1024  # a client with a timeout is refused, not kept waiting, while it is full: connect(2)
SLOT_WAIT_S = 5.0  # for one of the connections in service to end, since all places were taken
PAUSE_S = 0.2  # when the descriptors are used up and the spare one too
TICK_S = 2.0  # between two looks at things nobody tells us about
JOIN_S = 2.0  # for connections in service at stop; their threads are daemons

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE_BEFORE_ACCEPT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN})

Serve = Callable[[Visit], None]


def nothing() -> None:
    """The tick of a server that has nothing to look at."""


class Connections:
    """Accepts on a thread of its own, which owns the listening socket and knows every connection.

    `serve` runs on a thread for each connection and need not close it; `refuse` gets one that found
    no place or lost it, and may not block; `tick` runs on the accepting thread every `TICK_S`.
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
        self._in_service: dict[threading.Thread, Visit] = {}
        self._full_since: Optional[float] = None  # monotonic; None: the last one found a place
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
            self._end(Visit(conn), self._refuse)
        elif free:
            self._begin(Visit(conn))
        else:
            conn.close()

    def _place(self) -> Optional[bool]:
        """True: a place; False: stop; None: there is none, and there was none for too long."""
        with contextlib.suppress(queue.Empty):
            free = self._slots.get_nowait()
            self._full_since = None
            return free
        if self._full_since is None:
            self._full_since = time.monotonic()
        deadline = self._full_since + SLOT_WAIT_S
        while True:
            now = time.monotonic()
            living = [visit for thread, visit in self._in_service.items() if thread.is_alive()]
            wait = make_a_place(living, self._room, now)
            # Who has just been sent away needs a moment, however late it is.
            left = max(HURRY_S, deadline - now)
            with contextlib.suppress(queue.Empty):
                free = self._slots.get(timeout=left if wait is None else min(wait, left))
                self._full_since = None
                return free
            if time.monotonic() >= deadline:
                return None

    def _begin(self, visit: Visit) -> None:
        for ended in [thread for thread in self._in_service if not thread.is_alive()]:
            del self._in_service[ended]
        thread = threading.Thread(
            target=self._serve_one, args=(visit,), name=f"{self._name}-connection", daemon=True
        )
        self._in_service[thread] = visit
        try:
            thread.start()
        except RuntimeError:  # the kernel gives no more threads
            logger.warning("%s: no thread for a connection, it was refused", self._name)
            del self._in_service[thread]
            self._slots.put(True)
            self._end(visit, self._refuse)

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
                self._end(Visit(conn, brief=True), self._serve)
        self._spare = _spare_descriptor()

    def _finish(self) -> None:
        assert self._listening is not None
        self._listening.close()
        if self._spare is not None:
            os.close(self._spare)
        for visit in self._in_service.values():
            with contextlib.suppress(OSError):  # it has just ended by itself
                visit.conn.shutdown(socket.SHUT_RD)  # what is being answered still gets its answer
        deadline = time.monotonic() + JOIN_S
        for thread in self._in_service:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ON A CONNECTION'S THREAD

    def _serve_one(self, visit: Visit) -> None:
        try:
            self._end(visit, self._serve)
        finally:
            self._slots.put(True)

    # ON EITHER THREAD

    def _end(self, visit: Visit, serve: Serve) -> None:
        """A connection's whole life. Its peer may go away at any point of it.

        A bug met on the way ends this connection and not the daemon, as it would through
        `threading.excepthook`; one of the accepting thread itself still does.
        """
        with visit.conn:
            try:
                self._serve_or_dismiss(visit, serve)
            except OSError as exc:  # TimeoutError too: it did not take its answer
                logger.debug("a client went away: %s", exc)
            except Exception:
                logger.exception(
                    "%s: a connection met a fault of ngrokd's own and was ended", self._name
                )

    def _serve_or_dismiss(self, visit: Visit, serve: Serve) -> None:
        try:
            serve(visit)
        except Dismissed:
            logger.debug("%s: a client that asked nothing lost its place", self._name)
            self._refuse(visit)


def _is_readable(sock: socket.socket) -> bool:
    with selectors.PollSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _spare_descriptor() -> Optional[int]:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # none to spare right now; the next turn asks again
