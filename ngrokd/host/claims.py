"""One daemon for one interface and for one section of a hosts file.

A claim is a socket with an abstract name (unix(7)): the kernel gives the name to one process of a
network namespace, which is also what an interface belongs to, and takes it back when that process
ends, however it ends. So nothing is left behind, and nothing has to be told from something stale.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.netif import loopback

logger = logging.getLogger(__name__)

# Others connect only to learn who we are; they wait here until `answer`.
_BACKLOG = 1024

# A dead daemon's command, forked and about to be run, has its sockets until then.
_DYING_MS = 1000

NOBODY = -1  # no uid: the question reached nobody

_PEERCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


class Claims:
    """What this process alone may change on this machine. Owner: main."""

    def __init__(self, net: NetSettings) -> None:
        self._names: dict[str, str] = {}
        if not loopback.holds(net.subnet):  # which needs no interface
            name = f"interface:{net.interface_name}"
            self._names[name] = f"the interface {net.interface_name}"
        self._names[_section_name(net)] = f"ngrokd's section in {net.hosts_file}"
        self._held: list[socket.socket] = []

    def take(self) -> None:
        """Raises HostError naming the process that has one of them; none is then ours."""
        try:
            for name, what in self._names.items():
                self._take(f"\0ngrokd:{name}", what)
        except HostError:
            self.release()
            raise

    def answer(self) -> None:
        """Makes room for those who ask next; to be called now and then."""
        for held in self._held:
            for _ in range(_BACKLOG):
                try:
                    held.accept()[0].close()
                except OSError:  # nobody waits
                    break

    def release(self) -> None:
        """Twice is harmless."""
        for held in self._held:
            held.close()
        self._held = []

    def _take(self, address: str, what: str) -> None:
        claim = claimed(address)
        if claim is None and _is_dying(address):
            claim = claimed(address)
        if claim is None:
            _refuse(_holder(address), what)
        else:
            self._held.append(claim)


def claimed(address: str) -> Optional[socket.socket]:
    """None: it is another process's."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    claim.setblocking(False)
    try:
        claim.bind(address)
        claim.listen(_BACKLOG)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            claim.close()
            return None
        # Not Linux: the pid file and the control socket must do.
        logger.debug("%s cannot be claimed: %s", address[1:], exc.strerror)
    return claim


def _refuse(pid: Optional[int], what: str) -> None:
    if pid == os.getpid():
        return
    if pid is None:
        logger.warning("%s is claimed by an unknown program (`ss -xlp | grep ngrokd`)", what)
        return
    who = f"another ngrokd (pid {pid})" if pid else "an ngrokd of another container"
    raise HostError(
        f"{who} has {what}: end that one, or give this one a net.interface_name and a net.subnet "
        "of its own"
    )


def _holder(address: str) -> Optional[int]:
    """The pid behind a claim, 0 if it cannot be named; None: nobody whom we must believe.

    An ordinary user may take any abstract name, and must not keep root's daemon from starting.
    """
    with asked(address) as question:
        pid, uid = credentials(question)
    return pid if uid in (0, os.geteuid()) else None


def _is_dying(address: str) -> bool:
    """The process that has it is dead, and what it had just begun to start has let go of it."""
    with asked(address) as question:
        pid, uid = credentials(question)
        if uid == NOBODY:
            return True
        if pid == 0 or _lives(pid):
            return False
        poll = select.poll()
        poll.register(question, 0)  # POLLHUP comes unasked
        return bool(poll.poll(_DYING_MS))


@contextlib.contextmanager
def asked(address: str) -> Iterator[socket.socket]:
    """Connected to a claim, unless its holder does not answer for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        try:
            question.connect(address)
        except OSError as exc:
            logger.debug("%s does not say whose it is: %s", address[1:], exc.strerror)
        yield question


def credentials(question: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the holder; of one that did not answer: nobody's."""
    answer = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _ = _PEERCRED.unpack(answer)
    return pid, uid


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _section_name(net: NetSettings) -> str:
    """The same for one file under two paths, and another for two files under one path."""
    file = Path(os.path.realpath(net.hosts_file))
    place = str(file)
    try:
        folder = file.parent.stat()
        place = f"{folder.st_dev}:{folder.st_ino}/{file.name}"
    except OSError as exc:
        logger.debug("%s: %s", file.parent, exc.strerror)
    digest = hashlib.sha256(f"{place}\0{net.interface_name}".encode()).hexdigest()
    return f"section:{digest[:32]}"
