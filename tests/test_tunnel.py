"""One tunnel, told by its transcript: what comes in, what goes out, what it waits for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

import pytest

from ngrokd.errors import ProtocolError
from ngrokd.forward import wire
from ngrokd.forward.backlog import Backlog, OwnBacklog
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.tls import STEP_BYTES, Tls
from ngrokd.forward.tunnel import (
    HIGH_WATER_BYTES,
    PLAIN_BYTES,
    READ_BYTES,
    Flow,
    Tunnel,
    TunnelState,
    UpgradeCut,
    UpgradeRefused,
)
from ngrokd.model import Target
from tests import certificates
from tests.certificates import SERVER_NAME, Contexts
from tests.test_tls import VERSIONS, MemoryServer

TARGET = Target("web.ns", 80)
ACCEPTED = wire.encode_response(wire.ConnResponse("ep_1", "tcp"))


class Pair:
    """A tunnel, and the ingress it leads to. Owner: the test."""

    def __init__(self, contexts: Contexts) -> None:
        self.plain = memoryview(bytearray(PLAIN_BYTES))
        self.tunnel = Tunnel(Tls(contexts.client, SERVER_NAME), self.plain)
        self.server = MemoryServer(contexts.server)

    def handshake(self) -> None:
        self.tunnel.connected()
        while self.tunnel.state is TunnelState.HANDSHAKING:
            self.server.receive(take(self.tunnel.to_remote))
            try:
                self.server.tls.do_handshake()
            except ssl.SSLWantReadError:
                assert self.tunnel.state is TunnelState.HANDSHAKING
            self.deliver()
        self.tunnel.request(TARGET)
        self.server.receive(take(self.tunnel.to_remote))
        self.server.tls.do_handshake()

    def open(self) -> None:
        self.handshake()
        self.say(ACCEPTED)

    def say(self, data: bytes) -> None:
        """The ingress sends."""
        for start in range(0, len(data), 32768):
            self.server.tls.write(data[start : start + 32768])
        self.deliver()

    def deliver(self, size: Optional[int] = None) -> None:
        """What the server has for the tunnel arrives, in pieces of `size`."""
        data = memoryview(self.server.taken())
        size = size or STEP_BYTES
        for start in range(0, len(data), size):
            plain = self.tunnel.receive_remote(data[start : start + size])
            self.tunnel.to_local.put(plain)  # as a driver whose socket takes nothing yet

    def hear(self, data: bytes) -> None:
        """The client sends (b"": its end); the ingress's socket takes nothing yet."""
        self.tunnel.to_remote.put(self.tunnel.receive_local(memoryview(data)))

    def heard(self) -> bytes:
        """What the ingress has received by now."""
        self.server.receive(take(self.tunnel.to_remote))
        return self.server.read()


def take(backlog: Union[Backlog, OwnBacklog]) -> bytes:
    """Everything, as a socket with room for all of it would."""
    taken = b""
    while backlog:
        with backlog.first()[:] as data:
            offered = bytes(data)
        backlog.sent(len(offered))
        taken += offered
    return taken


@pytest.fixture(params=list(VERSIONS.values()), ids=list(VERSIONS))
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> Contexts:
    return certificates.contexts(tmp_path, request.param)


@pytest.fixture
def pair(contexts: Contexts) -> Iterator[Pair]:
    yield Pair(contexts)


def test_a_new_tunnel_waits_for_tcp_and_does_not_read_the_client(pair: Pair) -> None:
    assert pair.tunnel.state is TunnelState.CONNECTING
    assert pair.tunnel.remote_interest() == WRITE
    assert pair.tunnel.local_interest() == 0


def test_the_request_follows_the_handshake_and_the_client_is_still_not_read(pair: Pair) -> None:
    pair.handshake()

    assert pair.tunnel.state is TunnelState.UPGRADING
    assert wire.RequestReader().receive_data(pair.server.read()) == TARGET
    assert pair.tunnel.local_interest() == 0
    assert pair.tunnel.remote_interest() == READ


def test_after_the_answer_bytes_flow_both_ways(pair: Pair) -> None:
    pair.open()
    pair.server.read()
    pair.hear(b"GET /")
    pair.say(b"200 OK")

    assert pair.tunnel.state is TunnelState.OPEN
    assert pair.heard() == b"GET /"
    assert take(pair.tunnel.to_local) == b"200 OK"
    assert pair.tunnel.local_interest() == pair.tunnel.remote_interest() == READ


@pytest.mark.parametrize("size", [None, 1, 7])
def test_bytes_in_the_record_of_the_answer_are_delivered(pair: Pair, size: Optional[int]) -> None:
    pair.handshake()
    pair.server.tls.write(ACCEPTED + b"220 welcome")
    pair.server.tls.write(b", friend")
    pair.deliver(size)

    assert take(pair.tunnel.to_local) == b"220 welcome, friend"


def test_an_answer_its_bytes_and_the_end_may_come_at_once(pair: Pair) -> None:
    pair.handshake()
    pair.server.read()
    pair.server.tls.write(ACCEPTED + b"bye")
    pair.server.end()
    pair.deliver()

    assert take(pair.tunnel.to_local) == b"bye"
    assert pair.tunnel.local_end_due


def test_a_refusal_ends_the_tunnel_with_ngroks_words(pair: Pair) -> None:
    pair.handshake()

    with pytest.raises(UpgradeRefused, match="ERR_NGROK_706 no such endpoint"):
        pair.say(
            wire.encode_response(
                wire.ConnResponse(error_code="ERR_NGROK_706", error_message="no such endpoint")
            )
        )


def test_notices_are_kept_and_the_tunnel_opens(pair: Pair) -> None:
    pair.handshake()
    pair.say(wire.encode_response(wire.ConnResponse(notices=("update soon",))))

    assert pair.tunnel.state is TunnelState.OPEN
    assert pair.tunnel.response == wire.ConnResponse(notices=("update soon",))


def test_garbage_for_an_answer_is_a_protocol_error(pair: Pair) -> None:
    pair.handshake()

    with pytest.raises(ProtocolError):
        pair.say(b"\x04\x00\xff\xff\xff\xff")


@pytest.mark.parametrize("part", [b"", b"\x05", b"\x05\x00\x0a"])
def test_an_end_before_the_whole_answer_says_whether_it_had_begun(pair: Pair, part: bytes) -> None:
    pair.handshake()
    pair.server.read()
    if part:
        pair.say(part)
    pair.server.end()

    with pytest.raises(UpgradeCut) as caught:
        pair.deliver()
    assert caught.value.begun is bool(part)


@pytest.mark.parametrize("part", [b"", b"\x05"])
def test_so_does_a_fin(pair: Pair, part: bytes) -> None:
    pair.handshake()
    if part:
        pair.say(part)

    with pytest.raises(UpgradeCut) as caught:
        pair.tunnel.receive_remote(memoryview(b""))
    assert caught.value.begun is bool(part)


def test_a_fin_during_the_handshake_is_a_tls_error(pair: Pair) -> None:
    pair.tunnel.connected()

    with pytest.raises(ssl.SSLError):
        pair.tunnel.receive_remote(memoryview(b""))


def test_something_else_than_tls_is_a_tls_error(pair: Pair) -> None:
    pair.tunnel.connected()

    with pytest.raises(ssl.SSLError):
        pair.tunnel.receive_remote(memoryview(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def test_the_client_ends_first_and_the_long_answer_still_arrives(pair: Pair) -> None:
    pair.open()
    pair.server.read()
    pair.hear(b"question")
    pair.hear(b"")

    assert pair.heard() == b"question"
    assert pair.tunnel.local_interest() == 0
    assert pair.tunnel.remote_interest() == READ
    assert not pair.tunnel.finished

    pair.say(b"a" * 200_000)
    pair.server.end()
    pair.deliver()
    assert not pair.tunnel.local_end_due, "the client does not have all the bytes yet"
    assert take(pair.tunnel.to_local) == b"a" * 200_000
    assert pair.tunnel.local_end_due

    pair.tunnel.local_end_sent()
    assert pair.tunnel.finished


def test_the_ingress_ends_first_and_the_client_goes_on_sending(pair: Pair) -> None:
    pair.open()
    pair.server.read()
    pair.server.end()
    pair.deliver()
    assert pair.tunnel.local_end_due
    pair.tunnel.local_end_sent()
    assert pair.tunnel.remote_interest() == 0
    assert pair.tunnel.local_interest() == READ

    received = b""
    for _ in range(20):
        pair.hear(b"u" * 50_000)
        received += pair.heard()
    pair.hear(b"")
    assert not pair.tunnel.finished, "the ingress has not been told yet"
    received += pair.heard()

    assert received == b"u" * 1_000_000
    assert pair.tunnel.finished


def test_an_open_tunnel_cut_short_delivers_what_came_and_then_resets(pair: Pair) -> None:
    pair.open()
    pair.server.tls.write(b"half an ans")
    pair.deliver()
    pair.tunnel.receive_remote(memoryview(b""))

    assert pair.tunnel.down is Flow.CUT
    assert not pair.tunnel.cut_due
    assert take(pair.tunnel.to_local) == b"half an ans"
    assert pair.tunnel.cut_due
    assert isinstance(pair.tunnel.fault, ssl.SSLEOFError)
    assert pair.tunnel.local_interest() == pair.tunnel.remote_interest() == 0


def test_a_client_that_takes_nothing_stops_the_reading_of_the_ingress(pair: Pair) -> None:
    pair.open()
    rounds = 0
    while pair.tunnel.remote_interest() & READ:
        rounds += 1
        assert rounds < 100
        pair.say(b"d" * 30_000)

    assert len(pair.tunnel.to_local) <= HIGH_WATER_BYTES + READ_BYTES
    assert pair.tunnel.local_interest() == READ | WRITE, "the other direction goes on"


def test_an_ingress_that_takes_nothing_stops_the_reading_of_the_client(pair: Pair) -> None:
    pair.open()
    rounds = 0
    while pair.tunnel.local_interest() & READ:
        rounds += 1
        assert rounds < 100
        pair.hear(b"u" * 30_000)

    assert len(pair.tunnel.to_remote) <= HIGH_WATER_BYTES + 2 * READ_BYTES
    assert pair.tunnel.remote_interest() == READ | WRITE, "the other direction goes on"


def test_what_a_socket_leaves_over_survives_the_next_use_of_the_shared_buffer(pair: Pair) -> None:
    pair.open()
    pair.server.tls.write(b"first")
    plain = pair.tunnel.receive_remote(memoryview(pair.server.taken()))
    pair.tunnel.to_local.put(plain[2:])
    pair.plain[:5] = b"XXXXX"
    pair.say(b"second")

    assert take(pair.tunnel.to_local) == b"rstsecond"
