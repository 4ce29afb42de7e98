"""Asks a running daemon over its control socket: one request, one answer, within one deadline."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Sequence

from ngrokd.control.protocol import (
    BAD_REQUEST,
    FORBIDDEN,
    MAX_REQUEST_BYTES,
    encode_request,
    parse_response,
)
from ngrokd.errors import (
    ControlError,
    DaemonUnreachable,
    NotPermitted,
    ProtocolError,
    TimedOut,
)

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # some 100,000 endpoints; more is not an answer of ours
# Of one answer: an endpoint has 30. A list of nothing but brackets would take a gigabyte of memory.
MAX_TOKENS = 5_000_000  # commas and opening brackets
READ_BYTES = 256 * 1024

_REFUSED_BY_MODE = frozenset({errno.EACCES, errno.EPERM})
_TIMEVAL = struct.Struct("@ll")  # of SO_SNDTIMEO: socket(7)


def request(
    socket_path: str, command: str, args: Sequence[str] = (), timeout_s: float = 10
) -> object:
    """The data the daemon answers.

    Raises DaemonUnreachable, NotPermitted, TimedOut, ControlError with the daemon's own code, or
    ProtocolError if what answers is not ngrokd.
    """
    asked = encode_request(command, args)
    if len(asked) > MAX_REQUEST_BYTES:
        raise ControlError(BAD_REQUEST, f"a request may have {MAX_REQUEST_BYTES} bytes")
    deadline = time.monotonic() + timeout_s
    with connect(socket_path, timeout_s) as conn:
        try:
            line = _exchange(conn, asked, deadline)
        except (socket.timeout, TimeoutError) as exc:
            raise TimedOut(
                f"the daemon on {socket_path} did not answer within {timeout_s:g} s"
            ) from exc
        except OSError as exc:
            raise DaemonUnreachable(
                f"the daemon on {socket_path} ended the connection: {exc.strerror or exc}"
            ) from exc
    if not line.endswith(b"\n"):
        raise DaemonUnreachable(f"the daemon on {socket_path} ended before it answered")
    if len(line) > MAX_ANSWER_BYTES or sum(map(line.count, (b",", b"[", b"{"))) > MAX_TOKENS:
        raise ProtocolError(f"what answers on {socket_path} is not ngrokd: its answer is too large")
    return answered(line, socket_path)


def answered(line: bytes, socket_path: str) -> object:
    """The data of the line that came from there. Raises what `request` does of it."""
    try:
        return parse_response(line)
    except ControlError as exc:
        if exc.code == FORBIDDEN:
            raise NotPermitted(f"{socket_path}: {exc}") from exc
        raise
    except ProtocolError as exc:
        raise ProtocolError(f"what answers on {socket_path} is not ngrokd: {exc}") from exc


def connect(socket_path: str, timeout_s: float) -> socket.socket:
    """A connection. Raises DaemonUnreachable, NotPermitted or TimedOut."""
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A blocking connect waits while the backlog is full; Python's own timeout would make the
        # socket non-blocking, for which the kernel refuses at once: unix(7), EAGAIN.
        seconds = max(0.001, timeout_s)
        conn.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_SNDTIMEO,
            _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000)),
        )
        conn.connect(socket_path)
    except OSError as exc:
        conn.close()
        raise _not_connected(socket_path, exc) from exc
    return conn


def _not_connected(socket_path: str, exc: OSError) -> Exception:
    if exc.errno in _REFUSED_BY_MODE:
        return NotPermitted(f"{socket_path}: {os.strerror(exc.errno or 0)}")
    if exc.errno == errno.EAGAIN:
        return TimedOut(f"the daemon on {socket_path} is too busy to take a connection")
    return DaemonUnreachable(f"no ngrokd answers on {socket_path} ({exc.strerror or exc})")


def _exchange(conn: socket.socket, asked: bytes, deadline: float) -> bytes:
    """Sends the request and reads up to the newline or the daemon's end."""
    conn.settimeout(_left(deadline))
    with contextlib.suppress(BrokenPipeError):  # refused unread: the reason waits to be read
        conn.sendall(asked)
    answer = bytearray()
    while not answer.endswith(b"\n"):
        conn.settimeout(_left(deadline))
        data = conn.recv(READ_BYTES)
        if not data:
            break
        answer += data
        if len(answer) > MAX_ANSWER_BYTES:
            return bytes(answer) + b"\n"  # it goes on, and is too large already
    return bytes(answer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
