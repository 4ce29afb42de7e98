"""Every cause of a failed connection, provoked over real sockets under TLS 1.2 and 1.3."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.errors import ProtocolError
from ngrokd.forward import bursts, wire
from ngrokd.forward.faults import reason
from ngrokd.forward.tunnel import TunnelState
from ngrokd.model import Address, Cause, Counters, Ingress, Route
from tests.certificates import SERVER_NAME, Authority, Pair, client_context, server_context
from tests.ingress import TIMEOUT_S, Handler, Peer, TestIngress, echo, upgraded
from tests.test_tls import VERSIONS
from tests.town import COLD, RESET, TARGET, Town, wait_until, wait_until_closed

NOWHERE = Address("255.255.255.255", 443)  # TCP has no way to a broadcast address
SHORT_S = 0.3
LARGE = b"x" * 4_000_000  # more than the kernel's buffers hold


class Stage:
    """A town, an authority, and what a scenario puts there; all ends with the test. Owner: it."""

    def __init__(self, folder: Path, version: ssl.TLSVersion, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.version = version
        self._stack = stack
        self.authority = Authority(folder)
        self.server = self.server_with(self.authority.issue(SERVER_NAME))
        self.client = self.client_with(self.authority.issue("client"))
        self.town = self.build()

    def build(self, settings: Optional[ForwardSettings] = None) -> Town:
        """Another town, with these settings."""
        self.town = Town(settings)
        self._stack.callback(self.town.close)
        return self.town

    def server_with(self, pair: Pair) -> ssl.SSLContext:
        return server_context(pair, self.authority.cert, self.version)

    def client_with(self, pair: Optional[Pair]) -> ssl.SSLContext:
        return client_context(self.authority.cert, pair, self.version)

    def ingress(self, handle: Handler) -> TestIngress:
        """One that does this; the town knows it."""
        ingress = TestIngress(handle, self.server, self.client)
        self._stack.enter_context(ingress)
        self.town.forwarder.set_ingress(ingress.ingress)
        return ingress

    def go_to(self, *addresses: Address) -> None:
        """The town's ingress has these addresses."""
        self.town.forwarder.set_ingress(Ingress(SERVER_NAME, addresses, self.client))

    def knock(self) -> None:
        """A client connects and waits for its end, orderly or not."""
        with contextlib.suppress(ConnectionResetError), self.town.connect() as client:
            while client.recv(1 << 16):
                continue
        wait_until_closed(self.town)


Scenario = Callable[[Stage], None]


@pytest.fixture(params=list(VERSIONS.values()), ids=list(VERSIONS))
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        yield Stage(tmp_path, request.param, stack)


# What ngrok says, and certificates


def ngrok_refuses(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse(error_code="ERR_NGROK_706", error_message="not found"))

    stage.ingress(handle)
    stage.knock()


def our_certificate_is_of_another_authority(stage: Stage) -> None:
    stage.client = stage.client_with(Authority(stage.folder, "Other CA").issue("client"))
    stage.ingress(upgraded(echo))
    stage.knock()


def our_certificate_is_of_a_namesake(stage: Stage) -> None:
    """An authority of the same name with another key: the signature does not verify."""
    folder = stage.folder / "namesake"
    folder.mkdir()
    stage.client = stage.client_with(Authority(folder).issue("client"))
    stage.ingress(upgraded(echo))
    stage.knock()


def our_certificate_has_expired(stage: Stage) -> None:
    stage.client = stage.client_with(stage.authority.issue("client", valid_days=-1))
    stage.ingress(upgraded(echo))
    stage.knock()


def the_ingress_ends_tls_without_an_answer(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.end()

    stage.ingress(handle)
    stage.knock()


def unanswered(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()  # left unread, it would make the close a reset


def the_ingress_closes_without_an_answer(stage: Stage) -> None:
    stage.ingress(unanswered)
    stage.knock()


def the_ingress_is_of_another_authority(stage: Stage) -> None:
    stage.server = stage.server_with(Authority(stage.folder, "Evil CA").issue(SERVER_NAME))
    stage.ingress(upgraded(echo))
    stage.knock()


def the_ingress_has_another_name(stage: Stage) -> None:
    stage.server = stage.server_with(stage.authority.issue("another.test"))
    stage.ingress(upgraded(echo))
    stage.knock()


def the_ingress_is_known_by_address_and_its_certificate_is_not(stage: Stage) -> None:
    ingress = stage.ingress(upgraded(echo))
    stage.town.forwarder.set_ingress(Ingress("127.0.0.1", (ingress.address,), stage.client))
    stage.knock()


def the_ingress_s_certificate_has_expired(stage: Stage) -> None:
    stage.server = stage.server_with(stage.authority.issue(SERVER_NAME, valid_days=-1))
    stage.ingress(upgraded(echo))
    stage.knock()


def the_ingress_s_certificate_is_not_valid_yet(stage: Stage) -> None:
    pair = stage.authority.issue(SERVER_NAME, valid_days=60, from_days=30)
    stage.server = stage.server_with(pair)
    stage.ingress(upgraded(echo))
    stage.knock()


# On the way to the ingress


def there_is_no_way(stage: Stage) -> None:
    stage.go_to(NOWHERE)
    stage.knock()


def nothing_listens(stage: Stage) -> None:
    stage.go_to(closed_port())
    stage.knock()


def tcp_is_not_accepted(stage: Stage) -> None:
    stage.build(dataclasses.replace(COLD, connect_timeout=SHORT_S))
    with socket.socket() as full:  # its queue holds one connection; the next SYN is dropped
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = Address(*full.getsockname())
        with socket.create_connection((address.ip, address.port)):
            stage.go_to(address)
            stage.knock()


def the_handshake_hangs(stage: Stage) -> None:
    stage.build(dataclasses.replace(COLD, connect_timeout=SHORT_S))
    stage.ingress(lambda peer: wait_for_the_end(peer.sock))
    stage.knock()


def a_reset_instead_of_a_handshake(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.recv(1 << 16)
        peer.reset()

    stage.ingress(handle)
    stage.knock()


def a_reset_at_once(stage: Stage) -> None:
    stage.ingress(lambda peer: peer.reset())
    stage.knock()


def an_end_instead_of_a_handshake(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.recv(1 << 16)

    stage.ingress(handle)
    stage.knock()


def an_answer_that_is_no_tls(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.sock.recv(1 << 16)

    stage.ingress(handle)
    stage.knock()


def no_common_version_of_tls(stage: Stage) -> None:
    other = next(version for version in VERSIONS.values() if version is not stage.version)
    pair = stage.authority.issue(SERVER_NAME)
    stage.server = server_context(pair, stage.authority.cert, other)
    stage.ingress(upgraded(echo))
    stage.knock()


# At the ingress


def the_answer_hangs(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.send(b"\x05")  # the first half of a length
        wait_for_the_end(peer.sock)

    stage.build(dataclasses.replace(COLD, connect_timeout=2 * SHORT_S))
    stage.ingress(handle)
    stage.knock()


def a_reset_instead_of_an_answer(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.reset()

    stage.ingress(handle)
    stage.knock()


def an_answer_cut_by_the_end_of_tcp(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.send(b"\x20\x00half")

    stage.ingress(handle)
    stage.knock()


def an_answer_cut_by_the_end_of_tls(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.send(b"\x20\x00half")
        peer.end()

    stage.ingress(handle)
    stage.knock()


def an_answer_that_is_none(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.send(b"\x02\x00\xff\xff")

    stage.ingress(handle)
    stage.knock()


# Open connections


def a_reset_by_the_far_side(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        assert peer.read() == b"x"  # so the answer has arrived, which a reset would overtake
        peer.reset()

    stage.ingress(upgraded(handle))
    with stage.town.connect() as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    wait_until_closed(stage.town)


def an_end_without_tls_s_end(stage: Stage) -> None:
    stage.ingress(upgraded(lambda peer: peer.send(b"half")))
    stage.knock()


def bytes_that_do_not_decrypt(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        wait_for_the_end(peer.sock)

    stage.ingress(upgraded(handle))
    stage.knock()


def a_client_that_takes_nothing(stage: Stage) -> None:
    def handle(peer: Peer) -> None:
        with contextlib.suppress(OSError):  # left by the daemon while it sends
            peer.send(LARGE)

    stage.build(dataclasses.replace(COLD, idle_timeout=SHORT_S))
    stage.ingress(upgraded(handle))
    with stage.town.connect():
        wait_until(lambda: stage.town.counters().failed == 1)
    wait_until_closed(stage.town)


# This machine


def the_client_leaves_too_early(stage: Stage) -> None:
    arrived = threading.Event()

    def handle(peer: Peer) -> None:
        arrived.set()
        wait_for_the_end(peer.sock)

    stage.ingress(handle)
    with stage.town.connect() as client:
        assert arrived.wait(TIMEOUT_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_until_closed(stage.town)


def no_ingress_is_known(stage: Stage) -> None:
    stage.knock()


def the_limit_is_reached(stage: Stage) -> None:
    stage.build(dataclasses.replace(COLD, max_connections=1))
    stage.ingress(upgraded(echo))
    with stage.town.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with stage.town.connect() as second:
            assert second.recv(1) == b""
        first.shutdown(socket.SHUT_WR)
        assert first.recv(1) == b""
    wait_until_closed(stage.town)


class Short(socket.socket):
    """A listening socket whose first accept fails for want of something."""

    lacks = 0  # errno

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        number, self.lacks = self.lacks, 0
        if number:
            raise OSError(number, "not now")
        return super().accept()


def accept_fails_with(stage: Stage, number: int) -> None:
    listening = Short()
    listening.lacks = number
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    address = Address(*listening.getsockname())
    stage.town.forwarder.add_listener(listening, Route(TARGET))
    with stage.town.connect(address) as client:
        assert client.recv(1) == b""


class Visited(socket.socket):
    """A listening socket whose clients come from another machine."""

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        client, peer = super().accept()
        return client, ("192.0.2.7", peer[1])


def visited(stage: Stage, route: Route) -> Address:
    listening = Visited()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    stage.town.forwarder.add_listener(listening, route)
    return Address(*listening.getsockname())


def a_client_of_another_machine_comes(stage: Stage) -> None:
    stage.ingress(upgraded(echo))
    at = visited(stage, Route(TARGET))
    with pytest.raises(ConnectionResetError), stage.town.connect(at) as client:
        client.recv(1)


def no_descriptor_is_left(stage: Stage) -> None:
    accept_fails_with(stage, errno.EMFILE)


def no_memory_is_left(stage: Stage) -> None:
    accept_fails_with(stage, errno.ENOBUFS)


def a_bug(stage: Stage) -> None:
    stage.ingress(upgraded(echo))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ngrokd.forward.dial.Tls", None)
        stage.knock()


SCENARIOS: dict[Cause, tuple[Scenario, ...]] = {
    Cause.REFUSED_BY_NGROK: (ngrok_refuses,),
    Cause.CERTIFICATE_REFUSED: (
        our_certificate_is_of_another_authority,
        our_certificate_is_of_a_namesake,
        our_certificate_has_expired,
        the_ingress_ends_tls_without_an_answer,
        the_ingress_closes_without_an_answer,
    ),
    Cause.INGRESS_UNTRUSTED: (the_ingress_is_of_another_authority,),
    Cause.INGRESS_NAME_MISMATCH: (
        the_ingress_has_another_name,
        the_ingress_is_known_by_address_and_its_certificate_is_not,
    ),
    Cause.INGRESS_CERTIFICATE_DATE: (
        the_ingress_s_certificate_has_expired,
        the_ingress_s_certificate_is_not_valid_yet,
    ),
    Cause.UNREACHABLE: (there_is_no_way,),
    Cause.CONNECT_REFUSED: (nothing_listens,),
    Cause.CONNECT_TIMEOUT: (tcp_is_not_accepted,),
    Cause.HANDSHAKE_TIMEOUT: (the_handshake_hangs,),
    Cause.CLOSED_IN_HANDSHAKE: (
        a_reset_instead_of_a_handshake,
        a_reset_at_once,
        an_end_instead_of_a_handshake,
    ),
    Cause.TLS_FAILED: (an_answer_that_is_no_tls, no_common_version_of_tls),
    Cause.UPGRADE_TIMEOUT: (the_answer_hangs,),
    Cause.CLOSED_IN_UPGRADE: (
        a_reset_instead_of_an_answer,
        an_answer_cut_by_the_end_of_tcp,
        an_answer_cut_by_the_end_of_tls,
    ),
    Cause.PROTOCOL_BROKEN: (an_answer_that_is_none,),
    Cause.RESET_WHILE_OPEN: (a_reset_by_the_far_side,),
    Cause.CUT_WHILE_OPEN: (an_end_without_tls_s_end, bytes_that_do_not_decrypt),
    Cause.STALLED: (a_client_that_takes_nothing,),
    Cause.CLIENT_LEFT: (the_client_leaves_too_early,),
    Cause.NO_INGRESS: (no_ingress_is_known,),
    Cause.FOREIGN_CLIENT: (a_client_of_another_machine_comes,),
    Cause.CONNECTION_LIMIT: (the_limit_is_reached,),
    Cause.NO_DESCRIPTOR: (no_descriptor_is_left,),
    Cause.NO_MEMORY: (no_memory_is_left,),
    Cause.INTERNAL_ERROR: (a_bug,),
}
QUIET = {Cause.RESET_WHILE_OPEN, Cause.STALLED, Cause.CLIENT_LEFT}


def test_there_is_a_scenario_for_every_cause() -> None:
    assert SCENARIOS.keys() == set(Cause)


@pytest.mark.parametrize(
    ("cause", "provoke"),
    [(cause, each) for cause, scenarios in SCENARIOS.items() for each in scenarios],
    ids=lambda value: value.value if isinstance(value, Cause) else value.__name__,
)
def test_each_cause_is_counted_as_itself(
    stage: Stage, caplog: pytest.LogCaptureFixture, cause: Cause, provoke: Scenario
) -> None:
    before = time.time()
    provoke(stage)

    counters = stage.town.counters()
    assert counters.failures == ((cause, 1),), counters.last_error
    assert (counters.failed, counters.open, counters.last_cause) == (1, 0, cause)
    assert counters.last_error_at is not None
    assert before <= counters.last_error_at <= time.time()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == (0 if cause in QUIET else 1)
    assert all(counters.last_error in record.getMessage() for record in said)


# Several at once


def test_a_client_of_another_machine_is_served_where_the_endpoint_is_exposed(
    stage: Stage,
) -> None:
    stage.ingress(upgraded(echo))
    with stage.town.connect(visited(stage, Route(TARGET, exposed=True))) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_a_client_with_another_address_of_this_machine_is_served(stage: Stage) -> None:
    stage.ingress(upgraded(echo))
    at = stage.town.address
    with socket.create_connection((at.ip, at.port), 10, ("127.9.8.7", 0)) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_failures_of_several_causes_are_counted_each_and_add_up(stage: Stage) -> None:
    no_ingress_is_known(stage)
    nothing_listens(stage)
    ngrok_refuses(stage)
    nothing_listens(stage)

    counters = stage.town.counters()
    assert dict(counters.failures) == {
        Cause.NO_INGRESS: 1,
        Cause.CONNECT_REFUSED: 2,
        Cause.REFUSED_BY_NGROK: 1,
    }
    assert (counters.failed, counters.last_cause) == (4, Cause.CONNECT_REFUSED)


def test_of_several_addresses_one_that_was_reached_gives_the_cause(stage: Stage) -> None:
    ingress = stage.ingress(unanswered)
    stage.go_to(ingress.address, NOWHERE, closed_port())
    stage.knock()

    counters = stage.town.counters()
    assert counters.last_cause is Cause.CERTIFICATE_REFUSED
    assert "it refused the TCP connection" in counters.last_error
    assert "network is unreachable" in counters.last_error


def test_in_a_burst_of_timeouts_a_refused_certificate_is_not_missed(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bursts, "BURST_S", 1000.0)
    for _ in range(3):
        nothing_listens(stage)
    the_ingress_closes_without_an_answer(stage)
    for _ in range(3):
        nothing_listens(stage)

    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(said) == 2
    assert "it refused the TCP connection" in said[0]
    assert "does not know our certificate" in said[1]


def test_what_an_endpoint_never_failed_at_is_not_there(stage: Stage) -> None:
    stage.ingress(upgraded(echo))
    with stage.town.connect() as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    wait_until_closed(stage.town)

    assert stage.town.counters() == Counters(
        total=1, last_activity=stage.town.counters().last_activity
    )


# What no loopback gives


@pytest.mark.parametrize(
    ("fault", "state", "cause"),
    [
        (OSError(errno.ETIMEDOUT, ""), TunnelState.CONNECTING, Cause.CONNECT_TIMEOUT),
        (OSError(errno.EHOSTUNREACH, ""), TunnelState.CONNECTING, Cause.UNREACHABLE),
        (OSError(errno.EADDRNOTAVAIL, ""), TunnelState.CONNECTING, Cause.UNREACHABLE),
        (OSError(errno.EMFILE, ""), TunnelState.CONNECTING, Cause.NO_DESCRIPTOR),
        (OSError(errno.ENOBUFS, ""), TunnelState.CONNECTING, Cause.NO_MEMORY),
        (OSError(errno.ETIMEDOUT, ""), TunnelState.UPGRADING, Cause.UPGRADE_TIMEOUT),
        (OSError(errno.EHOSTUNREACH, ""), TunnelState.HANDSHAKING, Cause.CLOSED_IN_HANDSHAKE),
        (OSError(errno.ECONNABORTED, ""), TunnelState.UPGRADING, Cause.CLOSED_IN_UPGRADE),
        (OSError(errno.ETIMEDOUT, ""), TunnelState.OPEN, Cause.CUT_WHILE_OPEN),
        (OSError(errno.EPIPE, ""), TunnelState.OPEN, Cause.RESET_WHILE_OPEN),
        (ProtocolError("renegotiation"), TunnelState.OPEN, Cause.CUT_WHILE_OPEN),
        (ValueError("?"), TunnelState.OPEN, Cause.INTERNAL_ERROR),
    ],
    ids=str,
)
def test_a_fault_s_cause_depends_on_how_far_it_came(
    fault: Exception, state: TunnelState, cause: Cause
) -> None:
    assert reason(fault, state, SERVER_NAME).cause is cause


def wait_for_the_end(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(1 << 16):
            continue


def closed_port() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return Address(*closed.getsockname())
