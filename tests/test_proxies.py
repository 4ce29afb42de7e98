"""Which proxy the environment names, and how one is spoken to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.proxies import Proxy, proxy_for
from ngrokd.cloud.transport import NoAnswer, Transport, wire_name
from tests.cloud_fake import Authority, FakeApi, Reply

API = "https://api.ngrok.com"


@pytest.mark.parametrize(
    ("environ", "url", "place"),
    [
        ({}, API, None),
        ({"https_proxy": ""}, API, None),
        ({"https_proxy": "http://proxy:3128"}, API, ("proxy", 3128)),
        ({"HTTPS_PROXY": "http://proxy:3128"}, API, ("proxy", 3128)),
        ({"https_proxy": "proxy:3128"}, API, ("proxy", 3128)),
        ({"https_proxy": " http://proxy/ "}, API, ("proxy", 80)),
        ({"https_proxy": "HTTP://[::1]:8080"}, API, ("::1", 8080)),
        ({"https_proxy": "http://low", "HTTPS_PROXY": "http://up"}, API, ("low", 80)),
        ({"https_proxy": "", "HTTPS_PROXY": "http://up"}, API, None),
        ({"http_proxy": "http://proxy"}, API, None),
        ({"http_proxy": "http://proxy"}, "http://api.test", ("proxy", 80)),
        ({"HTTP_PROXY": "http://proxy"}, "http://api.test", ("proxy", 80)),
        # A CGI program's client can set this one.
        ({"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}, "http://api.test", None),
    ],
)
def test_the_variable_of_the_scheme_names_the_proxy(
    environ: dict[str, str], url: str, place: Optional[tuple[str, int]]
) -> None:
    found = proxy_for(url, environ)
    assert (found and (found.host, found.port)) == place


@pytest.mark.parametrize(
    ("exempt", "direct"),
    [
        ("*", True),
        ("api.ngrok.com", True),
        ("ngrok.com", True),
        (".ngrok.com", True),
        ("localhost, .NGROK.com ", True),
        ("api.ngrok.com:8443", True),
        ("ngrok.com:8443", True),
        ("", False),
        (",", False),
        ("grok.com", False),
        ("api.ngrok.com:443", False),
        ("xapi.ngrok.com", False),
        ("com.ngrok", False),
    ],
)
def test_no_proxy_names_hosts_and_domains(exempt: str, direct: bool) -> None:
    environ = {"https_proxy": "http://proxy", "NO_PROXY": exempt}
    assert (proxy_for("https://API.ngrok.com:8443/x", environ) is None) is direct


def test_user_and_password_are_decoded_and_not_shown() -> None:
    found = proxy_for(API, {"https_proxy": "http://me:p%40ss@proxy:1"})
    assert found == Proxy("https_proxy", "proxy", 1, "Basic bWU6cEBzcw==")
    assert "bWU6" not in repr(found)


@pytest.mark.parametrize("value", ["socks5://proxy:1080", "http://", "http://x:99999", "a b:c"])
def test_what_is_no_http_proxy_is_named_by_its_variable(value: str) -> None:
    with pytest.raises(ValueError, match="https_proxy"):
        proxy_for(API, {"https_proxy": value})


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_a_proxy_none_or_a_value_error(value: str, exempt: str) -> None:
    try:
        found = proxy_for(API, {"https_proxy": value, "no_proxy": exempt})
    except ValueError as exc:
        assert "https_proxy" in str(exc)
        return
    assert found is None or (found.host and 0 < found.port < 65536)


# Through one


class Tunnel:
    """A proxy that answers CONNECT with `reply`, and connects to `target` after a 200."""

    def __init__(self, reply: bytes, target: tuple[str, int]) -> None:
        self.asked = b""
        self._reply = reply
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:s3cret@127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Tunnel:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join(10)
        self._listening.close()

    def _serve(self) -> None:
        conn, _ = self._listening.accept()
        with conn:
            while b"\r\n\r\n" not in self.asked:
                self.asked += conn.recv(4096)
            conn.sendall(self._reply)
            if b" 200 " in self._reply:
                with socket.create_connection(self._target) as onward:
                    back = threading.Thread(target=_copy, args=(onward, conn))
                    back.start()
                    _copy(conn, onward)
                    back.join(10)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other direction ended it


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """Answers over TLS as `localhost`, by which it is never found."""
    authority = Authority()
    certificate, key = authority.server("api.test")
    (tmp_path / "server.pem").write_text(certificate + key)
    (tmp_path / "ca.pem").write_text(authority.root_pem() + authority.intermediate_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with FakeApi(lambda _: Reply(200, {"ok": True})) as fake:
        fake.use_tls(tmp_path / "server.pem")
        yield fake


def test_https_goes_through_a_tunnel_that_knows_neither_key_nor_path(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(api.url.rpartition(":")[2])
    with Tunnel(b"HTTP/1.1 200 Connection established\r\n\r\n", ("127.0.0.1", port)) as tunnel:
        monkeypatch.setenv("https_proxy", tunnel.url)
        monkeypatch.delenv("no_proxy", raising=False)
        transport = Transport("https://api.test", 5)
        answer = transport.send("GET", "https://api.test/x?y=z", {"Authorization": "Key"}, None)
    assert (answer.status, answer.body) == (200, b'{"ok": true}')
    head = tunnel.asked.decode()
    assert head.startswith("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n" in head
    assert "Key" not in head and "/x" not in head
    (sent,) = api.requests
    assert (sent.path, sent.headers["host"]) == ("/x?y=z", "api.test")
    assert "proxy-authorization" not in sent.headers


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 407 Who\r\n\r\n", "answered 407 to CONNECT api.test:443: give the user"),
        (b"HTTP/1.1 503 No\r\n\r\n", "answered 503 to CONNECT api.test:443"),
        (b"hello\r\n\r\n", "what came is not HTTP"),
        (b"", "closed without an answer"),
    ],
)
def test_a_tunnel_that_is_refused_is_told_with_the_proxy(
    reply: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tunnel(reply, ("", 0)) as tunnel:
        monkeypatch.setenv("https_proxy", tunnel.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(NoAnswer) as caught:
            Transport("https://api.test", 5).send("GET", "https://api.test/", {}, None)
    assert words in str(caught.value)
    assert "through the proxy that https_proxy names" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_header_cannot_end_its_line() -> None:
    transport = Transport("http://127.0.0.1:1", 1)
    with pytest.raises(NoAnswer, match="line break"):
        transport.send("GET", "http://127.0.0.1:1/", {"X": "a\r\nY: b"}, None)


def test_a_name_that_is_not_ascii_is_still_one() -> None:
    assert wire_name("api.ngrok.com") == b"api.ngrok.com"
    assert wire_name("bücher.example") == "bücher.example"
