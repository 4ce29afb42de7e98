"""The control socket: who may connect, and one JSON line for each JSON line."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from typing import Optional

from ngrokd.control import socketfile
from ngrokd.control.connections import BACKLOG, Connections, linger
from ngrokd.control.conversation import requests
from ngrokd.control.dispatch import Command, Dispatcher
from ngrokd.control.peer import Peer, credentials, is_owner, may_command
from ngrokd.control.protocol import BUSY, FORBIDDEN, encode_error
from ngrokd.control.room import Room
from ngrokd.errors import ControlError, NgrokdError

__all__ = ["Command", "ControlServer"]

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
ANSWER_S = 5.0  # for the client to take an answer


class ControlServer:
    """Owner: main thread; `_file` belongs to the accepting thread while that runs."""

    def __init__(
        self,
        path: str,
        group: str,
        commands: Mapping[str, Command],
        for_owner: Optional[Mapping[str, Command]] = None,
    ) -> None:
        """`for_owner`: what takes the place of a command for root and the daemon's own user."""
        self._path = path
        self._group = group
        self._dispatcher = Dispatcher(commands, for_owner)
        self._gid: Optional[int] = None
        self._file: Optional[socketfile.SocketFile] = None
        self._told = ""  # why it cannot be made again; the accepting thread's
        self._connections = Connections(
            "control", Room(MAX_CONNECTIONS), self._serve, _refuse_busy, self._look_at_the_file
        )

    def start(self) -> None:
        """Makes the socket and serves it. Raises HostError; a daemon that answers there stays."""
        self._gid = socketfile.group_id(self._group)
        listening, self._file = socketfile.listen(self._path, self._gid, BACKLOG)
        self._connections.start(listening)

    def ensure(self) -> None:
        """Main thread: has the socket's file looked at now, and made again if it is not ours.

        The accepting thread does so every few seconds by itself.
        """
        self._connections.look()

    def stop(self) -> None:
        """Ends the service and removes the socket if it is still ours. Twice is harmless."""
        self._connections.stop()
        if self._file is not None:
            self._file.remove()
            self._file = None

    # ON THE ACCEPTING THREAD

    def _look_at_the_file(self) -> None:
        """Somebody may have removed the socket; nothing else would ever bring it back."""
        if self._file is None or self._file.is_in_place():
            self._told = ""
            return
        try:
            listening, self._file = socketfile.listen(self._path, self._gid, BACKLOG)
        except NgrokdError as exc:
            if str(exc) != self._told:
                logger.warning("nobody can reach this daemon: %s", exc)
            self._told = str(exc)
            return
        logger.warning(
            "the control socket %s had been removed or replaced; it was made again", self._path
        )
        self._connections.replace(listening)

    # ON A CONNECTION'S THREAD

    def _serve(self, conn: socket.socket) -> None:
        peer = credentials(conn)
        if may_command(peer, os.geteuid(), self._gid):
            self._converse(conn, peer)
        else:
            logger.warning("control: refused %s: neither root nor in server.socket_group", peer)
            _send(conn, encode_error(FORBIDDEN, _forbidden_text(self._group)))
        linger(conn)

    def _converse(self, conn: socket.socket, peer: Peer) -> None:
        owner = is_owner(peer, os.geteuid())
        try:
            for line in requests(conn):
                _send(conn, self._dispatcher.answer(line, str(peer), owner))
        except ControlError as exc:
            _send(conn, encode_error(exc.code, str(exc)))


def _send(conn: socket.socket, answer: bytes) -> None:
    conn.settimeout(ANSWER_S)
    conn.sendall(answer)


def _refuse_busy(conn: socket.socket) -> None:
    conn.setblocking(False)
    with contextlib.suppress(OSError):  # it is being dropped anyway
        conn.send(encode_error(BUSY, f"{MAX_CONNECTIONS} connections are in use; try again"))


def _forbidden_text(group: str) -> str:
    if group:
        return f"only root and the members of group {group} may command ngrokd"
    return "only root may command ngrokd; server.socket_group names a group that may too"
