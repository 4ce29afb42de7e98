"""Connects to an upstream, and gives up when the sandbox stops."""

from __future__ import annotations

import errno
import os
import select
import socket

from ngrokd.sandbox.endpoints import Upstream
from ngrokd.sandbox.link import wait_for
from ngrokd.sandbox.stopping import StopSignal

UNDER_WAY = frozenset({0, errno.EINPROGRESS})


def dial(upstream: Upstream, deadline: float, stopping: StopSignal) -> socket.socket:
    """A connected, non-blocking socket; every address of the name is tried. `OSError` with the
    last one's fault, `LinkEnded` at the deadline (of `time.monotonic`) or at the stop."""
    try:
        found = socket.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise OSError(f"{upstream.host!r} is not a host name") from exc
    fault = OSError(f"{upstream.host} has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            _connect(connection, address, deadline, stopping)
        except OSError as exc:
            connection.close()
            fault = exc
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise fault


def _connect(
    connection: socket.socket, address: object, deadline: float, stopping: StopSignal
) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    code = connection.connect_ex(address)  # type: ignore[arg-type]
    if code in UNDER_WAY:
        wait_for(connection, select.POLLOUT, deadline, stopping)
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
