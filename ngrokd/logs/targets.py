"""The places log lines go to: a file, a standard stream, syslog."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ngrokd.config import DEFAULT_LOG_FILE, ServerSettings
from ngrokd.errors import HostError
from ngrokd.logs.descriptor import NOBODY_READS, Descriptor, of_stream
from ngrokd.logs.lines import FIELD_BYTES
from ngrokd.logs.syslog import SOCKETS, SyslogTarget

SYSLOG = "syslog"  # as `server.log_file`

_FILE_MODE = 0o640  # hostnames and errors are not for everybody
_NO_FILE = "it is a pipe or a socket"
STDERR = "/dev/stderr"
# Opening them again fails where they are sockets (systemd) or another user's (containers).
_STREAMS = {"/dev/stdout": 1, "/dev/fd/1": 1, STDERR: 2, "/dev/fd/2": 2}


class Target(Protocol):
    """Where lines go. Owner: the handler, whose lock guards each call."""

    stamps_time: bool  # by itself
    reads_priority: bool  # from the start of a line
    field_bytes: int

    def write(self, line: str, level: int) -> None:
        """Raises OSError: the line is lost. Does not wait long."""

    def reopen(self) -> None:
        """Raises OSError; what was open stays so."""

    def close(self) -> None:
        """For good: what comes after it is not written, without a word."""


def place_of(server: ServerSettings, foreground: bool) -> str:
    """`syslog` or a path."""
    if server.log_file == SYSLOG:
        return SYSLOG
    default = STDERR if foreground else DEFAULT_LOG_FILE
    return str(Path(server.log_file or default).absolute())


def opened(place: str, environ: Mapping[str, str]) -> Target:
    """Ready to be written to. Raises HostError."""
    if place == SYSLOG:
        return _opened_syslog()
    try:
        if place in _STREAMS:
            return StreamTarget(_STREAMS[place], environ.get("JOURNAL_STREAM", ""))
        return FileTarget(place)
    except OSError as exc:
        why, mend = _explained(exc, place)
        raise HostError(f"log file {place} cannot be opened ({why}): {mend}") from exc


def why(error: OSError) -> str:
    """The cause alone, for a person."""
    texts = {errno.ENXIO: _NO_FILE, errno.EAGAIN: NOBODY_READS}
    return texts.get(error.errno or 0, error.strerror or type(error).__name__)


class StreamTarget:
    """Standard output or error, the journal's or any other. Owner: the handler."""

    field_bytes = FIELD_BYTES

    def __init__(self, number: int, journal: str) -> None:
        self._descriptor = of_stream(number)
        # Whether systemd connected this very stream: systemd.exec(5), JOURNAL_STREAM.
        found = os.fstat(number)
        self.stamps_time = self.reads_priority = journal == f"{found.st_dev}:{found.st_ino}"

    def write(self, line: str, level: int) -> None:
        """Raises OSError."""
        self._descriptor.write(line)

    def reopen(self) -> None:
        """It has no name to be opened by."""

    def close(self) -> None:
        """It stays open for others."""
        self._descriptor.close()


class FileTarget:
    """A file that notices when it was moved away, as logrotate does. Owner: the handler."""

    stamps_time = False
    reads_priority = False
    field_bytes = FIELD_BYTES

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = Descriptor(_open(path), owned=True)

    def write(self, line: str, level: int) -> None:
        """To the old file if the new one cannot be opened. Raises OSError."""
        with contextlib.suppress(OSError):  # tried again at the next line
            if self._moved():
                self.reopen()
        self._descriptor.write(line)

    def reopen(self) -> None:
        """The old file is closed only when the new one is open. Raises OSError."""
        if self._descriptor.closed:
            return
        fresh = Descriptor(_open(self._path), owned=True)
        self._descriptor.close()
        self._descriptor = fresh

    def close(self) -> None:
        """For good."""
        self._descriptor.close()

    def _moved(self) -> bool:
        if self._descriptor.closed:
            return False
        try:
            there = Path(self._path).stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._descriptor.number))


def _open(path: str) -> int:
    # The daemon's umask may be 0, so the mode must be right from the first byte.
    # O_NONBLOCK: at a pipe that nobody reads the open would wait for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    number = os.open(path, flags, _FILE_MODE)
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode):
        return number
    os.close(number)
    raise OSError(errno.ENXIO, _NO_FILE)


def _opened_syslog() -> Target:
    try:
        return SyslogTarget(SOCKETS)
    except OSError as exc:  # not losing every line without a word
        mend = "start a syslog service, or set server.log_file to a path"
        text = f"there is no syslog at {' or '.join(SOCKETS)} ({why(exc)}): {mend}"
        raise HostError(text) from exc


def _explained(error: OSError, path: str) -> tuple[str, str]:
    """Why a file cannot be opened, and what mends it."""
    if error.errno == errno.ENXIO:  # also what the system says of a pipe that nobody reads
        mend = "set server.log_file to the path of a file"
    elif error.errno == errno.ENOENT:
        mend = f"make the folder {Path(path).parent}, or set server.log_file"
    elif error.errno == errno.EROFS:
        mend = "set server.log_file to a path that can be written, or to syslog"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "make room on the disk, or set server.log_file"
    elif error.errno == errno.EISDIR:
        mend = "set server.log_file to the path of a file in it"
    else:
        mend = "run as root, or set server.log_file"
    return why(error), mend
