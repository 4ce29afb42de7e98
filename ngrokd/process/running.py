"""Which process is the daemon of a configuration: by its pid file, else by its control socket.

Any program may lock a file that a configuration names, or listen there. So a pid is only believed
of a process that is an ngrokd, of root or of who asks, and that is asked again before each signal.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Optional

from ngrokd.config import Config
from ngrokd.control import peer
from ngrokd.errors import HostError
from ngrokd.process import identity, pidfile

CONNECT_S = 1.0


def find(config: Config) -> Optional[int]:
    """Its pid, 0 if it is not to be seen from here; None: none runs.

    Raises HostError: another program holds the pid file, or it is another user's daemon.
    """
    path = config.server.pid_file
    pid = pidfile.holder(path)
    if pid == 0:
        return 0
    if pid is not None and identity.is_ngrokd(pid):
        return _of_ours(pid)
    answering = _listener(config.server.socket_path)
    if answering is not None:  # started before server.pid_file was changed
        return _of_ours(answering)
    if pid is not None:
        raise HostError(
            f"{path} is locked by pid {pid}, which is not ngrokd (`ps -p {pid}`), and is left "
            "alone: set server.pid_file to a file of ngrokd's own"
        )
    return None


def send(pid: int, number: signal.Signals) -> bool:
    """False: there is no such ngrokd any more. Raises HostError: it is another user's."""
    if not identity.is_ngrokd(pid):
        return False
    try:
        os.kill(_of_ours(pid), number)
    except ProcessLookupError:
        return False
    except PermissionError as exc:
        raise HostError(_another_users(pid)) from exc
    return True


def _of_ours(pid: int) -> int:
    # None: it has just ended, or cannot be told of; the kernel then says it at the signal.
    if identity.owner(pid) not in (None, 0, os.geteuid()):
        raise HostError(_another_users(pid))
    return pid


def _another_users(pid: int) -> str:
    return f"ngrokd with pid {pid} is another user's: do that as that user"


def answering(config: Config) -> Optional[int]:
    """The pid of the ngrokd that listens on its control socket; None: none does yet."""
    return _listener(config.server.socket_path)


def _listener(path: str) -> Optional[int]:
    """The ngrokd that listens there; None: none, or none that can be told."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_S)
            probe.connect(path)
            pid = peer.credentials(probe).pid
    except OSError:
        return None
    return pid if pid > 0 and identity.is_ngrokd(pid) else None
