"""What the kernel sends into a utun: turned around if it is for one of our addresses, else lost."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.netif.reflector import Reflector, is_ours
from ngrokd.host.netif.utunsocket import UtunSocket
from tests.macos.mac import Mac
from tests.macos.room import UTUN, prepare

OURS = "10.107.0.3"
PATIENCE_S = 10.0


def packet(to: str, family: int = 2, version: int = 4, body: bytes = b"hello") -> bytes:
    """From 10.107.0.1, as the kernel writes it into a utun."""
    head = struct.pack("!BBHHHBBH", version << 4 | 5, 0, 20 + len(body), 0, 0, 64, 6, 0)
    addresses = socket.inet_aton("10.107.0.1") + socket.inet_aton(to)
    return struct.pack("!I", family) + head + addresses + body


@pytest.fixture
def wire() -> Iterator[tuple[Reflector, socket.socket]]:
    """A reflector at work, and the kernel's end."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kernel.settimeout(PATIENCE_S)
    reflector = Reflector(ours)
    reflector.serve([OURS])
    reflector.start()
    yield reflector, kernel
    reflector.stop()
    kernel.close()


def test_a_packet_to_one_of_our_addresses_comes_back_as_it_is(
    wire: tuple[Reflector, socket.socket],
) -> None:
    _, kernel = wire
    sent = packet(OURS, body=bytes(range(256)) * 5)
    kernel.send(sent)
    assert kernel.recv(1 << 16) == sent


def test_what_is_for_nobody_is_read_and_forgotten(wire: tuple[Reflector, socket.socket]) -> None:
    _, kernel = wire
    for lost in (packet("10.107.0.4"), packet(OURS, family=30), packet(OURS, version=6), b"\0"):
        kernel.send(lost)
    kernel.send(packet(OURS))
    assert kernel.recv(1 << 16) == packet(OURS), "it is the first that comes back"
    for _ in range(5000):  # many more than a socket holds: unread, they would block
        kernel.send(packet("10.107.200.200", body=b"x" * 1400))
    kernel.send(packet(OURS))
    assert kernel.recv(1 << 16) == packet(OURS)


def test_an_address_is_served_from_when_it_is_ours_until_it_is_not(
    wire: tuple[Reflector, socket.socket],
) -> None:
    reflector, kernel = wire
    reflector.serve(["10.107.0.4"])
    kernel.send(packet(OURS))
    kernel.send(packet("10.107.0.4"))
    assert kernel.recv(1 << 16) == packet("10.107.0.4")


def test_a_kernel_that_takes_nothing_holds_up_nothing(
    wire: tuple[Reflector, socket.socket],
) -> None:
    """What does not fit is lost, as packets are; the next one is served."""
    _, kernel = wire
    for _ in range(5000):
        kernel.send(packet(OURS, body=b"x" * 1400))
    while select.select([kernel], [], [], 0.2)[0]:
        kernel.recv(1 << 16)
    kernel.send(packet(OURS))
    assert kernel.recv(1 << 16) == packet(OURS)


def test_it_ends_when_it_is_told_to_and_when_the_interface_goes() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reflector = Reflector(ours)
    reflector.start()
    thread = reflector._thread
    kernel.close()
    reflector.stop()
    reflector.stop()
    assert thread is not None and not thread.is_alive()
    assert ours.fileno() == -1


def test_a_flood_of_what_nobody_is_served_by_leaves_the_processor_to_others(
    wire: tuple[Reflector, socket.socket],
) -> None:
    _, kernel = wire
    kernel.setblocking(False)
    lost = packet("10.107.200.200", body=b"x" * 1400)
    began, mine = time.monotonic(), time.thread_time()
    spent = time.process_time()
    while time.monotonic() < began + 0.5:
        with contextlib.suppress(BlockingIOError):
            kernel.send(lost)
    theirs = time.process_time() - spent - (time.thread_time() - mine)
    assert theirs < 0.25, "of half a second"
    kernel.settimeout(PATIENCE_S)
    kernel.send(packet(OURS))
    assert kernel.recv(1 << 16) == packet(OURS)


def test_without_descriptors_nothing_is_begun_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = len(os.listdir("/dev/fd"))

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    with pytest.raises(OSError, match="Too many"):
        Reflector(ours)
    assert len(os.listdir("/dev/fd")) == before
    kernel.close()
    ours.close()


def test_a_hundred_utuns_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    mac = Mac()
    before = len(os.listdir("/dev/fd")), threading.active_count()
    for _ in range(100):
        backend = prepare(mac, UTUN, tmp_path)
        assert backend.add(["10.107.0.3"]) == {}
        backend.close()
    assert (len(os.listdir("/dev/fd")), threading.active_count()) == before


def test_it_can_be_stopped_before_it_is_started() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    Reflector(ours).stop()
    assert ours.fileno() == -1
    kernel.close()


def test_a_utun_serves_its_endpoints_and_its_own_address(tmp_path: Path) -> None:
    mac = Mac()
    backend = prepare(mac, UTUN, tmp_path)
    kernel = mac.wires["utun1"]
    kernel.settimeout(PATIENCE_S)
    backend.add(["10.107.0.3"])
    for ip in ("10.107.0.1", "10.107.0.3"):
        kernel.send(packet(ip))
        assert kernel.recv(1 << 16) == packet(ip)
    backend.remove(["10.107.0.3"])
    kernel.send(packet("10.107.0.3"))
    kernel.send(packet("10.107.0.1"))
    assert kernel.recv(1 << 16) == packet("10.107.0.1")
    backend.close()


@given(st.binary(max_size=80))
def test_no_bytes_are_taken_for_ours_that_are_not(data: bytes) -> None:
    ours = frozenset((socket.inet_aton(OURS),))
    if is_ours(data, ours):
        assert len(data) >= 24 and data[:4] == b"\0\0\0\2" and data[20:24] in ours
    assert not is_ours(data, frozenset())


@given(st.integers(min_value=0, max_value=24))
def test_a_packet_that_is_cut_is_not_ours(length: int) -> None:
    ours = frozenset((socket.inet_aton(OURS),))
    assert is_ours(packet(OURS)[:length], ours) == (length >= 24)


def test_a_utun_socket_is_closed_where_it_leads_nowhere() -> None:
    mac = Mac()
    mac.kernel.root = False
    with pytest.raises(Exception, match="operation not permitted"):
        mac.open_utun(-1)
    mac.kernel.root = True
    made = mac.open_utun(-1)
    assert isinstance(made, UtunSocket) and made.name == "utun1"
    assert mac.open_utun(-1).name == "utun2"
    made.sock.close()
    assert mac.open_utun(-1).name == "utun1"
