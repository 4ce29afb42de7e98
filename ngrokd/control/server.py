"""The control socket: who may connect, and one JSON line for each JSON line."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from typing import Optional

from ngrokd.control import socketfile, stream
from ngrokd.control.connections import BACKLOG, Connections
from ngrokd.control.conversation import requests
from ngrokd.control.desk import Desk
from ngrokd.control.dispatch import Answer, Caller, Command, Dispatcher
from ngrokd.control.feed import Subscription
from ngrokd.control.peer import credentials, is_owner, may_command
from ngrokd.control.protocol import BUSY, FORBIDDEN, encode_error
from ngrokd.control.room import Room
from ngrokd.control.visit import Phase, Visit
from ngrokd.errors import ControlError, NgrokdError

__all__ = ["Command", "ControlServer"]

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
TAKING_S = 1.0  # where others wait for a place: for a client to take its answer
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
        self._desk = Desk("control")
        self._dispatcher = Dispatcher(self._desk, commands, for_owner)
        self._gid: Optional[int] = None
        self._file: Optional[socketfile.SocketFile] = None
        self._told = ""  # why it cannot be made again; the accepting thread's
        self._connections = Connections(
            "control",
            Room(MAX_CONNECTIONS, TAKING_S),
            self._serve,
            _refuse_busy,
            self._look_at_the_file,
        )

    def start(self) -> None:
        """Makes the socket and serves it. Raises HostError; a daemon that answers there stays."""
        self._gid = socketfile.group_id(self._group)
        listening, self._file = socketfile.listen(self._path, self._gid, BACKLOG)
        self._desk.start()
        self._connections.start(listening)

    def ensure(self) -> None:
        """Main thread: has the socket's file looked at now, and made again if it is not ours.

        The accepting thread does so every few seconds by itself.
        """
        self._connections.look()

    def stop(self) -> None:
        """Ends the service and removes the socket if it is still ours. Twice is harmless."""
        self._connections.stop()
        self._desk.stop()
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

    def _serve(self, visit: Visit) -> None:
        peer = credentials(visit.conn)
        if may_command(peer, os.geteuid(), self._gid):
            self._converse(visit, Caller(str(peer), is_owner(peer, os.geteuid()), visit.brief))
        else:
            logger.warning("control: refused %s: neither root nor in server.socket_group", peer)
            text = _forbidden_text(self._group, os.geteuid())
            visit.send(encode_error(FORBIDDEN, text), ANSWER_S)
        visit.linger()

    def _converse(self, visit: Visit, caller: Caller) -> None:
        try:
            for line in requests(visit):
                answer = self._dispatcher.answer(line, caller)
                if answer.stream is not None:
                    _stream(visit, answer, answer.stream)
                    return
                visit.send(answer.line, ANSWER_S)
        except ControlError as exc:
            visit.send(encode_error(exc.code, str(exc)), ANSWER_S)


def _stream(visit: Visit, answer: Answer, subscription: Subscription) -> None:
    with contextlib.closing(subscription):
        visit.send(answer.line, ANSWER_S)
        visit.now(Phase.SERVED)  # however slowly it reads, its place is its own
        stream.follow(visit.conn, subscription)


def _refuse_busy(visit: Visit) -> None:
    visit.conn.setblocking(False)
    with contextlib.suppress(OSError):  # it is being dropped anyway
        visit.conn.send(encode_error(BUSY, f"{MAX_CONNECTIONS} connections are in use; try again"))


def _forbidden_text(group: str, own_uid: int) -> str:
    owners = f"root, the user it runs as ({own_uid})" if own_uid else "root"
    if group:
        return f"only {owners} and the members of group {group} may command ngrokd"
    return f"only {owners} may command ngrokd; server.socket_group names a group that may too"
