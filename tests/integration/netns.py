"""Sockets of the test process itself that live in a namespace's network."""

from __future__ import annotations

import ctypes
import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.namespace import Namespace

CLONE_NEWNET = 0x40000000  # linux/sched.h
PATIENCE_S = 20.0
PAUSE_S = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """The network of a namespace, as seen from any thread of the test."""

    def __init__(self, namespace: Namespace) -> None:
        self._hosts = namespace.hosts
        pid = namespace.argv()[1].partition("=")[2]
        self._inside = Path(f"/proc/{pid}/ns/net")
        self._outside = Path(f"/proc/{os.getpid()}/task")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets the calling thread makes meanwhile are inside, and stay there."""
        home = self._outside / str(threading.get_native_id()) / "ns" / "net"
        with open(home, "rb") as back, open(self._inside, "rb") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(back.fileno())

    def new_socket(self) -> socket.socket:
        """A TCP socket, not connected yet."""
        with self.entered():
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def address_of(self, name: str) -> str:
        """What the private hosts file says, as the resolver would read it."""
        for line in self._hosts.read_text().splitlines():
            fields = line.partition("#")[0].split()
            if name in fields[1:]:
                return fields[0]
        raise LookupError(f"{name} does not stand in {self._hosts}")

    def connect(self, name: str, port: int, timeout_s: float = PATIENCE_S) -> socket.socket:
        """Connected to an address, or to a name of the private hosts file."""
        ip = name if name[0].isdigit() else self.address_of(name)
        sock = self.new_socket()
        sock.settimeout(timeout_s)
        try:
            sock.connect((ip, port))
        except OSError:
            sock.close()
            raise
        return sock

    def listen(self, ip: str, port: int) -> socket.socket:
        """A listening socket, to be in somebody's way."""
        sock = self.new_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        sock.listen()
        return sock

    def http(
        self, port: int, method: str, path: str, body: bytes = b"", content_type: str = ""
    ) -> tuple[int, bytes]:
        """(status, body) of one request to a server on 127.0.0.1."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        connection.sock = self.connect("127.0.0.1", port)
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the peer's end."""
    parts = []
    while part := sock.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """That many bytes; fewer only if the peer ended."""
    got = bytearray()
    while len(got) < count:
        part = sock.recv(min(1 << 18, count - len(got)))
        if not part:
            break
        got += part
    return bytes(got)
