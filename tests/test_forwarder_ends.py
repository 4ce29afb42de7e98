"""How connections end with real sockets: resets at every state, slow readers, bursts."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.forward import relay, sockets
from ngrokd.forward.tunnel import HIGH_WATER_BYTES, READ_BYTES
from ngrokd.model import Address, Ingress, Target
from tests import certificates
from tests.certificates import SERVER_NAME, Contexts
from tests.ingress import TIMEOUT_S, Handler, Peer, TestIngress, echo, upgraded
from tests.town import (
    RESET,
    Town,
    kernel_buffers,
    read_all,
    read_until_reset,
    serve,
    wait_until,
    wait_until_closed,
    wait_until_still,
)

SMALL_BUFFER_BYTES = 4096
# All of it fits below the high-water mark, and most of it into none of the small socket buffers.
BACKLOG = bytes(range(250)) * 240
PULSE_S = 0.05  # in place of half a minute
STALL_S = 1.0
SIXTEEN_MB = 16 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def contexts(folder: Path) -> Contexts:
    return certificates.contexts(folder / "1.3")


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town()
    yield made
    made.close()


# Resets at every state


@dataclass
class Scene:
    """What the test and the ingress's thread tell each other."""

    reached: threading.Event = field(default_factory=threading.Event)  # the state, by the ingress
    go: threading.Event = field(default_factory=threading.Event)  # the ingress is to reset
    faults: list[str] = field(default_factory=list)  # how the ingress's connection ended
    received: bytearray = field(default_factory=bytearray)  # by the ingress

    def play(self, handle: Handler) -> Handler:
        """`handle` brings the connection into its state; then reset it when told, or wait."""

        def played(peer: Peer) -> None:
            handle(peer)
            self.reached.set()
            if self.go.wait(TIMEOUT_S):
                peer.reset()

        return played

    def watch(self, handle: Handler) -> Handler:
        """The same, but then see what becomes of the connection."""

        def watched(peer: Peer) -> None:
            handle(peer)
            self.reached.set()
            try:
                self.received += peer.read_all()
                self.faults.append("end")
                peer.sock.recv(1)  # behind close_notify
            except OSError as exc:
                self.faults.append(type(exc).__name__)

        return watched


def handshaking(peer: Peer) -> None:
    """Nothing is said."""


def upgrading(peer: Peer) -> None:
    peer.handshake()
    peer.read_request()


def idle(peer: Peer) -> None:
    upgraded(lambda _: None)(peer)


def ended(peer: Peer) -> None:
    upgraded(Peer.end)(peer)


def ended_behind_a_backlog(peer: Peer) -> None:
    idle(peer)
    peer.send(BACKLOG)
    peer.end()


def of_an_ended_client(peer: Peer) -> None:
    idle(peer)
    assert peer.read_all() == b""


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def narrow(town: Town) -> socket.socket:
    """A client that takes little; connected."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    client.settimeout(TIMEOUT_S)
    client.connect((town.address.ip, town.address.port))
    return client


@pytest.fixture
def narrow_legs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes little from us."""
    real = sockets.prepare

    def prepare(sock: socket.socket) -> None:
        real(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)

    monkeypatch.setattr(sockets, "prepare", prepare)


@pytest.fixture
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PULSE_S", PULSE_S)


@pytest.fixture(autouse=True)
def every_descriptor_comes_back() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_client_resets_while_the_ingress_does_not_accept(town: Town, contexts: Contexts) -> None:
    with socket.socket() as full:  # its queue holds one connection; the next SYN is dropped
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = Address(*full.getsockname())
        with socket.create_connection((address.ip, address.port)):
            town.forwarder.set_ingress(Ingress(SERVER_NAME, (address,), contexts.client))
            client = town.connect()
            wait_until(lambda: town.forwarder.open_connections() == 1)
            reset(client)
            wait_until_closed(town)
    assert town.counters().last_error == "the client left while the tunnel was connecting"


@pytest.mark.parametrize("handle", [handshaking, upgrading])
def test_a_client_resets_before_the_tunnel_is_open(
    town: Town, contexts: Contexts, handle: Handler
) -> None:
    scene = Scene()
    with serve(town, contexts, scene.watch(handle)) as ingress:
        client = town.connect()
        assert scene.reached.wait(TIMEOUT_S)
        reset(client)
        wait_until_closed(town)
        ingress.wait()
    assert len(scene.faults) == 1
    assert "end" not in scene.faults
    assert "the client left" in town.counters().last_error


def test_a_client_resets_behind_its_first_bytes_before_the_tunnel_is_open(
    town: Town, contexts: Contexts
) -> None:
    scene = Scene()
    arrived, go = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        arrived.set()
        assert go.wait(TIMEOUT_S)
        idle(peer)

    with serve(town, contexts, scene.watch(handle)) as ingress:
        client = town.connect()
        client.sendall(b"early")
        assert arrived.wait(TIMEOUT_S)
        reset(client)
        go.set()
        wait_until_closed(town)
        ingress.wait()
    assert scene.faults == ["ConnectionResetError"]


@pytest.mark.parametrize("handle", [idle, ended])
def test_a_client_resets_an_open_connection(
    town: Town, contexts: Contexts, handle: Handler
) -> None:
    scene = Scene()
    with serve(town, contexts, scene.watch(handle)) as ingress:
        client = town.connect()
        assert scene.reached.wait(TIMEOUT_S)
        client.sendall(b"x")
        wait_until(lambda: town.counters().bytes_up == 1)
        reset(client)
        wait_until_closed(town)
        ingress.wait()
    assert scene.faults == ["ConnectionResetError"]


@pytest.mark.usefixtures("quick_pulse")
def test_a_client_that_has_ended_resets(town: Town, contexts: Contexts) -> None:
    scene = Scene()

    def handle(peer: Peer) -> None:
        of_an_ended_client(peer)
        scene.reached.set()
        with pytest.raises(ConnectionResetError):
            peer.sock.recv(1)

    with serve(town, contexts, handle) as ingress:
        client = town.connect()
        client.shutdown(socket.SHUT_WR)
        assert scene.reached.wait(TIMEOUT_S)
        reset(client)
        wait_until_closed(town)
        ingress.wait()
        assert ingress.faults == []


def pump(peer: Peer, stop: threading.Event) -> None:
    """Both ways at once, as fast as it goes, until it breaks."""
    idle(peer)
    reader = threading.Thread(target=drink, args=(peer.sock, stop))
    reader.start()
    with contextlib.suppress(OSError):
        while not stop.is_set():
            peer.send(bytes(1 << 16))
    stop.set()
    reader.join(TIMEOUT_S)


def drink(sock: socket.socket, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.is_set() and sock.recv(1 << 16):
            continue
    stop.set()


@contextlib.contextmanager
def both_ways(town: Town, contexts: Contexts, handle: Handler) -> Iterator[socket.socket]:
    """A client that sends and reads as fast as it goes; a megabyte has gone each way."""
    stop = threading.Event()
    with serve(town, contexts, handle), town.connect() as client:
        reader = threading.Thread(target=drink, args=(client, stop))
        writer = threading.Thread(target=flood, args=(client,))
        reader.start()
        writer.start()
        counts = town.counters
        wait_until(lambda: min(counts().bytes_up, counts().bytes_down) > 1 << 20)
        yield client
        client.close()
        reader.join(TIMEOUT_S)
        writer.join(TIMEOUT_S)
        assert stop.is_set()


def flood(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client.sendall(bytes(1 << 16))


def test_a_client_resets_with_bytes_under_way_both_ways(town: Town, contexts: Contexts) -> None:
    broken = threading.Event()
    with both_ways(town, contexts, lambda peer: pump(peer, broken)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.shutdown(socket.SHUT_RD)  # a close would wait for the threads that use it
        client.close()
        assert broken.wait(TIMEOUT_S)
        wait_until_closed(town)
    assert town.counters().failed == 0, "no news to an operator"


def test_the_ingress_resets_with_bytes_under_way_both_ways(town: Town, contexts: Contexts) -> None:
    go = threading.Event()

    def handle(peer: Peer) -> None:
        stop = threading.Event()
        pumping = threading.Thread(target=pump, args=(peer, stop))
        pumping.start()
        assert go.wait(TIMEOUT_S)
        stop.set()
        pumping.join(TIMEOUT_S)
        peer.reset()

    with both_ways(town, contexts, handle):
        go.set()
        wait_until_closed(town)
    assert town.counters().failed == 1
    assert "reset" in town.counters().last_error


@pytest.mark.usefixtures("narrow_legs")
def test_a_client_resets_with_an_ended_answer_waiting_for_it(
    town: Town, contexts: Contexts
) -> None:
    scene = Scene()
    with serve(town, contexts, scene.watch(ended_behind_a_backlog)) as ingress:
        client = narrow(town)
        assert scene.reached.wait(TIMEOUT_S)
        assert wait_until_still(lambda: town.counters().bytes_down) < len(BACKLOG)
        reset(client)
        wait_until_closed(town)
        ingress.wait()
    assert scene.faults == ["ConnectionResetError"]


@contextlib.contextmanager
def question_under_way(
    town: Town, contexts: Contexts, handle: Handler
) -> Iterator[tuple[socket.socket, TestIngress]]:
    """A client that has ended, whose bytes are in the tunnel, and an ingress that reads none."""
    with serve(town, contexts, handle) as ingress:
        ingress.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        with town.connect() as client:
            client.sendall(BACKLOG)
            client.shutdown(socket.SHUT_WR)
            wait_until(lambda: town.counters().bytes_up == len(BACKLOG))
            yield client, ingress


@pytest.mark.usefixtures("narrow_legs", "quick_pulse")
def test_a_client_resets_with_its_ended_question_under_way(
    town: Town, contexts: Contexts
) -> None:
    scene, go = Scene(), threading.Event()

    def handle(peer: Peer) -> None:
        idle(peer)
        assert go.wait(TIMEOUT_S)

    with question_under_way(town, contexts, scene.watch(handle)) as (client, ingress):
        reset(client)
        wait_until_closed(town)
        go.set()
        ingress.wait()
    assert scene.faults == ["ConnectionResetError"]
    assert len(scene.received) < len(BACKLOG)


@pytest.mark.parametrize("handle", [handshaking, upgrading])
def test_the_ingress_resets_before_the_tunnel_is_open(
    town: Town, contexts: Contexts, handle: Handler
) -> None:
    scene = Scene()
    scene.go.set()
    with serve(town, contexts, scene.play(handle)):
        # On a busy machine it may come so early that connect(2) already reports it.
        with contextlib.suppress(ConnectionResetError), town.connect() as client:
            assert read_until_reset(client) == b""
        wait_until_closed(town)
    assert town.counters().failed == 1


@pytest.mark.parametrize("handle", [idle, of_an_ended_client])
def test_the_ingress_resets_an_open_connection(
    town: Town, contexts: Contexts, handle: Handler
) -> None:
    scene = Scene()
    with serve(town, contexts, scene.play(handle)), town.connect() as client:
        if handle is of_an_ended_client:
            client.shutdown(socket.SHUT_WR)
        assert scene.reached.wait(TIMEOUT_S)
        scene.go.set()
        assert read_until_reset(client) == b""
        wait_until_closed(town)
    assert "reset" in town.counters().last_error


@pytest.mark.usefixtures("quick_pulse")
def test_an_ingress_that_has_ended_resets(town: Town, contexts: Contexts) -> None:
    scene = Scene()
    with serve(town, contexts, scene.play(ended)), town.connect() as client:
        assert client.recv(1) == b""
        scene.go.set()
        wait_until_closed(town)
        with pytest.raises(OSError, match=r"reset|pipe"):
            for _ in range(3):
                client.sendall(b"x")
    assert town.counters().failed == 1


@pytest.mark.usefixtures("narrow_legs", "quick_pulse")
def test_the_ingress_resets_behind_an_ended_answer_that_waits(
    town: Town, contexts: Contexts
) -> None:
    scene = Scene()
    with serve(town, contexts, scene.play(ended_behind_a_backlog)) as ingress, narrow(
        town
    ) as client:
        assert scene.reached.wait(TIMEOUT_S)
        assert wait_until_still(lambda: town.counters().bytes_down) < len(BACKLOG)
        scene.go.set()
        ingress.wait()
        threading.Event().wait(4 * PULSE_S)
        assert read_until_reset(client) == BACKLOG, "what it could still send has no taker"
        wait_until_closed(town)


@pytest.mark.usefixtures("narrow_legs")
def test_the_ingress_resets_with_an_ended_question_under_way(
    town: Town, contexts: Contexts
) -> None:
    scene = Scene()
    with question_under_way(town, contexts, scene.play(idle)) as (client, _):
        assert scene.reached.wait(TIMEOUT_S)
        scene.go.set()
        assert read_until_reset(client) == b""
        wait_until_closed(town)
    assert "reset" in town.counters().last_error


# Small, slow and many


def test_single_bytes_go_both_ways(town: Town, contexts: Contexts) -> None:
    text = bytes(range(256)) * 8

    def handle(peer: Peer) -> None:
        reader = bytearray()
        while len(reader) < len(text):
            reader += peer.read()
        assert reader == text
        for byte in text:
            peer.send(bytes([byte]))
        peer.end()

    with serve(town, contexts, upgraded(handle)) as ingress, town.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in text:
            client.sendall(bytes([byte]))
        assert read_all(client) == text
        client.close()
        ingress.wait()
    assert ingress.faults == []


def stall_a_reader(town: Town, contexts: Contexts, stall_s: float) -> None:
    """What waits meanwhile is bounded, and all of it arrives afterwards."""
    sent = [0]
    block = bytes(range(256)) * 256

    def handle(peer: Peer) -> None:
        peer.sock.settimeout(stall_s + TIMEOUT_S)
        for _ in range(SIXTEEN_MB // len(block)):
            peer.send(block)
            sent[0] += len(block)
        peer.end()

    with serve(town, contexts, upgraded(handle)) as ingress, narrow(town) as client:
        waiting = wait_until_still(lambda: sent[0])
        threading.Event().wait(stall_s)
        assert sent[0] == waiting
        assert waiting <= HIGH_WATER_BYTES + READ_BYTES + 2 * kernel_buffers()
        assert waiting < SIXTEEN_MB, "there is more to come"
        received = read_all(client)
        client.close()
        ingress.wait()
    assert ingress.faults == []
    assert received == block * (SIXTEEN_MB // len(block))


@pytest.mark.usefixtures("narrow_legs")
def test_a_reader_that_stalls_gets_every_byte_afterwards(town: Town, contexts: Contexts) -> None:
    stall_a_reader(town, contexts, STALL_S)


@pytest.mark.long
@pytest.mark.usefixtures("narrow_legs")
def test_a_reader_that_stalls_for_twenty_pulses_gets_every_byte_afterwards(
    town: Town, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No shorter: a kernel answers zero-window probes only every half second.
    monkeypatch.setattr(relay, "PULSE_S", 3.0)
    stall_a_reader(town, contexts, 60.0)


def test_a_server_that_speaks_first_is_heard_by_a_silent_client(
    town: Town, contexts: Contexts
) -> None:
    def handle(peer: Peer) -> None:
        peer.send(b"220 ready")
        assert peer.read_all() == b""
        peer.send(b"221 bye")
        peer.end()

    with serve(town, contexts, upgraded(handle)) as ingress, town.connect() as client:
        assert client.recv(100) == b"220 ready"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"221 bye"
        ingress.wait()
    assert ingress.faults == []


def test_a_listener_closed_in_an_accept_burst_leaves_nobody_hanging(
    town: Town, contexts: Contexts
) -> None:
    running = town.listen(Target("other.ns", 80))
    with serve(town, contexts, upgraded(echo)), contextlib.ExitStack() as stack:
        other = stack.enter_context(town.connect(running))
        clients = [stack.enter_context(socket.socket()) for _ in range(200)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((town.address.ip, town.address.port))
        town.forwarder.remove_listeners([town.address])
        served = sum(is_served(client) for client in clients)

        assert served == town.counters().total
        other.sendall(b"x")
        assert other.recv(1) == b"x"


def is_served(client: socket.socket) -> bool:
    """Echoed, or else cut off at once; `TimeoutError`: left hanging."""
    client.settimeout(TIMEOUT_S)
    try:
        client.sendall(b"x")
        return client.recv(1) == b"x"
    except (ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
        return False


def test_an_ended_client_takes_a_large_answer_as_slowly_as_it_likes(contexts: Contexts) -> None:
    town = Town(ForwardSettings(half_close_timeout=1.5, warm_connections="off"))
    answer = BACKLOG * 200

    def handle(peer: Peer) -> None:
        assert peer.read_all() == b"question"
        peer.send(answer)
        peer.end()

    with serve(town, contexts, upgraded(handle)), town.connect() as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        received = bytearray()
        for _ in range(20):
            received += client.recv(1 << 18)
            threading.Event().wait(0.1)
        assert len(received) < len(answer)
        received += read_all(client)
    town.close()
    assert received == answer
