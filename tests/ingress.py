"""An mTLS ingress inside the test's own process, whose every step a test decides."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

from ngrokd.forward import wire
from ngrokd.model import Address, Ingress, Target
from tests.certificates import SERVER_NAME

TIMEOUT_S = 10.0
CHUNK = 64 * 1024


class Peer:
    """The server's end of one connection, blocking. Owner: the thread that serves it.

    TLS runs over memory BIOs, so that either side may end first without losing a byte.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.settimeout(TIMEOUT_S)
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._plain = b""

    def handshake(self) -> None:
        """Finish the TLS handshake."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange()
            except ssl.SSLError:
                self.flush()  # the alert
                raise
        self.flush()

    def read_request(self) -> Target:
        """The upgrade request."""
        reader = wire.RequestReader()
        while True:
            target = reader.receive_data(self.read())
            if target is not None:
                self._plain = reader.leftover
                return target

    def answer(self, response: wire.ConnResponse, payload: bytes = b"") -> None:
        """The upgrade answer, with `payload` in the same TLS record."""
        self.send(wire.encode_response(response) + payload)

    def read(self) -> bytes:
        """What comes next; b"" once the client has ended with close_notify."""
        if self._plain:
            plain, self._plain = self._plain, b""
            return plain
        while True:
            try:
                return self.tls.read(CHUNK)
            except ssl.SSLWantReadError:
                self._exchange()
            except ssl.SSLZeroReturnError:
                return b""

    def read_all(self) -> bytes:
        """Everything up to the client's end."""
        parts = bytearray()
        while True:
            part = self.read()
            if not part:
                return bytes(parts)
            parts += part

    def send(self, data: bytes) -> None:
        """All of `data`."""
        for start in range(0, len(data), CHUNK):
            self.tls.write(data[start : start + CHUNK])
            self.flush()

    def end(self) -> None:
        """close_notify; reading goes on. Only after all that has come was read, or before any."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            self.flush()
        self.flush()

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def flush(self) -> None:
        """Send what TLS has ready."""
        data = self._outgoing.read()
        if data:
            self.sock.sendall(data)

    def _exchange(self) -> None:
        self.flush()
        data = self.sock.recv(CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


Handler = Callable[[Peer], None]


def upgraded(serve: Handler) -> Handler:
    """A handler that does what a healthy ingress does first, then `serve`."""

    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse("ep_test", "tcp"))
        serve(peer)

    return handle


def echo(peer: Peer) -> None:
    """Send everything back, then end."""
    while True:
        data = peer.read()
        if not data:
            break
        peer.send(data)
    peer.end()


class TestIngress:
    """Listens on a loopback port and serves every client in a thread of its own. Owner: the test.

    What a handler raises is kept in `faults`.
    """

    __test__ = False

    def __init__(
        self, handle: Handler, server: ssl.SSLContext, client: ssl.SSLContext, ip: str = "127.0.0.1"
    ) -> None:
        self.handle = handle
        self.faults: list[Exception] = []
        self._server = server
        self._client = client
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self.listening = socket.create_server((ip, 0), family=family, backlog=256)
        self.address = Address(ip, self.listening.getsockname()[1])

    @property
    def ingress(self) -> Ingress:
        """What a forwarder is told."""
        return Ingress(SERVER_NAME, (self.address,), self._client)

    def wait(self) -> None:
        """Until every handler has returned by itself."""
        with self._starting:
            handlers = self._threads[1:]
        for thread in handlers:
            thread.join(TIMEOUT_S)

    def __enter__(self) -> TestIngress:
        self._start(threading.Thread(target=self._accept))
        return self

    def __exit__(self, *_: object) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for client in self._clients:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "a test ingress's thread does not end"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            self._clients.append(client)
            self._start(threading.Thread(target=self._serve, args=(client,)))

    def _start(self, thread: threading.Thread) -> None:
        with self._starting:  # a client may be served, and looked for, before it is in the list
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                self.handle(Peer(client, self._server))
            except Exception as exc:  # noqa: BLE001 - the test looks at them
                self.faults.append(exc)
