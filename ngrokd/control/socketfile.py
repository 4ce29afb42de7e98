"""The control socket's file: made, told from a stale or a living one, and removed."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import select
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.control.peer import pid_of
from ngrokd.errors import HostError

SOCKET_MODE = 0o660
FOLDER_MODE = 0o755
PROBE_S = 1.0

_O_PATH: int = getattr(os, "O_PATH", 0)  # Linux: a descriptor of anything, a link itself included
_DESCRIPTORS = "/proc/self/fd"  # leads from such a descriptor to what it is of; not in every chroot


@dataclass(frozen=True)
class SocketFile:
    """A socket that we made. The inode tells it from one that another process put in its place."""

    path: Path
    device: int
    inode: int

    def is_in_place(self) -> bool:
        """It stands where we made it: nobody removed it or put something else there."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)

    def remove(self) -> None:
        """Removes it if it is still ours."""
        with contextlib.suppress(OSError):  # gone, or not ours to remove: nothing is left to do
            # A file system gives a number again: another's socket may have that of ours.
            if self.is_in_place() and _listener(str(self.path)) in (None, os.getpid()):
                self.path.unlink()


def group_id(group: str) -> Optional[int]:
    """The id of `server.socket_group`, a name or a number; None for "". Raises HostError."""
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as exc:
        if group.isascii() and group.isdigit():
            return int(group)
        raise HostError(
            f"server.socket_group: this machine has no group {group!r}; "
            f"make it with `groupadd --system {group}` or name another"
        ) from exc


def listen(path: str, gid: Optional[int], backlog: int) -> tuple[socket.socket, SocketFile]:
    """A listening socket at `path`, 0660. Raises HostError; replaces only what is surely stale."""
    _make_folder(Path(path).parent)
    _clear_the_way(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return listening, _bind(listening, path, gid, backlog)
    except HostError:
        listening.close()
        raise
    except OSError as exc:
        listening.close()
        raise HostError(_cannot_make(path, exc)) from exc


def _make_folder(folder: Path) -> None:
    """/var/run, or a folder in it, which is empty after every boot; a path of more is a mistake."""
    with contextlib.suppress(OSError):  # bind() says what is wrong with the way to the socket
        made = Path(os.path.realpath(folder))
        made.mkdir()
        # Whatever the umask; and whatever somebody puts in its place, whose folder it is made in.
        with _opened(made, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            os.fchmod(descriptor, FOLDER_MODE)


def _bind(listening: socket.socket, path: str, gid: Optional[int], backlog: int) -> SocketFile:
    listening.bind(path)
    with _held(path) as (found, place):
        file = SocketFile(Path(path), found.st_dev, found.st_ino)
        try:
            # Nobody can connect before listen(), so the mode is right from the first connection on.
            Path(place).chmod(SOCKET_MODE)
            if gid is not None:
                _give_to_group(path, place, gid)
            listening.listen(backlog)
        except (OSError, HostError):
            file.remove()
            raise
    return file


@contextlib.contextmanager
def _held(path: str) -> Iterator[tuple[os.stat_result, str]]:
    """What was just made at `path`, and a name that stays its own.

    Raises HostError if it is no socket: in a folder of his, somebody can put a link there at any
    moment, and root would change the mode of what that leads to.
    """
    with contextlib.ExitStack() as stack:
        found, place = os.lstat(path), path
        if _O_PATH:
            descriptor = stack.enter_context(_opened(Path(path), _O_PATH))
            found = os.fstat(descriptor)
            if Path(_DESCRIPTORS).is_dir():
                place = f"{_DESCRIPTORS}/{descriptor}"
        if not stat.S_ISSOCK(found.st_mode):
            raise HostError(
                f"control socket {path}: somebody replaced it in the moment it was made; set "
                "server.socket_path to a folder that only root may write to"
            )
        yield found, place


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _give_to_group(path: str, place: str, gid: int) -> None:
    try:
        os.chown(place, -1, gid)
    except OSError as exc:
        raise HostError(
            f"control socket {path}: cannot be given to group {gid} of server.socket_group: "
            f"{exc.strerror}; run the daemon as root or as a member of that group"
        ) from exc


def remove_stale(path: str) -> bool:
    """Removes a socket that nobody listens on; False: there is none. Raises HostError."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return False  # whatever it is, it is not ours
    except OSError:
        return False
    _clear_the_way(path)
    return True


def who_listens(path: str) -> str:
    """Who may be listening there, in words; "" if surely nobody."""
    try:
        pid = _listener(path)
    except OSError as exc:  # a full backlog, no permission, another type: it may well live
        return f"another program may be listening there ({exc.strerror or exc})"
    return "" if pid is None else f"another daemon answers there (pid {pid})"


def _listener(path: str) -> Optional[int]:
    """The pid of who listens there (0: of another container); None: nobody. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        pid = pid_of(probe)
        if pid > 0 and not _lives(pid) and _hangs_up(probe):
            return None
    return pid


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _hangs_up(probe: socket.socket) -> bool:
    """A dead daemon's command, forked and about to be run, holds its sockets until then."""
    poll = select.poll()
    poll.register(probe, 0)  # POLLHUP comes unasked
    return bool(poll.poll(PROBE_S * 1000))


def _clear_the_way(path: str) -> None:
    """Removes a socket that nobody listens on. Raises HostError for everything else in the way."""
    try:
        kind = Path(path).lstat().st_mode
    except OSError:
        return  # nothing there, or bind() will say what is wrong with the way to it
    if not stat.S_ISSOCK(kind):
        raise HostError(
            f"control socket {path}: something else is there that is not a socket; "
            "move it away or set server.socket_path"
        )
    living = who_listens(path)
    if living:
        raise HostError(
            f"control socket {path}: {living}; "
            "end that one (`kill` its pid), or give this one another server.socket_path"
        )
    with contextlib.suppress(FileNotFoundError):  # its owner has just removed it
        _unlink(path)


def _unlink(path: str) -> None:
    try:
        Path(path).unlink()
    except PermissionError as exc:
        raise HostError(_cannot_make(path, exc)) from exc


def _cannot_make(path: str, exc: OSError) -> str:
    """Cause and mend of a refused bind or unlink."""
    folder = Path(path).parent
    if exc.errno in (errno.EACCES, errno.EPERM):
        mend = f"run as root, or set server.socket_path to a folder you may write to (not {folder})"
    elif exc.errno == errno.ENOENT:
        mend = f"make its folder with `mkdir -p {folder}` or set server.socket_path"
    elif exc.errno is None:  # Python's own refusal of a path that sockaddr_un cannot hold
        mend = "set server.socket_path to a shorter path (107 bytes at most)"
    else:
        mend = "set server.socket_path to another path"
    return f"control socket {path}: {exc.strerror or exc}; {mend}"
