"""An ingress that refuses, hangs, resets or lies costs only the connection it does that to."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ngrokd.forward.faults import DISTRUST
from ngrokd.model import Cause
from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import HEALTH_PORT, Daemon, Site

pytestmark = pytest.mark.root

CONNECT_TIMEOUT_S = 2
SLACK_S = 2.0  # of a busy machine
WAITING = "in time"
FAULTS: dict[str, tuple[dict[str, Any], str, Cause]] = {
    "refuses": ({"kind": "refuse"}, "refused the TCP connection", Cause.CONNECT_REFUSED),
    "hangs_before_tls": (
        {"kind": "hang", "at": "connect"},
        f"handshake {WAITING}",
        Cause.HANDSHAKE_TIMEOUT,
    ),
    "hangs_after_the_request": (
        {"kind": "hang"},
        f"answer the request.*{WAITING}",
        Cause.UPGRADE_TIMEOUT,
    ),
    "answers_too_slowly": (
        {"kind": "slow", "delay_s": 1.5},
        f"answer the request.*{WAITING}",
        Cause.UPGRADE_TIMEOUT,
    ),
    "resets_before_tls": (
        {"kind": "reset", "at": "connect"},
        "reset the connection",
        Cause.CLOSED_IN_HANDSHAKE,
    ),
    "resets_after_the_request": (
        {"kind": "reset"},
        "reset the connection",
        Cause.CLOSED_IN_UPGRADE,
    ),
    "closes_without_a_word": (
        {"kind": "raw", "hex": ""},
        "closed the connection before.*certificate.*rotate-cert",
        Cause.CERTIFICATE_REFUSED,
    ),
    "has_a_certificate_of_its_own_making": (
        {"kind": "certificate", "identity": "self_signed"},
        "certificate is not trusted.*ngrokctl status",
        Cause.INGRESS_UNTRUSTED,
    ),
    "has_a_certificate_for_another_name": (
        {"kind": "certificate", "identity": "wrong_name"},
        "certificate is not for localhost.*ingressEndpoint",
        Cause.INGRESS_NAME_MISMATCH,
    ),
    "has_an_expired_certificate": (
        {"kind": "certificate", "identity": "expired"},
        "certificate.*expired",
        Cause.INGRESS_CERTIFICATE_DATE,
    ),
    "refuses_the_endpoint": (
        {"kind": "error", "error_code": "ERR_NGROK_706", "error_message": "endpoint not found"},
        "ngrok refused.*ERR_NGROK_706.*endpoint not found",
        Cause.REFUSED_BY_NGROK,
    ),
    "answers_with_nonsense": (
        {"kind": "raw", "hex": "0300ffffff"},
        "broke the protocol",
        Cause.PROTOCOL_BROKEN,
    ),
    "answers_half_a_frame": (
        {"kind": "raw", "hex": "ff000a"},
        "closed the connection in the middle",
        Cause.CLOSED_IN_UPGRADE,
    ),
    "announces_an_endless_frame": (
        {"kind": "raw", "hex": "ffff" + "00" * 64},
        "localhost",
        Cause.CLOSED_IN_UPGRADE,
    ),
}


@pytest.fixture(scope="module")
def daemon(shared_site: Site) -> Daemon:
    """Ready; an endpoint for each fault: the log speaks of each one once in a while."""
    site = shared_site
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    names = ["other", "noticed", *(f"x{number}" for number in range(len(FAULTS)))]
    site.start_cloud(*(f"tcp://{name}.ns:7000=127.0.0.1:7000" for name in names))
    # Without warm connections every client meets the fault that is played.
    forward = {"connect_timeout": CONNECT_TIMEOUT_S, "warm_connections": "off"}
    return site.start_daemon({"forward": forward}).ready()


@pytest.fixture
def client(shared_site: Site, daemon: Daemon) -> Iterator[socket.socket]:
    """A connection of another endpoint that must not notice anything."""
    with shared_site.network.connect("other.ns", 7000) as connection:
        _must_echo(connection)
        yield connection
        _must_echo(connection)
    shared_site.cloud.heal()


def _must_echo(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"hello"


def _asks_in_vain(site: Site, name: str) -> float:
    """Seconds until the daemon closed the connection; nothing was received."""
    began = time.monotonic()
    closed = contextlib.suppress(ConnectionResetError, BrokenPipeError)  # even while connecting
    with closed, site.network.connect(name, 7000) as connection:
        connection.sendall(b"hello")
        assert connection.recv(5) == b""
    return time.monotonic() - began


def _counted(site: Site, name: str) -> dict[str, int]:
    """What the metrics say about failed connections to a name, by cause."""
    _, page = site.network.http(HEALTH_PORT, "GET", "/metrics")
    found = re.findall(
        rf'^ngrokd_connection_failures_total{{hostname="{name}",port="7000",cause="(\w+)"}} (\d+)$',
        page.decode(),
        re.MULTILINE,
    )
    return {cause: int(times) for cause, times in found}


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=FAULTS)
def test_a_client_is_let_go_in_time_with_one_line_that_says_why(
    shared_site: Site, daemon: Daemon, client: socket.socket, number: int
) -> None:
    name, (fault, words, cause) = f"x{number}.ns", list(FAULTS.values())[number]
    since = len(daemon.lines)

    shared_site.cloud.ingress_fault(**fault)
    took = _asks_in_vain(shared_site, name)
    for _ in range(2 if took < 1 else 0):
        _asks_in_vain(shared_site, name)

    assert took < CONNECT_TIMEOUT_S + SLACK_S
    daemon.expect(f"WARNING.*{name}:7000.*{words}", since)
    shown = cause in DISTRUST
    if shown:  # and one line for all clients says what the ingress presents
        daemon.expect("WARNING.*the ingress localhost:4443.*SHA-256", since)
    assert len(daemon.matching(" (WARNING|ERROR|CRITICAL) |Traceback", since)) == 1 + shown
    listed = daemon.endpoints()[f"tcp://{name}:7000"]
    assert listed["state"] == "open"
    assert listed["errors"] == listed["total_connections"] > 0
    assert re.search(words, listed["last_error"])
    assert listed["last_error_cause"] == cause.value
    assert listed["failures"] == {cause.value: listed["errors"]}
    connections = daemon.status()["connections"]
    assert connections["failures"][cause.value] >= listed["errors"]
    assert connections["last_error"] == {
        "at": listed["last_error_at"],
        "hostname": name,
        "port": 7000,
        "cause": cause.value,
        "text": listed["last_error"],
    }
    assert _counted(shared_site, name) == {cause.value: listed["errors"]}
    _must_echo(client)

    shared_site.cloud.heal()
    with shared_site.network.connect(name, 7000) as connection:
        _must_echo(connection)
    daemon.eventually(lambda now: now["problems"] == [], "the ingress is trusted again")


@pytest.mark.parametrize("kind", ["refuse", pytest.param("reset", marks=pytest.mark.long)])
def test_an_ingress_that_dies_while_clients_come_is_a_problem_until_it_is_back(
    shared_site: Site, daemon: Daemon, client: socket.socket, kind: str
) -> None:
    since = len(daemon.lines)
    shared_site.cloud.ingress_fault(kind, at="connect")
    _asks_in_vain(shared_site, "other.ns")
    cannot = "the ingress localhost:4443 cannot be reached"
    daemon.expect(f"WARNING.*{cannot}", since)
    # The status follows the line.
    daemon.eventually(lambda now: now["state"] == "degraded", "it is no problem")
    assert cannot in daemon.status()["problems"][0]

    shared_site.cloud.heal()
    with shared_site.network.connect("other.ns", 7000) as connection:
        _must_echo(connection)
    daemon.expect("INFO.*the ingress localhost:4443 can be reached now", since)
    daemon.eventually(lambda now: now["state"] == "ready", "the problem stays")
    assert len(daemon.matching(cannot, since)) == 1


def test_a_fault_of_one_endpoint_leaves_new_connections_to_others_alone(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    shared_site.cloud.ingress_fault("hang", host="x1.ns")

    hung = shared_site.network.connect("x1.ns", 7000)
    with shared_site.network.connect("other.ns", 7000) as another:
        _must_echo(another)
    hung.close()


def test_an_upstream_that_is_away_is_ngroks_error_with_its_code(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    shared_site.cloud.add("tcp://away.ns:7000", "127.0.0.1:9")
    daemon.refresh()
    since = len(daemon.lines)

    _asks_in_vain(shared_site, "away.ns")

    daemon.expect("WARNING.*away.ns:7000.*ERR_NGROK_8012", since)
    shared_site.cloud.remove("tcp://away.ns:7000")
    daemon.refresh()


def test_a_notice_of_ngroks_is_logged_and_the_connection_works(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    since = len(daemon.lines)
    shared_site.cloud.ingress_fault("notice", error_message="mind the gap", host="noticed.ns")

    with shared_site.network.connect("noticed.ns", 7000) as connection:
        _must_echo(connection)

    daemon.expect("noticed.ns:7000.*mind the gap", since)


def test_people_see_what_failed_and_why(shared_site: Site, daemon: Daemon) -> None:
    shared_site.cloud.ingress_fault("error", error_code="ERR_NGROK_706", host="other.ns")
    _asks_in_vain(shared_site, "other.ns")
    shared_site.cloud.heal()

    last = r"^Last error +other\.ns:7000, \d+ s ago: ngrok refused: ERR_NGROK_706\b"
    daemon.eventually(  # the client is gone before it is counted
        lambda _: re.search(last, daemon.ctl("status").stdout, re.MULTILINE) is not None, "not told"
    )
    page = daemon.ctl("status").stdout
    assert re.search(r"^Failures .*\b\d+ refused by ngrok\b", page, re.MULTILINE)
    listed = daemon.ctl("list").stdout
    assert re.search(r"^    last error, \d+ s ago: ngrok refused: ERR_NGROK_706\b", listed, re.M)


def test_the_daemon_still_ends_cleanly_after_all_that(shared_site: Site, daemon: Daemon) -> None:
    daemon.eventually(lambda now: now["connections"]["open"] == 0, "connections stay open")

    assert daemon.stop() == 0

    shared_site.assert_nothing_is_left(daemon)
