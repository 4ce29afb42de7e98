"""A list's pages come over one connection; none is lost or mistaken where the server ends it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.cloud import transport
from ngrokd.cloud.api import Api
from ngrokd.cloud.transport import NoAnswer, Transport
from ngrokd.errors import ApiUnavailable
from tests.api_room import Proxy, RawServer, no_proxies
from tests.cloud_fake import KEY, Authority

__all__ = ["no_proxies"]  # fixtures

PAGES = 5


def answer(number: int) -> bytes:
    """Page `number` of a list of PAGES."""
    link = f"/kubernetes_operators/o/bound_endpoints?page={number + 1}"
    following = link if number + 1 < PAGES else None
    content = json.dumps({"endpoints": [{"id": f"ep_{number}"}], "next_page_uri": following})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode()


class Lister(RawServer):
    """Answers for pages; `deal` says how, by connection and request, both counted from 0."""

    def __init__(
        self,
        deal: Callable[[int, int, bytes], Optional[bytes]],
        context: Optional[ssl.SSLContext] = None,
    ) -> None:
        """`deal` gets the answer that is due; None: the connection is closed without one."""
        super().__init__(self._talk_to)
        self.requests: list[list[bytes]] = []  # heads, of each connection
        self._deal = deal
        self._context = context

    def __enter__(self) -> Lister:
        super().__enter__()
        return self

    def _talk_to(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        heads: list[bytes] = []
        self.requests.append(heads)
        mine = len(self.requests) - 1
        with connection:
            while head := _head(connection):
                heads.append(head)
                page = int(head.partition(b"page=")[2].partition(b" ")[0] or 0)
                dealt = self._deal(mine, len(heads) - 1, answer(page))
                if dealt is None:
                    return
                connection.sendall(dealt)
                if b"close" in dealt.partition(b"\r\n\r\n")[0]:
                    return

    @property
    def counts(self) -> list[int]:
        """Requests of each connection."""
        return [len(heads) for heads in self.requests]


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            return b""
        head += piece
    return head


def whole(_connection: int, _request: int, due: bytes) -> bytes:
    return due


def listed(url: str, timeout_s: float = 5) -> list[str]:
    """The ids of a list, and so that it is whole."""
    found = Api(url, KEY, "1", timeout_s, pause=lambda _: None).bound_endpoints("o").each()
    return [item["id"] for item in found if isinstance(item, dict)]


ALL = [f"ep_{number}" for number in range(PAGES)]


def test_the_pages_of_a_list_come_over_one_connection() -> None:
    with Lister(whole) as server:
        assert listed(server.url) == ALL
        assert server.counts == [PAGES]
        assert not any(b"\r\nConnection:" in head for head in server.requests[0])


def test_each_list_has_a_connection_of_its_own_and_everything_else_one_for_each_request() -> None:
    with Lister(whole) as server:
        api = Api(server.url, KEY, "1", 5)
        api.bound_endpoints("o")
        api.bound_endpoints("o")
        api.get_operator("o")
        api.get_operator("o")
        assert server.counts == [PAGES, PAGES, 1, 1]
        assert b"\r\nConnection: close\r\n" in server.requests[2][0]


def _context(folder: Path, authority: Authority) -> ssl.SSLContext:
    certificate, key = authority.server("localhost")
    (folder / "ca.pem").write_text(authority.root_pem() + authority.intermediate_pem())
    (folder / "server.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def test_a_list_by_tls_needs_one_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Lister(whole, _context(tmp_path, Authority())) as server:
        assert listed(f"https://localhost:{server.port}") == ALL
        assert server.counts == [PAGES]


def test_a_server_that_ends_each_connection_by_tls_loses_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Lister(at_most(2), _context(tmp_path, Authority())) as server:
        assert listed(f"https://localhost:{server.port}") == ALL


def test_a_list_goes_through_one_tunnel_of_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Lister(at_most(3), _context(tmp_path, Authority())) as server:
        proxy = Proxy(server.port)
        with proxy.server:
            place = proxy.server.url.partition("//")[2]
            monkeypatch.setenv("https_proxy", f"http://bob:word@{place}")
            monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: False)
            monkeypatch.setattr(transport, "is_loopback", lambda url: False)
            assert listed("https://localhost") == ALL
    assert len(proxy.heads) == 2  # the server closed the first one after three pages
    assert all(b"Proxy-Authorization: Basic" in head for head in proxy.heads)
    assert not any(b"Proxy-Authorization" in head for heads in server.requests for head in heads)


def test_a_list_by_http_goes_over_one_connection_to_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Lister(whole) as proxy:
        monkeypatch.setenv("http_proxy", f"http://bob:word@127.0.0.1:{proxy.port}")
        assert listed("http://api.test") == ALL
        assert proxy.counts == [PAGES]
        assert proxy.requests[0][1].startswith(b"GET http://api.test/kubernetes_operators/o/")
        assert all(b"\r\nProxy-Authorization: Basic" in head for head in proxy.requests[0])


# A server that ends connections


def at_most(count: int) -> Callable[[int, int, bytes], Optional[bytes]]:
    """So many answers a connection; it is closed when one more is asked for."""
    return lambda _connection, request, due: due if request < count else None


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_page_whose_connection_was_closed_is_asked_for_again(count: int) -> None:
    with Lister(at_most(count)) as server:
        assert listed(server.url) == ALL
        assert sum(min(each, count) for each in server.counts) == PAGES


def test_a_server_that_announces_the_end_of_each_connection_is_asked_once_for_each_page() -> None:
    def deal(_connection: int, _request: int, due: bytes) -> bytes:
        return due.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    with Lister(deal) as server:
        assert listed(server.url) == ALL
        assert server.counts == [1] * PAGES


def test_a_request_on_a_new_connection_is_not_sent_twice() -> None:
    with Lister(at_most(0)) as server:
        with pytest.raises(ApiUnavailable, match="closed the connection without an answer"):
            listed(server.url)
        assert server.counts == [1]


def test_a_page_is_asked_for_again_once_and_no_more() -> None:
    def deal(connection: int, request: int, due: bytes) -> Optional[bytes]:
        return due if connection == request == 0 else None

    with Lister(deal) as server:
        with pytest.raises(ApiUnavailable, match="closed the connection without an answer"):
            listed(server.url)
        assert server.counts == [2, 1]


def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one() -> None:
    lie = answer(PAGES - 1).replace(b"ep_", b"no_")

    def deal(_connection: int, request: int, due: bytes) -> bytes:
        return due + lie * 200 if request == 0 else due  # more than is read along with an answer

    with Lister(deal) as server:
        assert listed(server.url) == ALL


def test_an_answer_that_broke_off_leaves_nothing_for_the_next_request() -> None:
    def deal(connection: int, request: int, due: bytes) -> bytes:
        # All that is read of it before it is given up, so that nothing of it waits by then.
        large = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * (17 << 16)
        return large if connection == request == 0 else due

    with Lister(deal) as server, Transport(server.url, 5).keeping() as kept:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport, "MAX_BODY_BYTES", 1 << 20)
            with pytest.raises(NoAnswer, match="larger than 1 MiB"):
                kept.send("GET", server.url, {}, None)
        assert kept.send("GET", server.url, {}, None).body.startswith(b'{"endpoints"')
        assert server.counts == [1, 1]


def test_a_list_that_has_to_wait_keeps_no_connection_meanwhile() -> None:
    def deal(connection: int, request: int, due: bytes) -> bytes:
        busy = b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\n{}"
        return busy if (connection, request) == (0, 2) else due

    with Lister(deal) as server:
        assert listed(server.url) == ALL
        assert server.counts == [3, PAGES - 2]


# Bounds


@pytest.mark.parametrize("drops", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"])
def test_each_answer_over_a_kept_connection_has_a_deadline_of_its_own(drops: bytes) -> None:
    def deal(_connection: int, request: int, due: bytes) -> bytes:
        if request < 3:
            server.stop.wait(0.2)
            return due
        return drops  # and then nothing more

    with Lister(deal) as server:
        began = time.monotonic()
        with pytest.raises(ApiUnavailable, match=r"within 0\.4 s"):
            listed(server.url, timeout_s=0.4)
        assert 0.99 < time.monotonic() - began < 3
        assert server.counts == [4]


@contextlib.contextmanager
def _many_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 100:
        pytest.skip(f"no {count} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 100), hard))
    used = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while used[-1] < count:
            used.append(os.dup(used[0]))
        yield
    finally:
        for each in used:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_listeners_are_no_hindrance() -> None:
    """select(2) knows no descriptor beyond 1,023."""
    with Lister(whole) as server, _many_descriptors(1100):
        assert listed(server.url) == ALL
        assert server.counts == [PAGES]
