"""Where an endpoint has no address of its own: real programs and servers, and the Host they get."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import programs
from tests.integration.netns import receive_all, receive_exactly
from tests.integration.site import Daemon, Site
from tests.integration.test_real_programs import _echoed, _upgrade

pytestmark = pytest.mark.root

TCP_PORT, PORT, OWN_PORT = 9080, 9081, 9082  # given in the order of host and port
WEB = f"http://127.0.0.1:{PORT}"
ASKED = b"GET /host HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MIB = 1 << 20


@pytest.fixture(scope="module")
def daemon(shared_site: Site) -> Iterator[Daemon]:
    """Ready; everything listens on 127.0.0.1, one after the other from PORT."""
    site = shared_site
    site.keep(programs.peers(site.namespace, site.network, "websocket=8090"))
    site.keep(programs.nginx(site.namespace, site.network, site.folder / "web", 8080, 8090))
    (site.folder / "web" / "www" / "up").mkdir()
    site.start_cloud(
        "http://web.ns=127.0.0.1:8080",
        "http://web.ns:8000=127.0.0.1:8080",
        "tcp://plain.ns:1=127.0.0.1:8080",
    )
    daemon = site.start_daemon({"net": {"listen_interface": "127.0.0.1"}}).ready()
    assert {url: each["network_port"] for url, each in daemon.endpoints().items()} == {
        "tcp://plain.ns:1": TCP_PORT,
        "http://web.ns": PORT,
        "http://web.ns:8000": OWN_PORT,
    }
    yield daemon
    assert daemon.matching(" (ERROR|CRITICAL) |Traceback") == []


def curl(site: Site, *words: object) -> str:
    return str(site.run("curl", "-sS", "-m", "20", *words).stdout)


def test_the_server_sees_the_host_of_the_url_whatever_the_client_called_it(
    shared_site: Site, daemon: Daemon
) -> None:
    assert curl(shared_site, f"{WEB}/host") == "web.ns\n"
    assert curl(shared_site, f"http://localhost:{PORT}/host") == "web.ns\n"
    assert curl(shared_site, "-H", "Host: other", f"{WEB}/host") == "web.ns\n"
    assert curl(shared_site, "-0", f"{WEB}/host") == "web.ns\n"


def test_a_port_in_the_url_is_part_of_the_host(shared_site: Site, daemon: Daemon) -> None:
    assert curl(shared_site, f"http://127.0.0.1:{OWN_PORT}/host") == "web.ns:8000\n"


def test_what_is_not_http_keeps_whatever_it_says(shared_site: Site, daemon: Daemon) -> None:
    assert curl(shared_site, f"http://127.0.0.1:{TCP_PORT}/host") == f"127.0.0.1:{TCP_PORT}\n"


@pytest.mark.parametrize("option", ["--http1.1", "--http2"])
def test_curl_keeps_its_connection_and_every_request_gets_the_host(
    shared_site: Site, daemon: Daemon, option: str
) -> None:
    # With --http2 the first request asks for h2c, which nginx ignores.
    urls = [f"{WEB}/host"] * 5
    out = curl(shared_site, option, "-w", "%{num_connects} %{http_version}\n", *urls)
    assert out == "web.ns\n1 1.1\n" + "web.ns\n0 1.1\n" * 4


def test_http2_from_the_first_byte_is_left_alone(shared_site: Site, daemon: Daemon) -> None:
    done = shared_site.run(
        *("curl", "-sS", "-m", "20", "--http2-prior-knowledge", f"{WEB}/host"), check=False
    )
    # This nginx speaks HTTP/1 only, and says so as soon as the preface is there.
    assert done.returncode != 0 and "timed out" not in done.stderr


@pytest.mark.parametrize("how", [["-H", "Expect:"], [], ["-H", "Transfer-Encoding: chunked"]])
def test_uploads_arrive_whole_and_the_next_request_of_the_connection_gets_the_host(
    shared_site: Site, daemon: Daemon, how: list[str]
) -> None:
    body = shared_site.folder / "body"
    body.write_bytes(os.urandom(5 * MIB))
    stored: Path = shared_site.folder / "web" / "www" / "up" / "stored"
    stored.unlink(missing_ok=True)

    upload = [*how, "-T", body, f"{WEB}/up/stored"]
    out = curl(shared_site, *upload, "--next", "-w", "%{num_connects}", f"{WEB}/host")

    assert out == "web.ns\n0"
    assert stored.read_bytes() == body.read_bytes()


@pytest.mark.parametrize("end", ["\\r\\n", "\\n"], ids=["CRLF", "LF"])
def test_requests_typed_into_nc_get_the_host(
    shared_site: Site, daemon: Daemon, end: str
) -> None:
    first = f"GET /host HTTP/1.1{end}Host: me{end}{end}"
    last = f"GET /host HTTP/1.1{end}Host: me{end}Connection: close{end}{end}"

    out = shared_site.run("sh", "-c", f"printf '{first}{last}' | nc 127.0.0.1 {PORT}").stdout

    assert out.count("HTTP/1.1 200 OK") == 2 == out.count("\nweb.ns\n")


def test_a_hundred_pipelined_requests_all_get_the_host(shared_site: Site, daemon: Daemon) -> None:
    with shared_site.network.connect("127.0.0.1", PORT) as client:
        client.sendall(ASKED * 100)
        client.shutdown(socket.SHUT_WR)
        answers = receive_all(client)
    assert answers.count(b"\r\n\r\nweb.ns\n") == 100


def test_a_websocket_through_nginx_echoes(shared_site: Site, daemon: Daemon) -> None:
    with shared_site.network.connect("127.0.0.1", PORT) as client:
        client.sendall(ASKED)
        answer = b""
        while not answer.endswith(b"web.ns\n"):
            answer += receive_exactly(client, 1)
        _upgrade(client, "localhost")
        frames = [b"frame %d" % number for number in range(100)]
        assert [_echoed(client, frame) for frame in frames] == frames
        # What looks like a request is none any more.
        assert _echoed(client, ASKED) == ASKED


def test_after_an_upgrade_that_is_not_granted_the_next_request_gets_the_host(
    shared_site: Site, daemon: Daemon
) -> None:
    upgrade = ASKED.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    with shared_site.network.connect("127.0.0.1", PORT) as client:
        client.sendall(upgrade + ASKED + upgrade + ASKED)
        answers = b""
        while answers.count(b"web.ns\n") < 4:
            part = client.recv(1 << 16)
            assert part, answers
            answers += part


def test_no_connection_stays_open(shared_site: Site, daemon: Daemon) -> None:
    daemon.eventually(lambda now: now["connections"]["open"] == 0, "connections stay open")
