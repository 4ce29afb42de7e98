"""What the tests of the control room share: raw clients and a daemon made of canned answers."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from ngrokd.control.server import Command, ControlServer

PATIENCE_S = 10.0
NOBODY = 65534


@contextlib.contextmanager
def serving(
    path: Path,
    commands: Mapping[str, Command],
    group: str = "",
    for_owner: Optional[Mapping[str, Command]] = None,
) -> Iterator[ControlServer]:
    """A running control server."""
    server = ControlServer(str(path), group, commands, for_owner)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(path: Path) -> socket.socket:
    """A raw client."""
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    conn.settimeout(PATIENCE_S)
    conn.connect(str(path))
    return conn


def read_all(conn: socket.socket) -> bytes:
    """Everything up to the server's end; a reset after the answer counts as its end."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while True:
            data = conn.recv(65536)
            if not data:
                break
            got += data
    return got


def talk(path: Path, sent: bytes, half_close: bool = True) -> list[Any]:
    """Sends bytes and returns every answer."""
    with connect(path) as conn:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            conn.sendall(sent)
            if half_close:
                conn.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in read_all(conn).splitlines()]


def as_user(uid: int, groups: list[int], act: Callable[[], str]) -> str:
    """What `act` returns in a child process of another user (needs root)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            answer = act()
        except BaseException as exc:  # noqa: BLE001 - a forked child must not return into pytest
            answer = f"child failed: {exc!r}"
        os.write(writing, answer.encode())
        os.kill(os.getpid(), signal.SIGKILL)  # no exit handler of pytest's may run here
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    return answer


@contextlib.contextmanager
def without_a_free_descriptor() -> Iterator[None]:
    """Every descriptor that this process may have is in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in used:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
