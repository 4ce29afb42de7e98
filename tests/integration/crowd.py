"""Many connections of one test at once, driven by one selector."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.integration.netns import Network

PATIENCE_S = 40.0
CHUNK = 1 << 16


@dataclass
class _Member:
    sock: socket.socket
    to_send: memoryview
    to_receive: int
    got: bytearray = field(default_factory=bytearray)


class Crowd:
    """Connections that are open together. Owner: the test."""

    def __init__(self, network: Network, addresses: Sequence[tuple[str, int]]) -> None:
        with network.entered():
            self.sockets = [
                socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in addresses
            ]
        for sock, address in zip(self.sockets, addresses):
            sock.setblocking(False)
            error = sock.connect_ex(address)
            assert error in (0, errno.EINPROGRESS), errno.errorcode[error]

    def exchange(self, payloads: Sequence[bytes]) -> list[bytes]:
        """Each sends its payload, all at the same time, and reads as much back as it sent."""
        members = [
            _Member(sock, memoryview(payload), len(payload))
            for sock, payload in zip(self.sockets, payloads)
        ]
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            for member in members:
                selector.register(member.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, member)
            while selector.get_map() and time.monotonic() < deadline:
                for key, events in selector.select(1):
                    _turn(selector, key.data, events)
        return [bytes(member.got) for member in members]

    def close(self) -> None:
        """All of them."""
        for sock in self.sockets:
            sock.close()


def _turn(selector: selectors.BaseSelector, member: _Member, events: int) -> None:
    """An end or a reset ends this member alone: what it got shows it."""
    try:
        if events & selectors.EVENT_WRITE and member.to_send:
            member.to_send = member.to_send[member.sock.send(member.to_send) :]
            if not member.to_send:
                selector.modify(member.sock, selectors.EVENT_READ, member)
        if events & selectors.EVENT_READ:
            part = member.sock.recv(CHUNK)
            member.got += part
            if not part or len(member.got) >= member.to_receive:
                selector.unregister(member.sock)
    except BlockingIOError:
        pass  # a spurious wake-up; the selector tells again
    except OSError:
        selector.unregister(member.sock)
