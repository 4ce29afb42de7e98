"""The options of a socket, by the names and numbers that each kernel has for them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ngrokd.forward import sockets

LINUX = SimpleNamespace(TCP_KEEPIDLE=4, TCP_KEEPINTVL=5, TCP_KEEPCNT=6)
MACOS = SimpleNamespace(TCP_KEEPALIVE=0x10, TCP_KEEPINTVL=0x101, TCP_KEEPCNT=0x102)
MACOS_OF_PYTHON_3_9 = SimpleNamespace(TCP_KEEPINTVL=0x101, TCP_KEEPCNT=0x102)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (LINUX, (4, 5, 6)),
        (MACOS, (0x10, 0x101, 0x102)),
        (MACOS_OF_PYTHON_3_9, (0x10, 0x101, 0x102)),
        (SimpleNamespace(), (0x10, 0x101, 0x102)),
    ],
)
def test_probes_are_asked_for_by_the_names_of_each_kernel(
    names: SimpleNamespace, options: tuple[int, int, int]
) -> None:
    assert sockets.keepalive_options(names) == tuple(zip(options, (60, 15, 4)))


def test_the_kernel_takes_the_probes() -> None:
    with socket.socket() as sock:
        sockets.prepare(sock)
        for option, value in sockets.keepalive_options(socket):
            assert sock.getsockopt(socket.IPPROTO_TCP, option) == value


class OfMacos:
    """A socket whose kernel knows TIOCOUTQ of terminals alone (soo_ioctl, in_control of XNU)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, 0x1024)
        return 4711


@pytest.fixture
def no_terminal() -> Iterator[int]:
    """A descriptor on which TIOCOUTQ really is refused."""
    reading, writing = os.pipe()
    yield writing
    os.close(reading)
    os.close(writing)


def test_where_the_kernel_counts_what_is_unsent_by_an_option_that_is_asked(
    no_terminal: int,
) -> None:
    assert sockets.unsent(OfMacos(no_terminal)) == 4711  # type: ignore[arg-type]


def test_what_else_is_wrong_with_the_socket_is_not_hidden() -> None:
    with socket.socket() as sock:
        pass
    with pytest.raises(ValueError, match="-1"):
        sockets.unsent(sock)
    closed = os.dup(0)
    os.close(closed)
    with pytest.raises(OSError) as raised:
        sockets.unsent(OfMacos(closed))  # type: ignore[arg-type]
    assert raised.value.errno == errno.EBADF
