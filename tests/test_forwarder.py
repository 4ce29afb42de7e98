"""The forwarding thread with real sockets, against an ingress that does what each test wants."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import logging
import os
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.forward import bursts, relay, sockets, wire
from ngrokd.forward.connection import Connection
from ngrokd.forward.forwarder import ANSWER_TIMEOUT_S, Forwarder
from ngrokd.forward.leg import Leg
from ngrokd.forward.opening import Opening
from ngrokd.forward.tls import Tls
from ngrokd.forward.tunnel import HIGH_WATER_BYTES, READ_BYTES, Tunnel
from ngrokd.model import Address, Cause, Ingress, Route, Target
from tests import certificates
from tests.certificates import SERVER_NAME, Authority, Contexts, client_context, server_context
from tests.ingress import TIMEOUT_S, Handler, Peer, TestIngress, echo, upgraded
from tests.macos.kqueue import KqueueLike
from tests.test_tls import VERSIONS
from tests.town import (
    COLD,
    RESET,
    TARGET,
    Town,
    kernel_buffers,
    read_all,
    read_until_reset,
    serve,
    turns,
    wait_until,
    wait_until_closed,
    wait_until_still,
)

FEW_TURNS = 4  # the one before, a heartbeat, and what was still on its way
FIVE_MB = bytes(range(256)) * (5_000_000 // 256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def contexts(folder: Path) -> Contexts:
    return certificates.contexts(folder / "1.3")


@pytest.fixture(params=list(VERSIONS.values()), ids=list(VERSIONS))
def each_version(request: pytest.FixtureRequest, folder: Path) -> Contexts:
    return certificates.contexts(folder / str(request.param.value), request.param)


@pytest.fixture
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    made = Town(make_selector=getattr(request, "param", selectors.DefaultSelector))
    yield made
    made.close()


on_each_selector = pytest.mark.parametrize(
    "town",
    [selectors.DefaultSelector, selectors.PollSelector, KqueueLike],
    ids=lambda made: str(made.__name__),
    indirect=True,
)


def failure(town: Town) -> str:
    """Connect, see the connection be reset, and give the reason that is recorded."""
    with pytest.raises(ConnectionResetError), town.connect() as client:
        client.recv(1)
    wait_until_closed(town)
    counters = town.counters()
    assert (counters.total, counters.failed, counters.open) == (1, 1, 0)
    return counters.last_error


# Bytes


@on_each_selector
def test_bytes_go_to_the_endpoint_and_back(town: Town, each_version: Contexts) -> None:
    with serve(town, each_version, upgraded(echo)), town.connect() as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def test_the_ingress_is_asked_for_the_target(town: Town, contexts: Contexts) -> None:
    asked: list[Target] = []

    def handle(peer: Peer) -> None:
        peer.handshake()
        asked.append(peer.read_request())
        peer.answer(wire.ConnResponse())

    with serve(town, contexts, handle), town.connect() as client, pytest.raises(OSError):
        read_all(client)
        client.recv(1)
        raise OSError
    assert asked == [TARGET]


@on_each_selector
def test_the_client_ends_first_and_five_megabytes_come_back(
    town: Town, each_version: Contexts
) -> None:
    received: list[bytes] = []

    def handle(peer: Peer) -> None:
        received.append(peer.read_all())
        peer.send(FIVE_MB)
        peer.end()

    with serve(town, each_version, upgraded(handle)), town.connect() as client:
        client.sendall(FIVE_MB)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == FIVE_MB
        wait_until_closed(town)
    assert received == [FIVE_MB]
    counters = town.counters()
    assert (counters.bytes_up, counters.bytes_down) == (len(FIVE_MB), len(FIVE_MB))
    assert (counters.total, counters.failed) == (1, 0)


@on_each_selector
def test_the_endpoint_ends_first_and_five_megabytes_still_go_up(
    town: Town, each_version: Contexts
) -> None:
    received: list[bytes] = []

    def handle(peer: Peer) -> None:
        peer.send(b"goodbye")
        peer.end()
        received.append(peer.read_all())

    with serve(town, each_version, upgraded(handle)) as ingress:
        with town.connect() as client:
            assert read_all(client) == b"goodbye"
            client.sendall(FIVE_MB)
        ingress.wait()
    assert ingress.faults == []
    assert received == [FIVE_MB]


@on_each_selector
def test_both_directions_at_once(town: Town, each_version: Contexts) -> None:
    received: list[bytes] = []

    with serve(town, each_version, upgraded(echo)), town.connect() as client:
        reader = threading.Thread(target=lambda: received.append(read_all(client)))
        reader.start()
        client.sendall(FIVE_MB)
        client.shutdown(socket.SHUT_WR)
        reader.join(TIMEOUT_S)
    assert received == [FIVE_MB]


@on_each_selector
def test_a_client_that_ends_before_the_tunnel_is_open_gets_its_answer(
    town: Town, contexts: Contexts
) -> None:
    go = threading.Event()

    def handle(peer: Peer) -> None:
        assert go.wait(TIMEOUT_S)
        upgraded(echo)(peer)

    with serve(town, contexts, handle), town.connect() as client:
        client.sendall(b"early")
        client.shutdown(socket.SHUT_WR)
        go.set()
        assert read_all(client) == b"early"


@on_each_selector
def test_a_client_that_ends_without_a_byte_before_the_tunnel_is_open_gets_its_answer(
    town: Town, contexts: Contexts
) -> None:
    arrived, go = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        arrived.set()
        assert go.wait(TIMEOUT_S)
        upgraded(lambda peer: peer.send(b"Monday"))(peer)
        assert peer.read_all() == b""
        peer.end()

    with serve(town, contexts, handle) as ingress, town.connect() as client:
        client.shutdown(socket.SHUT_WR)
        assert arrived.wait(TIMEOUT_S)
        assert turns(town) <= FEW_TURNS, "its FIN is there, and not passed on yet"
        go.set()
        assert read_all(client) == b"Monday"
        ingress.wait()
    assert ingress.faults == []


@on_each_selector
def test_a_client_whose_first_bytes_wait_for_the_tunnel_costs_no_cpu(
    town: Town, contexts: Contexts
) -> None:
    arrived, go = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        arrived.set()
        assert go.wait(TIMEOUT_S)
        upgraded(echo)(peer)

    with serve(town, contexts, handle), town.connect() as client:
        client.sendall(b"early")
        assert arrived.wait(TIMEOUT_S)
        assert turns(town) <= FEW_TURNS
        go.set()
        assert client.recv(10) == b"early"


def test_bytes_in_the_record_of_the_answer_reach_the_client(
    town: Town, each_version: Contexts
) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse(), b"220 ready")
        echo(peer)

    with serve(town, each_version, handle), town.connect() as client:
        assert client.recv(100) == b"220 ready"


@on_each_selector
def test_a_client_that_does_not_read_holds_the_endpoint_back(
    town: Town, contexts: Contexts
) -> None:
    sent = [0]

    def handle(peer: Peer) -> None:
        while True:
            peer.send(bytes(1 << 16))
            sent[0] += 1 << 16

    with serve(town, contexts, upgraded(handle)), town.connect() as client:
        client.recv(1)
        settled = wait_until_still(lambda: sent[0])
        kernel = town.counters().bytes_down
        assert settled - kernel <= HIGH_WATER_BYTES + READ_BYTES + kernel_buffers()
        left = kernel
        while left > 0:  # and it goes on once there is room
            left -= len(client.recv(1 << 16))
        wait_until(lambda: town.counters().bytes_down > kernel)


@on_each_selector
def test_an_endpoint_that_does_not_read_holds_the_client_back(
    town: Town, contexts: Contexts
) -> None:
    stop = threading.Event()

    def handle(peer: Peer) -> None:
        stop.wait(TIMEOUT_S)

    with serve(town, contexts, upgraded(handle)):
        with town.connect() as client:
            client.setblocking(False)
            sent = [0]

            def push() -> int:
                try:
                    sent[0] += client.send(bytes(1 << 16))
                except BlockingIOError:
                    return sent[0]
                return sent[0]

            wait_until_still(push)
            taken = town.counters().bytes_up
            assert taken <= HIGH_WATER_BYTES + READ_BYTES + kernel_buffers()
        stop.set()


@on_each_selector
def test_an_ended_client_whose_bytes_must_wait_costs_no_cpu(
    town: Town, contexts: Contexts
) -> None:
    go = threading.Event()
    received: list[bytes] = []

    def handle(peer: Peer) -> None:
        peer.end()
        assert go.wait(TIMEOUT_S)
        received.append(peer.read_all())

    with serve(town, contexts, upgraded(handle)) as ingress:
        with town.connect() as client:
            assert client.recv(1) == b""
            size = send_until_untaken(town, client)
        threading.Event().wait(0.1)
        assert turns(town) <= FEW_TURNS, "its FIN is there, behind bytes that cannot be read yet"
        go.set()
        ingress.wait()
    assert [len(data) for data in received] == [size]


def send_until_untaken(town: Town, client: socket.socket) -> int:
    """Send until the forwarder leaves bytes in the kernel; how many were sent."""
    sent = 0
    while wait_until_still(lambda: town.counters().bytes_up, 0.05) == sent:
        client.sendall(bytes(1 << 18))
        sent += 1 << 18
    return sent


def test_five_hundred_connections_at_once(town: Town, contexts: Contexts) -> None:
    with serve(town, contexts, upgraded(echo)), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(town.connect()) for _ in range(500)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for number, client in enumerate(clients):
            assert client.recv(10) == b"%d" % number
        counters = town.counters()
        assert (counters.open, counters.total, counters.failed) == (500, 500, 0)


@on_each_selector
def test_a_bulk_transfer_does_not_starve_another_connection(
    town: Town, contexts: Contexts
) -> None:
    def handle(peer: Peer) -> None:
        if peer.read() != b"bulk":
            peer.send(b"quick")
            return
        while True:
            peer.send(bytes(1 << 16))

    with serve(town, contexts, upgraded(handle)), town.connect() as bulk:
        bulk.sendall(b"bulk")
        reader = threading.Thread(target=read_until_closed, args=(bulk,))
        reader.start()
        with town.connect() as quick:
            quick.settimeout(2)
            quick.sendall(b"x")
            assert quick.recv(10) == b"quick"
        bulk.shutdown(socket.SHUT_RDWR)
        reader.join(TIMEOUT_S)


def read_until_closed(client: socket.socket) -> None:
    try:
        while client.recv(1 << 16):
            continue
    except OSError:
        return


# Ends that are no ends


@on_each_selector
def test_a_reset_of_the_client_is_passed_on(town: Town, contexts: Contexts) -> None:
    faults: list[Exception] = []
    reading = threading.Event()

    def handle(peer: Peer) -> None:
        peer.read()
        reading.set()
        try:
            peer.read()
        except OSError as exc:
            faults.append(exc)

    with serve(town, contexts, upgraded(handle)):
        client = town.connect()
        client.sendall(b"x")
        assert reading.wait(TIMEOUT_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        wait_until_closed(town)
    assert [type(fault) for fault in faults] == [ConnectionResetError]
    assert town.counters().failed == 0


@on_each_selector
def test_a_reset_of_the_ingress_is_passed_on_after_what_came_before(
    town: Town, contexts: Contexts
) -> None:
    go = threading.Event()

    def handle(peer: Peer) -> None:
        peer.send(b"half")
        assert go.wait(TIMEOUT_S)
        peer.reset()

    with serve(town, contexts, upgraded(handle)), town.connect() as client:
        assert client.recv(10) == b"half"
        go.set()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        wait_until_closed(town)
    assert town.counters().failed == 1
    assert "reset" in town.counters().last_error


@on_each_selector
def test_a_truncated_stream_is_a_reset_for_the_client(town: Town, contexts: Contexts) -> None:
    with serve(town, contexts, upgraded(lambda peer: peer.send(b"half"))):
        with town.connect() as client:
            assert client.recv(10) == b"half"
            with pytest.raises(ConnectionResetError):
                client.recv(10)
        wait_until_closed(town)
    assert "may be incomplete" in town.counters().last_error


@on_each_selector
def test_a_client_that_is_slow_gets_every_byte_before_the_reset(
    town: Town, contexts: Contexts
) -> None:
    with serve(town, contexts, upgraded(lambda peer: peer.send(FIVE_MB))):
        with socket.socket() as client:  # with little room, so that much waits on our side
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            client.settimeout(TIMEOUT_S)
            client.connect((town.address.ip, town.address.port))
            received = bytearray(client.recv(1))
            wait_until_still(lambda: town.counters().bytes_down, 0.1)
            with pytest.raises(ConnectionResetError):
                while True:
                    part = client.recv(1 << 16)
                    assert part, "an end in order, of a stream that has none"
                    received += part
        wait_until_closed(town)
    assert received == FIVE_MB


HALF_MB = bytes(range(250)) * 2000  # more than a client's kernel takes unread


def cut(town: Town, contexts: Contexts, client: socket.socket, pause_s: float = 0.0) -> None:
    """Have the ingress send HALF_MB to a client that does not read, and reset after a pause."""
    go = threading.Event()

    def handle(peer: Peer) -> None:
        peer.send(HALF_MB)
        assert go.wait(TIMEOUT_S)
        peer.reset()

    with serve(town, contexts, upgraded(handle)) as ingress:
        client.settimeout(TIMEOUT_S)
        client.connect((town.address.ip, town.address.port))
        wait_until(lambda: town.counters().bytes_down == len(HALF_MB))
        threading.Event().wait(pause_s)
        go.set()
        ingress.wait()


@on_each_selector
def test_a_client_that_reads_late_gets_every_byte_before_the_reset(
    town: Town, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ngrokd.forward.sockets.is_unanswered", lambda sock: True)
    with socket.socket() as client:
        cut(town, contexts, client)
        threading.Event().wait(0.5)  # far from a pulse
        assert read_until_reset(client) == HALF_MB
        wait_until_closed(town)
    assert "reset" in town.counters().last_error


def test_a_client_that_reads_late_is_not_looked_at_all_the_time(
    town: Town, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = sockets.unsent

    def unsent(sock: socket.socket) -> int:
        nonlocal looks
        looks += 1
        return real(sock)

    monkeypatch.setattr(sockets, "unsent", unsent)
    with socket.socket() as client:
        cut(town, contexts, client)
        threading.Event().wait(1.0)
        assert looks < 15
        assert read_until_reset(client) == HALF_MB


def test_a_client_that_never_reads_is_reset_once_nothing_moves(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, half_close_timeout=0.3))
    with socket.socket() as client:
        cut(town, contexts, client)
        wait_until_closed(town)
        assert town.counters().last_error == "nothing moved for 0.3 s"
        assert len(read_until_reset(client)) < len(HALF_MB)
    town.close()


def test_acknowledged_bytes_put_the_reset_off(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, half_close_timeout=1.0))
    with socket.socket() as client:
        cut(town, contexts, client)
        received = bytearray()
        began = time.monotonic()
        while time.monotonic() - began < 2.0:  # slow, and not yet through then
            received += client.recv(1 << 14)
            threading.Event().wait(0.1)
        assert len(received) < len(HALF_MB)
        assert received + read_until_reset(client) == HALF_MB
    town.close()


def test_a_client_that_paused_for_long_has_its_time_from_the_ingress_s_reset(
    contexts: Contexts,
) -> None:
    town = Town(dataclasses.replace(COLD, half_close_timeout=1.2))
    with socket.socket() as client:
        cut(town, contexts, client, pause_s=1.5)
        threading.Event().wait(0.2)
        assert read_until_reset(client) == HALF_MB
    town.close()


def test_the_time_it_took_to_open_is_no_idle_time(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, idle_timeout=1.0))

    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        threading.Event().wait(1.2)
        peer.answer(wire.ConnResponse("ep_test", "tcp"))
        echo(peer)

    with serve(town, contexts, handle), town.connect() as client:
        wait_until(lambda: town.forwarder.snapshot().connect_seconds.count == 1)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    town.close()


@on_each_selector
def test_a_client_that_gives_up_while_the_tunnel_is_made_is_noticed(
    town: Town, contexts: Contexts
) -> None:
    arrived, left = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        arrived.set()
        while peer.sock.recv(1 << 16):
            continue
        left.set()

    with serve(town, contexts, handle):
        client = town.connect()
        assert arrived.wait(TIMEOUT_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert left.wait(TIMEOUT_S), "long before connect_timeout"
    assert "the client left" in town.counters().last_error


@on_each_selector
def test_a_reset_of_a_client_that_has_ended_is_noticed_at_the_next_pulse(
    town: Town, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PULSE_S", 0.05)
    ended, left = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        assert peer.read_all() == b""
        ended.set()
        with contextlib.suppress(ConnectionResetError):
            peer.sock.recv(1)
        left.set()

    with serve(town, contexts, upgraded(handle)):
        client = town.connect()
        client.shutdown(socket.SHUT_WR)
        assert ended.wait(TIMEOUT_S)
        assert not left.wait(0.15), "it may be pulsed, as long as it waits for its answer"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert left.wait(TIMEOUT_S)


@on_each_selector
def test_a_reset_of_an_ingress_that_has_ended_is_noticed_at_the_next_pulse(
    town: Town, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PULSE_S", 0.05)
    go = threading.Event()

    def handle(peer: Peer) -> None:
        peer.end()
        assert go.wait(TIMEOUT_S)
        peer.reset()

    with serve(town, contexts, upgraded(handle)), town.connect() as client:
        assert client.recv(1) == b""
        go.set()
        wait_until_closed(town)
        with pytest.raises(OSError, match=r"reset|pipe"):
            client.sendall(b"x")
            client.recv(1)
            client.sendall(b"x")


def test_a_half_closed_connection_ends_once_nothing_moves(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, half_close_timeout=1.0))
    stop = threading.Event()

    def handle(peer: Peer) -> None:
        assert peer.read_all() == b""
        for _ in range(8):
            peer.send(b"x")
            stop.wait(0.2)
        stop.wait(TIMEOUT_S)

    with serve(town, contexts, upgraded(handle)), town.connect() as client:
        client.shutdown(socket.SHUT_WR)
        assert read_until_reset(client) == b"x" * 8, "progress puts it off"
        stop.set()
    assert town.counters().last_cause is Cause.STALLED
    town.close()


def test_what_the_endpoint_has_ended_stays_an_end_when_the_client_does_not(
    contexts: Contexts,
) -> None:
    town = Town(dataclasses.replace(COLD, half_close_timeout=0.2))

    def handle(peer: Peer) -> None:
        peer.send(b"all of it")
        peer.end()
        peer.read_all()

    with serve(town, contexts, upgraded(handle)) as ingress, town.connect() as client:
        assert read_all(client) == b"all of it"
        ingress.wait()
    assert [type(fault) for fault in ingress.faults] == [ConnectionResetError]
    town.close()


def test_an_idle_connection_ends_after_idle_timeout(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, idle_timeout=0.1))
    with serve(town, contexts, upgraded(echo)) as ingress, town.connect() as client:
        assert read_until_reset(client) == b"", "neither side has ended"
        ingress.wait()
    assert [type(fault) for fault in ingress.faults] == [ConnectionResetError]
    assert town.counters().failed == 0
    town.close()


# Faults of the ingress


def test_an_endpoint_ngrok_does_not_know_is_told_with_its_code(
    town: Town, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse(error_code="ERR_NGROK_706", error_message="not\nfound"))

    with serve(town, contexts, handle):
        assert failure(town) == "ngrok refused: ERR_NGROK_706 not found"
    assert "web.ns:80: ngrok refused: ERR_NGROK_706 not found" in caplog.text


def test_a_burst_of_one_fault_is_one_line(
    town: Town, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(town, contexts, lambda peer: None):
        for _ in range(20):
            with pytest.raises(ConnectionResetError), town.connect() as client:
                client.recv(1)
        wait_until_closed(town)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert town.counters().failed == 20


def test_notices_are_logged_once_and_the_connection_works(
    town: Town, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse(notices=("please update",)))
        echo(peer)

    with serve(town, contexts, handle):
        for _ in range(2):
            with town.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
    assert caplog.text.count("please update") == 1


def test_a_flood_of_notices_is_few_lines_and_faults_are_still_summed_up_in_time(
    town: Town,
    contexts: Contexts,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bursts, "BURST_S", 0.2)
    notices = tuple(f"notice {number}" for number in range(2000))

    def handle(peer: Peer) -> None:
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse(notices=notices))
        echo(peer)

    with serve(town, contexts, handle), town.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    assert caplog.text.count("ngrok says: ") == bursts.NOTICES_SAID
    wait_until_closed(town)
    town.forwarder.set_ingress(None)
    for _ in range(3):
        with contextlib.suppress(ConnectionError), town.connect() as client:
            client.recv(1)
    wait_until(lambda: "more connections failed" in caplog.text)


@on_each_selector
def test_an_ingress_that_refuses_tcp(town: Town, contexts: Contexts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = Address(*closed.getsockname())
    town.forwarder.set_ingress(Ingress(SERVER_NAME, (address,), contexts.client))

    assert failure(town) == (
        f"cannot reach the ingress {SERVER_NAME}: {address}: it refused the TCP connection: "
        "see `ingressEndpoint`, and whether a firewall stands between"
    )


def hang(peer: Peer) -> None:
    peer.sock.recv(1 << 16)
    peer.sock.recv(1)


def hang_after_handshake(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()
    peer.send(b"\x05")  # the first half of a length
    peer.sock.recv(1)


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        (hang, "did not complete the TLS handshake in time"),
        (hang_after_handshake, "did not answer the request for the endpoint in time"),
    ],
)
def test_an_ingress_that_hangs_is_left_in_time(
    contexts: Contexts, handle: Handler, text: str
) -> None:
    town = Town(dataclasses.replace(COLD, connect_timeout=0.2))
    with serve(town, contexts, handle):
        assert text in failure(town)
    town.close()


def test_an_ingress_that_accepts_no_tcp_is_left_in_time(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, connect_timeout=0.2))
    with socket.socket() as full:  # its queue holds one connection; the next SYN is dropped
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = Address(*full.getsockname())
        with socket.create_connection((address.ip, address.port)):
            town.forwarder.set_ingress(Ingress(SERVER_NAME, (address,), contexts.client))
            assert "did not accept a TCP connection in time" in failure(town)
    town.close()


def reset_at_once(peer: Peer) -> None:
    peer.sock.recv(1 << 16)
    peer.reset()


def reset_after_handshake(peer: Peer) -> None:
    peer.handshake()
    peer.reset()


def end_after_handshake(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()


def close_at_once(peer: Peer) -> None:
    peer.sock.recv(1 << 16)


def garbage_answer(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()
    peer.send(b"\x02\x00\xff\xff")


def plain_http(peer: Peer) -> None:
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.sock.recv(1 << 16)


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        (reset_at_once, "reset the connection during the TLS handshake"),
        (reset_after_handshake, "reset the connection before it answered"),
        (close_at_once, "closed the connection during the TLS handshake"),
        (end_after_handshake, "when it does not know our certificate"),
        (garbage_answer, "broke the protocol"),
        (plain_http, "TLS failed during the TLS handshake: wrong version number"),
    ],
)
@on_each_selector
def test_each_fault_of_the_ingress_is_told_apart(
    town: Town, contexts: Contexts, handle: Handler, text: str
) -> None:
    with serve(town, contexts, handle):
        assert text in failure(town)


def test_a_certificate_of_an_unknown_authority_is_refused(
    town: Town, contexts: Contexts, tmp_path: Path
) -> None:
    evil = Authority(tmp_path, "Evil CA")
    server = server_context(evil.issue(SERVER_NAME), evil.cert)
    with TestIngress(upgraded(echo), server, contexts.client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        text = failure(town)
    assert "not trusted (" in text
    assert "`ngrokctl status` shows what the ingress presents" in text


def test_an_expired_certificate_is_refused_with_the_reason(town: Town, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = server_context(authority.issue(SERVER_NAME, valid_days=-1), authority.cert)
    client = client_context(authority.cert, authority.issue("client"))
    with TestIngress(upgraded(echo), server, client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        text = failure(town)
    assert "certificate has expired" in text
    assert "compare this machine's clock" in text


def test_a_certificate_for_another_name_is_refused_with_the_name(
    town: Town, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server = server_context(authority.issue("another.test"), authority.cert)
    client = client_context(authority.cert, authority.issue("client"))
    with TestIngress(upgraded(echo), server, client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        assert f"its certificate is not for {SERVER_NAME}" in failure(town)


@pytest.mark.parametrize("version", list(VERSIONS.values()), ids=list(VERSIONS))
@pytest.mark.parametrize("shown", ["of another authority", "none"])
def test_our_certificate_refused_is_said_as_such(
    town: Town, tmp_path: Path, version: ssl.TLSVersion, shown: str
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "Other CA")
    server = server_context(authority.issue(SERVER_NAME), authority.cert, version)
    pair = other.issue("client") if shown != "none" else None
    client = client_context(authority.cert, pair, version)
    with TestIngress(upgraded(echo), server, client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        assert "our certificate" in failure(town)


def test_the_next_address_is_tried_and_remembered(town: Town, contexts: Contexts) -> None:
    tried: list[str] = []

    def dead(peer: Peer) -> None:
        tried.append("dead")

    with TestIngress(dead, contexts.server, contexts.client) as first, TestIngress(
        upgraded(echo), contexts.server, contexts.client
    ) as second:
        addresses = (first.address, second.address)
        town.forwarder.set_ingress(Ingress(SERVER_NAME, addresses, contexts.client))
        for _ in range(3):
            with town.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        wait_until_closed(town)
    assert tried == ["dead"]
    assert town.counters().failed == 0


def test_without_an_ingress_a_client_is_turned_away_and_counted(town: Town) -> None:
    with town.connect() as client:
        assert client.recv(1) == b""
    counters = town.counters()
    assert (counters.total, counters.failed) == (1, 1)
    assert "no ingress is known" in counters.last_error


def test_an_address_that_would_need_resolving_is_refused(town: Town, contexts: Contexts) -> None:
    with pytest.raises(ValueError, match="localhost"):
        town.forwarder.set_ingress(
            Ingress(SERVER_NAME, (Address("localhost", 443),), contexts.client)
        )


# What other threads do


def test_retarget_changes_new_connections_only(town: Town, contexts: Contexts) -> None:
    other = Target("new.ns", 81)

    def handle(peer: Peer) -> None:
        peer.handshake()
        target = peer.read_request()
        peer.answer(wire.ConnResponse())
        while peer.read():
            peer.send(str(target).encode())

    with serve(town, contexts, handle), town.connect() as before:
        before.sendall(b"x")
        assert before.recv(100) == b"web.ns:80"
        town.forwarder.retarget(town.address, Route(other))
        with town.connect() as after:
            after.sendall(b"x")
            assert after.recv(100) == b"new.ns:81"
        before.sendall(b"x")
        assert before.recv(100) == b"web.ns:80"
        assert town.counters().total == town.counters(other).total == 1


def test_removed_listeners_are_closed_and_running_connections_go_on(
    town: Town, contexts: Contexts
) -> None:
    kept = town.listen(Target("kept.ns", 80))
    with serve(town, contexts, upgraded(echo)), town.connect() as running:
        running.sendall(b"a")
        assert running.recv(1) == b"a"
        town.forwarder.remove_listeners([town.address, Address("127.0.0.1", 1)])
        with pytest.raises(ConnectionRefusedError):
            town.connect()
        with socket.create_server((town.address.ip, town.address.port)):
            running.sendall(b"b")
            assert running.recv(1) == b"b"
        with town.connect(kept) as client:
            client.sendall(b"c")
            assert client.recv(1) == b"c"


def test_live_bytes_are_counted_and_the_time_to_open_is_kept(
    town: Town, contexts: Contexts
) -> None:
    with serve(town, contexts, upgraded(echo)), town.connect() as client:
        client.sendall(b"12345")
        assert client.recv(5) == b"12345"
        wait_until(lambda: town.counters().bytes_down == 5)
        counters = town.counters()
        assert (counters.open, counters.total, counters.bytes_up) == (1, 1, 5)
        assert counters.last_activity == pytest.approx(time.time(), abs=5)
        assert town.forwarder.open_connections() == 1
    histogram = town.forwarder.snapshot().connect_seconds
    assert histogram.count == histogram.counts[-1] == 1
    assert 0 < histogram.sum < 10
    assert len(histogram.counts) == len(histogram.bounds)


def test_over_the_limit_a_client_is_turned_away(contexts: Contexts) -> None:
    town = Town(dataclasses.replace(COLD, max_connections=1))
    with serve(town, contexts, upgraded(echo)), town.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with town.connect() as second:
            assert second.recv(1) == b""
        assert "forward.max_connections" in town.counters().last_error
        first.sendall(b"y")
        assert first.recv(1) == b"y"
    town.close()


def test_new_settings_are_for_new_connections(town: Town, contexts: Contexts) -> None:
    with serve(town, contexts, upgraded(echo)), town.connect() as before:
        before.sendall(b"x")
        assert before.recv(1) == b"x"
        town.forwarder.configure(dataclasses.replace(COLD, idle_timeout=0.05))
        with town.connect() as after:
            assert read_until_reset(after) == b""
        before.sendall(b"y")
        assert before.recv(1) == b"y"


def test_when_idle_calls_once_the_last_connection_ends(town: Town, contexts: Contexts) -> None:
    calls: list[str] = []
    idle = threading.Event()

    def done() -> None:
        calls.append(threading.current_thread().name)
        idle.set()

    with serve(town, contexts, upgraded(echo)), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(town.connect()) for _ in range(2)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        town.forwarder.when_idle(done)
        clients[0].close()
        wait_until(lambda: town.forwarder.open_connections() == 1)
        assert calls == []
        clients[1].close()
        assert idle.wait(TIMEOUT_S)
        assert town.forwarder.open_connections() == 0
    assert calls == ["forward"]


def test_when_idle_calls_at_once_where_nothing_is_open(town: Town) -> None:
    idle = threading.Event()

    town.forwarder.when_idle(idle.set)

    assert idle.wait(TIMEOUT_S)


def test_when_idle_calls_at_once_where_nothing_runs() -> None:
    idle = threading.Event()

    Forwarder(COLD, lambda fault: None).when_idle(idle.set)

    assert idle.is_set()


def test_stopping_makes_it_idle(town: Town, contexts: Contexts) -> None:
    idle = threading.Event()
    with serve(town, contexts, upgraded(echo)), town.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        town.forwarder.when_idle(idle.set)
        assert not idle.is_set()
        town.forwarder.stop()
        assert idle.is_set()


def test_stop_closes_everything_and_may_be_called_twice(contexts: Contexts) -> None:
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    town = Town()
    with serve(town, contexts, upgraded(echo)), town.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        town.forwarder.stop()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            town.connect()
        town.forwarder.stop()
        assert town.forwarder.open_connections() == 0
        assert town.counters().total == 1
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_who_asks_while_the_forwarder_stops_is_answered_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults: list[BaseException] = []
    for _ in range(20):
        town = Town()
        stopped = threading.Event()
        answered: list[None] = []

        def ask(town: Town = town, stopped: threading.Event = stopped) -> None:
            try:
                while not stopped.is_set():
                    assert town.forwarder.open_connections() == 0
                    town.forwarder.when_idle(lambda: None)
            except Exception as exc:  # noqa: BLE001 - the test looks at them
                faults.append(exc)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        town.close()
        town.forwarder.when_idle(lambda answered=answered: answered.append(None))  # type: ignore[misc]
        stopped.set()
        for thread in threads:
            thread.join(ANSWER_TIMEOUT_S / 2)
            assert not thread.is_alive()
        assert answered == [None]
    assert faults == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_listener_that_comes_after_the_stop_is_closed(town: Town) -> None:
    town.forwarder.stop()
    with socket.create_server(("127.0.0.1", 0)) as late:
        town.forwarder.add_listener(late, Route(TARGET))
        assert late.fileno() == -1


def test_no_descriptor_is_left_after_many_connections_and_faults(
    town: Town, contexts: Contexts
) -> None:
    with serve(town, contexts, upgraded(echo)) as ingress:
        wait_until_closed(town)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(30):
            ingress.handle = upgraded(echo) if number % 2 else reset_at_once
            with contextlib.suppress(ConnectionError), town.connect() as client:
                client.sendall(b"x")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        wait_until(lambda: town.counters().total == 30)
        wait_until_closed(town)
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def parts_of_connections() -> list[str]:
    kinds = (Connection, Opening, relay.Relay, Leg, Tunnel, Tls)
    return sorted(type(part).__name__ for part in gc.get_objects() if isinstance(part, kinds))


def use(client: socket.socket) -> None:
    client.sendall(b"x")
    read_all(client)


def leave(client: socket.socket) -> None:
    client.sendall(b"x")
    client.recv(1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def leave_at_once(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def send_and_end(peer: Peer) -> None:
    peer.send(b"half")
    peer.end()


def send_and_reset(peer: Peer) -> None:
    peer.send(b"half")
    peer.reset()


def send_and_break(peer: Peer) -> None:
    peer.send(b"half")
    peer.sock.sendall(b"no TLS at all")
    peer.read_all()


def refuse(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()
    peer.answer(wire.ConnResponse(error_code="ERR_NGROK_1", error_message="no"))
    peer.read_all()


def answer_and_reset(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()
    peer.answer(wire.ConnResponse("ep_test", "tcp"), b"half")
    peer.reset()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("handle", "client_does"),
    [
        (upgraded(send_and_end), use),
        (upgraded(send_and_reset), use),
        (upgraded(send_and_break), use),
        (upgraded(lambda peer: peer.send(b"half")), use),
        (upgraded(echo), leave),
        (hang, leave_at_once),
        (refuse, use),
        (answer_and_reset, use),
        (reset_at_once, use),
        (reset_after_handshake, use),
        (close_at_once, use),
        (garbage_answer, use),
        (plain_http, use),
    ],
    ids=lambda made: getattr(made, "__name__", ""),
)
def test_a_connection_that_has_ended_is_freed_without_the_garbage_collector(
    town: Town,
    each_version: Contexts,
    handle: Handler,
    client_does: Callable[[socket.socket], None],
) -> None:
    with serve(town, each_version, handle):
        for _ in range(3):
            with contextlib.suppress(ConnectionError), town.connect() as client:
                client_does(client)
        wait_until(lambda: town.counters().total == 3)
        wait_until_closed(town)
    assert parts_of_connections() == []


@pytest.mark.usefixtures("no_collector")
def test_a_connection_whose_ingress_is_unreachable_or_not_to_be_trusted_is_freed(
    town: Town, contexts: Contexts, tmp_path: Path
) -> None:
    evil = Authority(tmp_path, "Evil CA")
    server = server_context(evil.issue(SERVER_NAME), evil.cert)
    with TestIngress(upgraded(echo), server, contexts.client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        assert "not trusted" in failure(town)
    with pytest.raises(ConnectionResetError), town.connect() as client:
        client.recv(1)
    wait_until_closed(town)
    assert town.counters().failed == 2
    assert parts_of_connections() == []


def test_a_crash_of_the_thread_is_reported_once_and_closes_everything(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = threading.Event()
    town = Town()
    town.forwarder._on_crash = lambda fault: (town.crashes.append(fault), crashed.set())[1]  # type: ignore[func-returns-value]
    with serve(town, contexts, upgraded(echo)), town.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        town.forwarder._loop.call_soon(lambda: 1 // 0)  # type: ignore[arg-type]
        assert crashed.wait(TIMEOUT_S)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            town.connect()
    assert [type(fault) for fault in town.crashes] == [ZeroDivisionError]
    assert town.forwarder.open_connections() == 0
    town.forwarder.stop()


def test_a_bug_in_one_connection_costs_that_connection_only(
    town: Town, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(town, contexts, upgraded(echo)), town.connect() as good:
        good.sendall(b"x")
        assert good.recv(1) == b"x"
        with monkeypatch.context() as patch:
            patch.setattr("ngrokd.forward.dial.Tls", None)
            with pytest.raises(ConnectionResetError), town.connect() as bad:
                bad.recv(1)
        assert "internal error" in town.counters().last_error
        good.sendall(b"y")
        assert good.recv(1) == b"y"


EXHAUST = """
import os, resource, socket, sys, threading, time
from ngrokd.config import ForwardSettings
from ngrokd.forward.forwarder import Forwarder
from ngrokd.model import Address, Cause, Ingress, Route, Target
import ssl

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
forwarder = Forwarder(ForwardSettings(max_connections=1000), lambda fault: os._exit(3))
forwarder.start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
hole = socket.create_server(("127.0.0.1", 0), backlog=256)
forwarder.set_ingress(Ingress("x", (Address(*hole.getsockname()),), context))
others = [os.open(os.devnull, os.O_RDONLY) for _ in range(190)]  # which were not reckoned with
listening = socket.create_server(("127.0.0.1", 0), backlog=256)
print(listening.getsockname()[1], flush=True)
forwarder.add_listener(listening, Route(Target("a.ns", 1)))
sys.stdin.readline()
counters = forwarder.counters()[Target("a.ns", 1)]
print(counters.failed, counters.last_cause.value, counters.last_error, flush=True)
cpu = time.process_time()
sys.stdin.readline()
print(time.process_time() - cpu, time.monotonic() - forwarder.heartbeat(), flush=True)
forwarder.stop()
"""


def test_without_descriptors_clients_are_turned_away_and_the_loop_does_not_spin() -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-c", EXHAUST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert daemon.stdin and daemon.stdout
    port = int(daemon.stdout.readline())
    clients = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(60)]
    for client in clients:
        client.setblocking(False)
    wait_until(lambda: any(gone(client) for client in clients))
    daemon.stdin.write("\n")
    daemon.stdin.flush()
    failed, cause, text = daemon.stdout.readline().split(" ", 2)
    threading.Event().wait(0.5)
    daemon.stdin.write("\n")
    daemon.stdin.flush()
    cpu_s, silence_s = (float(word) for word in daemon.stdout.readline().split())
    for client in clients:
        client.close()

    assert daemon.wait(TIMEOUT_S) == 0
    assert int(failed) >= 1
    assert cause == "no_descriptor"
    assert "no file descriptor is left" in text
    assert cpu_s < 0.2
    assert silence_s < 2


def gone(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError as exc:
        assert exc.errno == errno.ECONNRESET
        return True


class NoRoom(selectors.DefaultSelector):
    """As epoll_ctl(2) once the user's watches are used up: only for listeners here."""

    def register(self, fileobj, events, data=None):  # type: ignore[no-untyped-def]
        with socket.socket(fileno=os.dup(fileobj)) as sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().register(fileobj, events, data)


def test_a_listener_that_cannot_be_watched_is_closed_and_not_among_those_that_serve(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crashes: list[BaseException] = []
    forwarder = Forwarder(ForwardSettings(warm_connections="off"), crashes.append, NoRoom)
    forwarder.start()
    try:
        listening = socket.create_server(("127.0.0.1", 0))
        forwarder.add_listener(listening, Route(TARGET))
        assert forwarder.listening() == frozenset()
        assert listening.fileno() == -1
        assert f"{TARGET} cannot be listened on: No space left" in caplog.text
    finally:
        forwarder.stop()
    assert crashes == []


def test_what_serves_is_told_and_after_the_end_it_is_nothing() -> None:
    forwarder = Forwarder(ForwardSettings(warm_connections="off"), lambda error: None)
    forwarder.start()
    listening = socket.create_server(("127.0.0.1", 0))
    address = Address(*listening.getsockname())
    forwarder.add_listener(listening, Route(TARGET))
    assert forwarder.listening() == frozenset({address})
    forwarder.stop()
    assert forwarder.listening() == frozenset()
