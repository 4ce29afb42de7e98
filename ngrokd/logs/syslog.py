"""Lines for the system's log: a socket that may vanish and come again while we run."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from ngrokd.logs.descriptor import Patience
from ngrokd.logs.lines import priority

SOCKETS = ("/dev/log", "/var/run/syslog")  # Linux, macOS

# A line is a datagram, and daemons cut it: rsyslog at 8 KiB. Cut here, JSON stays JSON.
FIELD_BYTES = 3 * 1024
# Every system takes such a datagram. Where longer ones are refused (macOS) a line is halved.
_LEAST_DATAGRAM_BYTES = 512

_FACILITY_DAEMON = 3
_IDENT = "ngrokd"
# The daemon at the other end was ended or begun anew: worth one more try at once.
_GONE = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ENOENT}
)


class SyslogTarget:
    """Owner: the handler, whose lock guards each call."""

    stamps_time = True
    reads_priority = False
    field_bytes = FIELD_BYTES

    def __init__(self, paths: Sequence[str] = SOCKETS) -> None:
        """`paths`: the first that answers is taken. Raises OSError if none does."""
        self._paths = tuple(paths)
        self._pid = os.getpid()
        self._patience = Patience()
        self._socket = _connected(self._paths)
        self._torn = False  # the last line of a stream was cut short
        self._closed = False

    def write(self, line: str, level: int) -> None:
        """Raises OSError: nobody is there, or is too slow."""
        if self._closed:
            return
        head = f"<{_FACILITY_DAEMON << 3 | priority(level)}>{_IDENT}[{self._pid}]: "
        data = (head + line).encode(errors="backslashreplace")
        try:
            self._send(data)
        except OSError as exc:
            if exc.errno not in _GONE:
                raise
            self.reopen()
            self._send(data)

    def reopen(self) -> None:
        """Raises OSError; what was open stays so."""
        if self._closed:
            return
        fresh = _connected(self._paths)
        self._socket.close()
        self._socket, self._torn = fresh, False

    def close(self) -> None:
        """For good."""
        self._closed = True
        with contextlib.suppress(OSError):  # the last lines of a stream had been refused
            self._socket.close()

    def _send(self, data: bytes) -> None:
        if self._socket.type == socket.SOCK_STREAM:
            self._send_line(data)
            return
        self._patience.wait(self._socket.fileno())
        try:
            self._socket.send(data)
        except OSError as exc:
            if exc.errno != errno.EMSGSIZE or len(data) < _LEAST_DATAGRAM_BYTES:
                raise
            self._send(data[: len(data) // 2])

    def _send_line(self, data: bytes) -> None:
        data = (b"\n" if self._torn else b"") + data + b"\n"
        while data:
            self._patience.wait(self._socket.fileno())
            data = data[self._socket.send(data) :]
            self._torn = bool(data)


def _connected(paths: Sequence[str]) -> socket.socket:
    found = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in paths:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            attempt = socket.socket(socket.AF_UNIX, kind)
            attempt.setblocking(False)
            try:
                attempt.connect(path)
            except OSError as exc:
                attempt.close()
                if exc.errno == errno.EPROTOTYPE:  # it is of the other kind
                    continue
                if exc.errno != errno.ENOENT:
                    raise
                break
            return attempt
    raise found
