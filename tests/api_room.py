"""What the tests of the API client share: servers that answer well, badly or by drops, a proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.cloud.api import Api
from ngrokd.errors import ApiError
from tests.cloud_fake import KEY, Authority, FakeApi, Reply, Request

Serve = Callable[[Callable[[Request], Reply]], FakeApi]
Talk = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that answer by a function, and stops them all."""
    running: list[FakeApi] = []

    def start(answer: Callable[[Request], Reply]) -> FakeApi:
        fake = FakeApi(answer)
        fake.__enter__()
        running.append(fake)
        return fake

    yield start
    for fake in running:
        fake.__exit__()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may need one."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(fake: FakeApi, timeout_s: float = 5, key: str = KEY) -> Api:
    return Api(fake.url, key, "1.2.3", timeout_s)


def page(*urls: str, link: object = None) -> Reply:
    items = [{"id": f"ep_{number}", "url": url} for number, url in enumerate(urls)]
    return Reply(200, {"endpoints": items, "uri": "x", "next_page_uri": link})


def fails(fake: FakeApi, timeout_s: float = 5) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client(fake, timeout_s).bound_endpoints("k8sop_1")
    return caught.value


def shows_a_piece(text: str, key: str = KEY) -> bool:
    """Eight characters of the key that follow each other."""
    return any(key[at : at + 8] in text for at in range(len(key) - 7))


def closed_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def trusted_server(fake: FakeApi, folder: Path, name: str, authority: Authority) -> None:
    """From now on by TLS; who trusts the authority in ca.pem of the folder trusts it."""
    (folder / "ca.pem").write_text(authority.root_pem() + authority.intermediate_pem())
    certificate, key = authority.server(name)
    (folder / "server.pem").write_text(certificate + key)
    fake.use_tls(folder / "server.pem")


class RawServer:
    """Talks to each client by a function that gets the socket, until it returns or all ends."""

    def __init__(self, talk: Talk) -> None:
        self.stop = threading.Event()
        self._talk = talk
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> RawServer:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):  # it has ended already
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the client leaves, as it should
            self._talk(connection)


def dripping(start: bytes, drop: bytes, stop: Callable[[], threading.Event]) -> Talk:
    """Answers with `start`, then with a drop each 50 ms: no single read would time out."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(start)
        while not stop().wait(0.05):
            connection.sendall(drop)

    return talk


class Proxy:
    """An HTTP proxy that does CONNECT, whatever the name, to one port; it remembers all it saw."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 Fine\r\n\r\n") -> None:
        self.seen = b""
        self.heads: list[bytes] = []
        self._port = port
        self._answer = answer
        self.server = RawServer(self._talk)

    def _talk(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return
            head += piece
        self.heads.append(head)
        self.seen += head
        connection.sendall(self._answer)
        if b" 200 " not in self._answer:
            return
        with socket.create_connection(("127.0.0.1", self._port)) as far:
            back = threading.Thread(target=self._copy, args=(far, connection))
            back.start()
            self._copy(connection, far)
            back.join(10)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(65536)
                if not piece:
                    break
                self.seen += piece
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def resolving(place: Optional[list[tuple[str, int]]] = None) -> Callable[..., object]:
    """A `getaddrinfo` that knows any name, at these places; None: at 127.0.0.1."""

    def look_up(host: str, port: int, *_: object) -> list[object]:
        places = place if place is not None else [("127.0.0.1", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in places]

    return look_up
