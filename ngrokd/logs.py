"""Where log lines go and how they look. One record is one line, and no line holds a secret.

The modules only call `logging.getLogger(__name__)`; `setup` gives the root logger its one handler.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import logging.handlers
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ngrokd.config import DEFAULT_LOG_FILE, ServerSettings
from ngrokd.errors import HostError
from ngrokd.loglines import LineFormatter

LEVELS = ("debug", "info", "warning", "error")

_FILE_MODE = 0o640  # hostnames and errors are not for everybody
_NO_FILE = "it is a pipe or a socket"
_SYSLOG_SOCKETS = ("/dev/log", "/var/run/syslog")  # Linux, macOS

if TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[TextIO]
else:
    _TextHandler = logging.StreamHandler  # cannot be subscripted before Python 3.11


def setup(server: ServerSettings, foreground: bool, environ: Mapping[str, str]) -> None:
    """Sends all records where `server` says, in place of an earlier `setup`'s handler.

    Call it after the fork: it may open a file. Raises HostError if that is not possible.
    """
    secrets = [environ.get("NGROK_API_KEY", "")]
    journal = False
    if server.log_file == "syslog":
        handler: logging.Handler = _syslog_handler()
    elif server.log_file or not foreground:
        handler = _file_handler(server.log_file or DEFAULT_LOG_FILE)
    else:
        handler = _StreamHandler(sys.stderr)
        journal = _is_journal(sys.stderr, environ)
    with_time = not journal and server.log_file != "syslog"  # those two stamp lines themselves
    handler.setFormatter(LineFormatter(server.log_format == "json", with_time, journal, secrets))
    root = logging.getLogger()
    for old, _ in list(_ours()):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(server.log_level)


def set_level(level: str) -> None:
    """The least level that is written, from now on. Any thread. ValueError if not one of them."""
    if level not in LEVELS:
        raise ValueError(f"no log level {level[:20]!r}: one of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(level.upper())


def keep_secret(secret: str) -> None:
    """After `setup`: blanks this text out of every line from now on. Any thread.

    A text of less than 8 characters is no secret: without it no line could be read.
    """
    for _, formatter in _ours():
        formatter.keep_secret(secret)


def reopen() -> None:
    """Opens a log file anew (it was moved away). If that fails the old one is written on to."""
    for handler, _ in _ours():
        if isinstance(handler, _FileHandler):
            try:
                handler.reopen()
            except OSError as exc:
                name = handler.baseFilename
                why = _NO_FILE if exc.errno == errno.ENXIO else exc.strerror
                logging.getLogger(__name__).warning("%s stays open: %s", name, why)


class _Careful(logging.Handler):
    """A handler whose own failure shows nothing of the record. Owner: `logging`, any thread."""

    def handleError(self, record: logging.LogRecord) -> None:
        """The standard one prints message and arguments as they are, secrets included."""
        kind = sys.exc_info()[0]
        with contextlib.suppress(OSError, ValueError, AttributeError):  # there is no third place
            sys.stderr.write(f"ngrokd: a log line was lost: {kind.__name__ if kind else '?'}\n")


class _StreamHandler(_Careful, _TextHandler):
    """Standard error. Owner: `logging`, any thread."""


class _SyslogHandler(_Careful, logging.handlers.SysLogHandler):
    """The system's log. Owner: `logging`, any thread."""

    append_nul = False


class _FileHandler(_Careful, logging.FileHandler):
    """A file that notices when it was moved away, as logrotate does. Owner: `logging`."""

    def _open(self) -> Any:
        # The daemon's umask is 0, so the mode must be right from the first byte.
        # O_NONBLOCK: at a pipe that nobody reads the open would wait for ever.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        handle = os.open(self.baseFilename, flags, _FILE_MODE)
        try:
            _refuse_pipe(handle)
            os.set_blocking(handle, True)
        except OSError:
            os.close(handle)
            raise
        return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """To the old file if the new one cannot be opened."""
        with contextlib.suppress(OSError):  # tried again at the next line
            if self._moved():
                self.reopen()
        super().emit(record)

    def reopen(self) -> None:
        """Any thread. The old file is closed only when the new one is open."""
        fresh = self._open()
        self.acquire()
        try:
            self.stream, old = fresh, self.stream
        finally:
            self.release()
        with contextlib.suppress(OSError):  # a full disk: what it still held is lost
            old.close()

    def close(self) -> None:
        """Any thread."""
        with contextlib.suppress(OSError):  # likewise
            super().close()

    def _moved(self) -> bool:
        try:
            there = Path(self.baseFilename).stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self.stream.fileno()))  # type: ignore[union-attr]


def _refuse_pipe(handle: int) -> None:
    """A reader that pauses would stop the daemon. Our own standard error may be one."""
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode) or _is_standard(found):
        return
    raise OSError(errno.ENXIO, _NO_FILE)


def _is_standard(found: os.stat_result) -> bool:
    for number in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if os.path.samestat(found, os.fstat(number)):
                return True
    return False


def _ours() -> Iterator[tuple[logging.Handler, LineFormatter]]:
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, LineFormatter):
            yield handler, handler.formatter


def _file_handler(name: str) -> logging.Handler:
    try:
        return _FileHandler(name)
    except OSError as exc:
        why = exc.strerror
        mend = "run as root, or set server.log_file"
        if exc.errno == errno.ENXIO:  # also what the system says of a pipe that nobody reads
            why, mend = _NO_FILE, "set server.log_file to the path of a file"
        raise HostError(f"log file {name} cannot be opened ({why}): {mend}") from exc


def _syslog_handler() -> logging.Handler:
    there = [name for name in _SYSLOG_SOCKETS if Path(name).is_socket()]
    if not there:  # the standard handler would lose every line without a word
        mend = "start a syslog service, or set server.log_file to a path"
        raise HostError(f"there is no syslog at {' or '.join(_SYSLOG_SOCKETS)}: {mend}")
    handler = _SyslogHandler(there[0], facility=logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.ident = f"ngrokd[{os.getpid()}]: "
    return handler


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether systemd connected this stream to its journal: systemd.exec(5), JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a descriptor at all
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
