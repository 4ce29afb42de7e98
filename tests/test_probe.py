"""A look at the ingress tells whether it is trusted, and what it presents if not."""

from __future__ import annotations

import datetime
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Callable

import pytest

from ngrokd.cloud import facts
from ngrokd.cloud.distrust import Finding, Verdict, words
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.cloud.probe import look
from ngrokd.errors import StateError
from ngrokd.model import Address
from tests.certificates import SERVER_NAME, Authority, Pair, client_context, server_context
from tests.fair import Stopwatch
from tests.ingress import Peer, TestIngress

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
AT = IngressAddress(SERVER_NAME, 443)


class Stage:
    """An authority for clients, and one for the server, which the client may know."""

    def __init__(self, folder: Path, version: ssl.TLSVersion, stack: ExitStack) -> None:
        self.version = version
        self.ours, self.theirs = Authority(folder, "Our CA"), Authority(folder, "Their CA")
        self.stranger = Authority(folder, "Strange CA")
        self.client = self.ours.issue("client")
        self.received: list[bytes] = []
        self._stack = stack

    def serve(self, pair: Pair, ip: str = "127.0.0.1") -> TestIngress:
        server = server_context(pair, self.ours.cert, self.version)
        return self._stack.enter_context(TestIngress(self._hear, server, self.context(), ip))

    def look(self, *at: Address, name: str = SERVER_NAME, timeout_s: float = 10.0) -> Finding:
        return look(self.context, name, at, timeout_s)

    def context(self) -> ssl.SSLContext:
        return client_context(self.theirs.cert, self.client, self.version)

    def _hear(self, peer: Peer) -> None:
        peer.handshake()
        peer.sock.settimeout(5)
        try:
            self.received.append(peer.sock.recv(1024))
        except ConnectionResetError:  # it left before it read the tickets of TLS 1.3
            self.received.append(b"")


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, request.param, stack)


def facts_of(pair: Pair) -> facts.Facts:
    return facts.read(ssl.PEM_cert_to_DER_cert(pair.cert.read_text()))


def test_a_trusted_ingress_sees_a_handshake_and_then_the_end(stage: Stage) -> None:
    ingress = stage.serve(stage.theirs.issue(SERVER_NAME))
    assert stage.look(ingress.address) == Finding(Verdict.TRUSTED)
    ingress.wait()
    assert stage.received == [b""] and not ingress.faults


def test_an_ingress_of_an_unknown_authority_is_shown(stage: Stage) -> None:
    pair = stage.stranger.issue(SERVER_NAME)
    ingress = stage.serve(pair)
    found = stage.look(ingress.address)
    assert found.verdict is Verdict.UNTRUSTED and found.presented == facts_of(pair)
    text = words(found, AT)
    openssl = ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
    assert f"SHA-256 {facts.read(openssl).sha256}" in text
    assert f"CN={SERVER_NAME}, for {SERVER_NAME}, issued by CN=Strange CA" in text
    assert f"the ingress {SERVER_NAME}:443 is not trusted (unable to get local issuer" in text
    assert "`ngrokctl trust`" in text and "server.ca_file" in text
    ingress.wait()
    assert ingress.faults, "it is told by an alert"


def test_a_certificate_for_another_name_is_shown(stage: Stage) -> None:
    pair = stage.theirs.issue("other.test")
    found = stage.look(stage.serve(pair).address)
    assert found.verdict is Verdict.WRONG_NAME and found.presented == facts_of(pair)
    text = words(found, AT)
    assert f"the ingress {SERVER_NAME}:443 is not for that name (Hostname mismatch" in text
    assert "for other.test" in text and "`ingressEndpoint`" in text


@pytest.mark.parametrize("days", [(-1, -30), (30, 1)])
def test_a_certificate_that_is_not_valid_now_is_shown(stage: Stage, days: tuple[int, int]) -> None:
    pair = stage.theirs.issue(SERVER_NAME, *days)
    found = stage.look(stage.serve(pair).address)
    assert found.verdict is Verdict.WRONG_DATE and found.presented == facts_of(pair)
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days[0])
    text = words(found, AT)
    assert f" to {end:%Y-%m-%d}, SHA-256" in text and "clock" in text
    assert ("expired" in text) is (days[0] < 0)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_an_address_in_place_of_a_name_is_verified_as_one(stage: Stage, ip: str) -> None:
    good, bad = stage.serve(stage.theirs.issue(ip), ip), stage.serve(stage.theirs.issue("::2"), ip)
    assert stage.look(good.address, name=ip).verdict is Verdict.TRUSTED
    assert stage.look(bad.address, name=ip).verdict is Verdict.WRONG_NAME


def test_one_address_that_is_trusted_is_enough_and_a_refused_one_says_more_than_a_dead_one(
    stage: Stage,
) -> None:
    good = stage.serve(stage.theirs.issue(SERVER_NAME)).address
    bad = stage.serve(stage.stranger.issue(SERVER_NAME)).address
    dead = Address("127.0.0.1", closed_port())
    assert stage.look(dead, bad, good).verdict is Verdict.TRUSTED
    assert stage.look(bad, dead).verdict is Verdict.UNTRUSTED
    assert stage.look(dead, bad).verdict is Verdict.UNTRUSTED


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def ends(peer: Peer) -> None:
    peer.sock.recv(1)


def talks_nonsense(peer: Peer) -> None:
    peer.sock.recv(1024)
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def floods(peer: Peer) -> None:
    record = b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(0x4000 - 4)
    for _ in range(64):
        peer.sock.sendall(record)


@pytest.mark.parametrize("handle", [ends, talks_nonsense, floods])
def test_a_peer_that_is_no_ingress_says_nothing_of_trust(
    stage: Stage, handle: Callable[[Peer], None]
) -> None:
    ingress = stage.serve(stage.theirs.issue(SERVER_NAME))
    ingress.handle = handle
    found = stage.look(ingress.address)
    assert found.verdict is Verdict.UNREACHABLE and found.why and not found.distrusts
    assert words(found, AT) == (
        f"the ingress {SERVER_NAME}:443 cannot be reached ({found.why}): see `ingressEndpoint`, and"
        " whether a firewall stands between"
    )


def test_of_several_addresses_that_nobody_answers_at_the_first_says_why(stage: Stage) -> None:
    dead, odd = Address("127.0.0.1", closed_port()), Address("255.255.255.255", 9)
    assert stage.look(dead, odd) == Finding(Verdict.UNREACHABLE, "connection refused")


def test_an_ingress_that_refuses_our_certificate_in_the_handshake_is_told_so(
    stage: Stage,
) -> None:
    ingress = stage.serve(stage.theirs.issue(SERVER_NAME))
    stage.client = stage.stranger.issue("client")
    found = stage.look(ingress.address)
    if stage.version is ssl.TLSVersion.TLSv1_2:
        text = words(found, AT)
        assert "alert unknown ca" in text and "`ngrokctl rotate-cert`" in text
    else:
        assert found.verdict is Verdict.TRUSTED, "TLS 1.3 tells it after the handshake"


def test_a_machine_without_descriptors_knows_nothing_of_the_ingress(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "create_connection", none_left)
    found = stage.look(Address("127.0.0.1", 1))
    assert found == Finding(Verdict.UNKNOWN, "too many open files") and words(found, AT) == ""


def test_nobody_there_is_told() -> None:
    found = look(lambda: ssl.create_default_context(), "a.test", ())
    assert found == Finding(Verdict.UNREACHABLE, "it has no address")


def drips(peer: Peer) -> None:
    """Each byte comes in time, and the whole never does."""
    peer.sock.recv(1024)
    peer.sock.settimeout(0.05)
    for byte in b"\x16\x03\x03\x40\x00" + bytes(200):
        peer.sock.sendall(bytes([byte]))
        try:
            if not peer.sock.recv(1):
                return
        except socket.timeout:
            continue


def test_a_peer_that_drips_is_given_up_in_time(stage: Stage) -> None:
    ingress = stage.serve(stage.theirs.issue(SERVER_NAME))
    ingress.handle = drips
    watch = Stopwatch()
    found = stage.look(ingress.address, timeout_s=0.3)
    assert found == Finding(Verdict.UNREACHABLE, "timed out")
    assert watch.own() < 5


def test_files_that_cannot_be_used_are_the_callers_affair() -> None:
    def refuse() -> ssl.SSLContext:
        raise StateError("ca.crt is none")

    with pytest.raises(StateError):
        look(refuse, "a.test", (Address("127.0.0.1", 1),))


def test_where_python_cannot_tell_what_was_presented_a_command_can() -> None:
    found = Finding(Verdict.UNTRUSTED, "self-signed certificate")
    text = words(found, IngressAddress("::1", 8443))
    assert "`openssl s_client -connect [::1]:8443 -showcerts` shows the certificate" in text
    assert "-servername a.test -showcerts`" in words(found, IngressAddress("a.test", 443))
