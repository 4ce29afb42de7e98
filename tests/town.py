"""A forwarder in the test's own process, with clients and real sockets."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.forward.forwarder import Forwarder
from ngrokd.model import Address, Counters, Route, Target
from tests.certificates import Contexts
from tests.ingress import TIMEOUT_S, Handler, TestIngress

TARGET = Target("web.ns", 80)
COLD = ForwardSettings(warm_connections="off")  # an ingress sees the clients' connections only
RESET = b"\1\0\0\0\0\0\0\0"


class Town:
    """A forwarder, one listener to TARGET, and clients. Owner: the test."""

    def __init__(
        self,
        settings: Optional[ForwardSettings] = None,
        make_selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector,
    ) -> None:
        self.crashes: list[BaseException] = []
        self.forwarder = Forwarder(settings or COLD, self.crashes.append, make_selector)
        self.forwarder.start()
        self.address = self.listen(TARGET)

    def listen(self, target: Target) -> Address:
        sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        address = Address(*sock.getsockname())
        self.forwarder.add_listener(sock, Route(target))
        return address

    def connect(self, address: Optional[Address] = None) -> socket.socket:
        where = address or self.address
        return socket.create_connection((where.ip, where.port), TIMEOUT_S)

    def counters(self, target: Target = TARGET) -> Counters:
        return self.forwarder.counters().get(target, Counters())

    def close(self) -> None:
        self.forwarder.stop()
        assert self.crashes == []


def serve(town: Town, contexts: Contexts, handle: Handler) -> TestIngress:
    """An ingress to be used with `with`, already known to the forwarder."""
    ingress = TestIngress(handle, contexts.server, contexts.client)
    town.forwarder.set_ingress(ingress.ingress)
    return ingress


def read_all(client: socket.socket) -> bytes:
    parts = bytearray()
    while True:
        part = client.recv(1 << 16)
        if not part:
            return bytes(parts)
        parts += part


def wait_until(holds: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """For what a thread does next, where it signals nothing."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never became true"
        threading.Event().wait(0.005)


def wait_until_closed(town: Town) -> None:
    idle = threading.Event()
    town.forwarder.when_idle(idle.set)
    assert idle.wait(TIMEOUT_S)
    assert town.forwarder.open_connections() == 0


def turns(town: Town, for_s: float = 0.2) -> int:
    """How often the loop is seen to have turned; no more than half a hundred times is looked."""
    seen = set()
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        seen.add(town.forwarder.heartbeat())
        threading.Event().wait(0.004)
    return len(seen)


def wait_until_still(value: Callable[[], int], still_s: float = 0.3) -> int:
    """The value once it has not changed for a while."""
    last, since = value(), time.monotonic()
    deadline = since + TIMEOUT_S
    while time.monotonic() - since < still_s:
        assert time.monotonic() < deadline, "it goes on for ever"
        threading.Event().wait(0.002)
        if value() != last:
            last, since = value(), time.monotonic()
    return last


def kernel_buffers() -> int:
    """What one loopback connection may keep in the kernel, both ends."""
    limits = [Path(f"/proc/sys/net/ipv4/tcp_{which}").read_text() for which in ("rmem", "wmem")]
    return sum(int(limit.split()[2]) for limit in limits)


def read_until_reset(client: socket.socket) -> bytes:
    received = bytearray()
    with pytest.raises(ConnectionResetError):
        while True:
            part = client.recv(1 << 16)
            assert part, "an end in order, of a stream that has none"
            received += part
    return bytes(received)
