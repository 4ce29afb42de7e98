"""A CA certificate is fetched over verified TLS, from where was said and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngrokd import __version__
from ngrokd.cloud import cafetch, ngrokca
from ngrokd.errors import HostError
from tests.cloud_fake import Authority, FakeApi, Reply

AUTHORITY = Authority()


def test_what_is_there_comes_whole() -> None:
    with FakeApi(lambda request: Reply(body=b"a certificate")) as server:
        assert cafetch.fetch(f"{server.url}/ca.crt") == b"a certificate"
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/ca.crt")
    assert request.headers["user-agent"] == f"ngrokd/{__version__}"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("knows_the_ca", [True, False])
def test_an_https_server_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_the_ca: bool
) -> None:
    certificate, key = AUTHORITY.server("localhost")
    (tmp_path / "pair.pem").write_text(certificate + AUTHORITY.intermediate_pem() + key)
    (tmp_path / "root.pem").write_text((AUTHORITY if knows_the_ca else Authority()).root_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    server = FakeApi(lambda request: Reply(body=b"a certificate"))
    server.use_tls(tmp_path / "pair.pem")
    with server:
        if knows_the_ca:
            assert cafetch.fetch(f"{server.url}/ca.crt") == b"a certificate"
        else:
            with pytest.raises(HostError, match="not trusted"):
                cafetch.fetch(f"{server.url}/ca.crt")
    assert len(server.requests) == knows_the_ca


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_and_not_followed(status: int) -> None:
    with FakeApi(lambda request: Reply(body=b"elsewhere")) as elsewhere:
        headers = {"Location": f"{elsewhere.url}/ca.crt"}
        with FakeApi(lambda request: Reply(status, headers=headers)) as server, pytest.raises(
            HostError, match=f"redirects, which is not followed, to {elsewhere.url}"
        ):
            cafetch.fetch(f"{server.url}/ca.crt")
    assert not elsewhere.requests


def test_an_error_is_told_with_its_status() -> None:
    with FakeApi(lambda request: Reply(404, body=b"Not Found")) as server, pytest.raises(
        HostError, match="cannot be fetched: it answers with HTTP status 404"
    ):
        cafetch.fetch(server.url)


def test_a_server_that_is_away_is_told() -> None:
    with FakeApi(lambda request: Reply()) as server:
        url = server.url
    with pytest.raises(HostError, match=f"{url} cannot be fetched: Connection refused"):
        cafetch.fetch(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/ca.crt",
        "http://ngrok.example/ca.crt",
        "ftp://127.0.0.1/ca.crt",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@ngrok.example/",
        "https://ngrok.example:0/",
        "https://ngrok.example:99999/",
        "https://[::1/",
    ],
)
def test_only_https_is_used_and_plain_http_on_this_machine_alone(url: str) -> None:
    with pytest.raises(HostError, match=r"https:// URL|not a URL"):
        cafetch.fetch(url)


def test_a_url_is_told_from_a_file() -> None:
    assert cafetch.is_url(ngrokca.URL)
    assert not cafetch.is_url("/tmp/ca.crt") and not cafetch.is_url("ca.crt")
