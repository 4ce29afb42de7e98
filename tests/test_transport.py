"""One request and its answer: connecting, deadlines, sizes, TLS and proxies, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.cloud import api as api_module
from ngrokd.cloud import connection, transport
from ngrokd.cloud.api import Api
from ngrokd.cloud.polling import poll
from ngrokd.cloud.transport import proxy_hosts
from ngrokd.errors import ApiUnavailable
from ngrokd.model import Target
from tests.api_room import (
    Proxy,
    RawServer,
    Serve,
    client,
    closed_url,
    dripping,
    fails,
    no_proxies,
    page,
    resolving,
    serve,
    trusted_server,
)
from tests.cloud_fake import KEY, Authority, FakeApi, Reply, Request
from tests.fair import Stopwatch

__all__ = ["no_proxies", "serve"]  # fixtures


# The network


def test_nobody_listening_is_named_as_the_cause() -> None:
    url = closed_url()
    with pytest.raises(ApiUnavailable) as caught:
        Api(url, KEY, "1").list_operators()
    assert url in str(caught.value) and "Connection refused" in str(caught.value)
    assert caught.value.status is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"endpoints": [',
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"a" * 70_000,
    ],
)
def test_an_answer_that_is_not_http_or_not_whole_is_unavailable(serve: Serve, raw: bytes) -> None:
    error = fails(serve(lambda _: Reply(raw=raw)))
    assert isinstance(error, ApiUnavailable)


def test_a_server_that_never_answers_is_given_up(serve: Serve) -> None:
    fake = serve(lambda _: hang(fake))
    error = fails(fake, timeout_s=0.2)
    assert isinstance(error, ApiUnavailable) and "within 0.2 s" in str(error)


DRIPS = {
    "the status line": (b"", b"H"),
    "a header": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Slow: 1\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
    "a body that ends with the connection": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a chunk's size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b";"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize(("start", "drop"), DRIPS.values(), ids=DRIPS)
def test_a_server_that_drips_is_given_up_at_the_deadline(start: bytes, drop: bytes) -> None:
    with RawServer(dripping(start, drop, lambda: server.stop)) as server:
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match=r"within 0\.3 s"):
            Api(server.url, KEY, "1", timeout_s=0.3).list_operators()
        assert watch.wall() > 0.29 and watch.own() < 2


@pytest.mark.parametrize(
    ("start", "flood"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\n123456789\r\n" * 999),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b";" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
    ],
    ids=["body", "headers", "header", "interim answers", "chunks", "chunk size", "trailers"],
)
def test_an_answer_without_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, start: bytes, flood: bytes
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 1 << 20)

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(start)
        while not server.stop.is_set():
            connection.sendall(flood)

    with RawServer(talk) as server:
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable):
            Api(server.url, KEY, "1", timeout_s=1).list_operators()
        assert watch.own() < 4


def test_a_client_that_leaves_the_stand_in_disturbs_no_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    came, gone = threading.Event(), threading.Event()

    def answer(_: Request) -> Reply:
        came.set()
        assert gone.wait(10)
        return Reply(200, body=b" " * (8 << 20))

    with FakeApi(answer) as fake:
        host, port = fake.url[len("http://") :].split(":")
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert came.wait(10)
        gone.set()
    assert len(fake.requests) == 1
    assert capsys.readouterr().err == ""


def test_an_answer_over_the_bound_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 1 << 20)
    fake = serve(lambda _: Reply(200, body=b" " * ((1 << 20) + 1)))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and "larger than 1 MiB" in str(error)


def test_the_time_that_sending_takes_is_part_of_the_deadline() -> None:
    def talk(far: socket.socket) -> None:
        server.stop.wait(0.8)
        while far.recv(1 << 20):
            pass

    with RawServer(talk) as server:
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match="within 1 s"):
            Api(server.url, KEY, "1", timeout_s=1).create_operator({"x": "y" * (32 << 20)})
        assert watch.wall() > 0.99 and watch.own() < 1.6


def test_a_body_shorter_than_announced_is_cut_short_even_if_it_looks_whole(serve: Serve) -> None:
    raw = b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"endpoints": []}'
    error = fails(serve(lambda _: Reply(raw=raw)))
    assert isinstance(error, ApiUnavailable) and "cut short, 483 bytes" in str(error)


def hang(fake: FakeApi) -> Reply:
    fake.done.wait(10)
    return Reply()


# Connecting


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that swallows whoever connects: nobody takes them, and the queue is full."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        place = listening.getsockname()
        while True:
            one = waiting.enter_context(socket.socket())
            one.settimeout(0.2)
            try:
                one.connect(place)
            except socket.timeout:
                break
        yield place


def test_who_swallows_connections_is_given_up_at_the_shorter_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.3)
    with black_hole() as (host, port):
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match=r"no connection came about within 0\.3 s"):
            Api(f"http://{host}:{port}", KEY, "1").list_operators()
        assert watch.wall() > 0.29 and watch.own() < 2


def test_an_address_that_swallows_connections_leaves_time_for_the_next(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 1.0)
    fake = serve(lambda _: page("http://web.ns"))
    with black_hole() as hole:
        good = ("127.0.0.1", int(fake.url.rpartition(":")[2]))
        places = [hole, ("127.0.0.1", int(closed_url().rpartition(":")[2])), good]
        monkeypatch.setattr(socket, "getaddrinfo", resolving(places))
        watch = Stopwatch()
        assert len(Api("http://api.test", KEY, "1").bound_endpoints("o").items) == 1
        assert watch.own() < 0.9


def test_a_name_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving([]))
    with pytest.raises(ApiUnavailable, match="its name has no address"):
        Api("http://api.test", KEY, "1").list_operators()


# TLS


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this machine trusts, once its certificates are written there."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return Authority()


def test_https_is_asked_and_bounded_like_http(
    serve: Serve, tmp_path: Path, authority: Authority
) -> None:
    fake = serve(lambda _: page("http://web.ns") if len(fake.requests) == 1 else hang(fake))
    trusted_server(fake, tmp_path, "localhost", authority)
    api = client(fake, timeout_s=0.5)
    assert len(api.bound_endpoints("o").items) == 1
    with pytest.raises(ApiUnavailable, match=r"within 0\.5 s"):
        api.bound_endpoints("o")


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"]
)
def test_a_server_that_drips_by_tls_is_given_up_at_the_deadline(
    tmp_path: Path, authority: Authority, start: bytes
) -> None:
    certificate, key = authority.server("localhost")
    (tmp_path / "ca.pem").write_text(authority.root_pem() + authority.intermediate_pem())
    (tmp_path / "server.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    drip = dripping(start, b"x", lambda: server.stop)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            drip(secure)

    with RawServer(talk) as server:
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match=r"within 0\.3 s"):
            Api(f"https://localhost:{server.port}", KEY, "1", 0.3).list_operators()
        assert watch.own() < 2


def test_a_server_that_never_shakes_hands_is_given_up_at_the_shorter_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.3)

    def talk(_: socket.socket) -> None:
        server.stop.wait(10)

    with RawServer(talk) as server:
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match=r"no connection came about within 0\.3 s"):
            Api(f"https://localhost:{server.port}", KEY, "1").list_operators()
        assert watch.own() < 2


def test_an_api_whose_certificate_is_not_trusted_gets_no_request(
    serve: Serve, tmp_path: Path
) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    trusted_server(fake, tmp_path, "localhost", Authority())
    with pytest.raises(ApiUnavailable, match="its certificate is not trusted"):
        client(fake).bound_endpoints("o")
    assert fake.requests == []


def test_an_api_whose_certificate_is_for_another_name_gets_no_request(
    serve: Serve, tmp_path: Path, authority: Authority
) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    trusted_server(fake, tmp_path, "another.test", authority)
    with pytest.raises(ApiUnavailable, match="its certificate is not trusted"):
        client(fake).bound_endpoints("o")
    assert fake.requests == []


def test_an_api_with_another_key_is_the_same_one_and_loads_no_anchors_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = serve(lambda _: page())
    first = client(fake)
    monkeypatch.setattr(api_module, "Transport", None)  # making a second one would fail
    other = first.with_key(f" {KEY[::-1]}\n")
    other.bound_endpoints("o")
    first.bound_endpoints("o")
    assert [each.headers["authorization"] for each in fake.requests] == [
        f"Bearer {KEY[::-1]}",
        f"Bearer {KEY}",
    ]


# Proxies


def test_a_proxy_of_the_environment_is_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(lambda _: page("http://web.ns"))
    monkeypatch.setenv("http_proxy", proxy.url)
    found = poll(Api("http://api.test", KEY, "1"), "o").discovered
    assert found.endpoints[0].target == Target("web.ns", 80)
    assert proxy.requests[0].path == "http://api.test/kubernetes_operators/o/bound_endpoints"


def test_the_systems_own_settings_are_not_asked_for_a_proxy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS that kills a process that has forked: python/cpython#105912."""

    def crash(*_: object) -> None:
        raise AssertionError("SIGSEGV in _scproxy")

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("urllib.request.getproxies", crash)
    monkeypatch.setattr("urllib.request.proxy_bypass", crash)
    fake = serve(lambda _: page())
    assert client(fake).bound_endpoints("o").items == []
    Api("https://api.test", KEY, "1")
    assert proxy_hosts() == set()


def test_a_loopback_api_is_never_asked_through_a_proxy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", closed_url())
    fake = serve(lambda _: page())
    assert client(fake).bound_endpoints("o").items == []


def test_a_proxy_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", closed_url())
    place = closed_url().partition("//")[2].rpartition(":")[0]
    with pytest.raises(
        ApiUnavailable, match=rf"through the proxy {place}:[0-9]+ that https_proxy names"
    ):
        Api("https://api.test", KEY, "1").list_operators()


@pytest.mark.parametrize(
    ("proxy", "named"),
    [
        ("http://bob:secret@[::1]:1", "the proxy [::1]:1 that"),
        ("bob:secret@127.0.0.1:1", "the proxy 127.0.0.1:1 that"),
        ("http://127.0.0.1:99999", "the proxy that"),
        ("http://bob:1/secret@127.0.0.1:1", "the proxy that"),
        ("http://bob:1#secret@127.0.0.1:1", "the proxy that"),
    ],
)
def test_a_proxy_is_named_by_host_and_port_and_never_by_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str, named: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ApiUnavailable) as caught:
        Api("https://api.test", KEY, "1").list_operators()
    text = str(caught.value)
    assert named in text and "secret" not in text and "bob" not in text


def test_a_server_that_closes_without_an_answer_is_told_so(serve: Serve) -> None:
    error = fails(serve(lambda _: Reply(raw=b"")))
    assert "it closed the connection without an answer" in str(error)


@pytest.mark.parametrize(
    "proxy", ["http://[bad", "http://127.0.0.1:x", "http://127.0.0.1:99999", "::::"]
)
def test_a_proxy_that_is_no_url_is_unavailable_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ApiUnavailable):
        Api("https://api.test", KEY, "1", timeout_s=1).list_operators()


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:80", True),
        ("https://api.ngrok.com", False),
        ("http://127.0.0.1.evil.test", False),
    ],
)
def test_loopback_hosts_are_told_from_others(url: str, loopback: bool) -> None:
    assert transport.is_loopback(url) is loopback


def test_https_goes_through_a_proxy_which_sees_neither_the_key_nor_what_is_asked(
    serve: Serve, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    trusted_server(fake, tmp_path, "api.test", authority)
    proxy = Proxy(int(fake.url.rpartition(":")[2]))
    with proxy.server as server:
        place = f"user:pass%20word@127.0.0.1:{server.port}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{place}")
        assert len(Api("https://api.test", KEY, "1", 5).bound_endpoints("o").items) == 1
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT api.test:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in head
    assert b"Bearer" not in proxy.seen and KEY.encode() not in proxy.seen
    assert b"kubernetes_operators" not in proxy.seen
    assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "proxy-authorization" not in fake.requests[0].headers


def test_a_server_behind_a_proxy_that_is_not_trusted_gets_no_request(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    trusted_server(fake, tmp_path, "api.test", Authority())
    proxy = Proxy(int(fake.url.rpartition(":")[2]))
    with proxy.server as server:
        monkeypatch.setenv("https_proxy", server.url)
        with pytest.raises(ApiUnavailable, match="its certificate is not trusted"):
            Api("https://api.test", KEY, "1", 5).bound_endpoints("o")
    assert fake.requests == [] and KEY.encode() not in proxy.seen


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("value", ["api.test", ".test", "other, api.test", "*"])
def test_no_proxy_is_heeded(
    serve: Serve,
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    trusted_server(fake, tmp_path, "api.test", authority)
    monkeypatch.setenv("https_proxy", closed_url())
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "getaddrinfo", resolving())
    api = Api(f"https://api.test:{fake.url.rpartition(':')[2]}", KEY, "1", 5)
    assert len(api.bound_endpoints("o").items) == 1


def test_a_proxy_that_wants_a_password_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with Proxy(0, refusal).server as server:
        monkeypatch.setenv("https_proxy", server.url)
        with pytest.raises(ApiUnavailable, match=r"407 .* user and password .* https_proxy"):
            Api("https://api.test", KEY, "1", 5).list_operators()


def test_a_proxy_that_drips_is_given_up_at_the_shorter_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.3)
    with RawServer(dripping(b"HTTP/1.1 200 Fine\r\nX: ", b"x", lambda: server.stop)) as server:
        monkeypatch.setenv("https_proxy", server.url)
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match=r"no connection came about within 0\.3 s"):
            Api("https://api.test", KEY, "1").list_operators()
        assert watch.own() < 2


def test_the_proxys_answer_and_the_handshake_share_one_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy answers late, and who is behind it never."""
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 1.0)

    def talk(client: socket.socket) -> None:
        client.recv(65536)
        if not server.stop.wait(0.7):
            client.sendall(b"HTTP/1.1 200 Fine\r\n\r\n")
            server.stop.wait(10)

    with RawServer(talk) as server:
        monkeypatch.setenv("https_proxy", server.url)
        watch = Stopwatch()
        with pytest.raises(ApiUnavailable, match="no connection came about within 1 s"):
            Api("https://api.test", KEY, "1").list_operators()
        assert watch.own() < 1.5


@pytest.mark.parametrize("proxy", ["http:/u:secret@p", "http://u:secret@[p", "http://u:secret@p:x"])
def test_the_proxys_password_is_in_no_message(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ApiUnavailable) as caught:
        Api("https://api.test", KEY, "1", timeout_s=1).list_operators()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("char", [b"a", b"@"])
def test_a_status_line_of_64_kib_takes_no_time(serve: Serve, char: bytes) -> None:
    fake = serve(lambda _: Reply(raw=char * 65_000 + b"\r\n\r\n"))
    started = time.process_time()
    assert "not HTTP" in str(fails(fake))
    assert time.process_time() - started < 2


def test_the_names_of_proxies_are_known_whatever_form_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("urllib.request.getproxies_environment", lambda: {
        "https": "http://me:word@Proxy.corp:3128",
        "http": "plain.corp:8080",
        "ftp": "http://[broken",
        "no": "intranet.corp",
    })
    assert proxy_hosts() == {"proxy.corp", "plain.corp"}
