"""A peer whose packets stop coming, without a word, is noticed on either leg.

Two machines of the test's own with a cable between them; one loses its address, and the kernel
there drops what is sent to it in silence. Times are a fraction of the real ones.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.forward import leg, relay, sockets
from ngrokd.model import Address, Route
from tests import certificates
from tests.certificates import Contexts
from tests.ingress import TIMEOUT_S, Handler, Peer, TestIngress, upgraded
from tests.integration.netns import Network
from tests.namespace import Namespace
from tests.town import TARGET, Town, read_until_reset, wait_until_still

pytestmark = pytest.mark.root

NEAR, FAR = "10.9.0.1", "10.9.0.2"
NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
FEW_MINUTES_S = 180.0
SOON_S = 8.0  # what a few minutes are here
ANSWER = bytes(range(250)) * 100
ENDED = [
    pytest.param(False, id="open"),
    pytest.param(True, id="half-closed", marks=pytest.mark.long),
]


class Cable:
    """Between the machine of the forwarder and another one. Owner: the test."""

    def __init__(self, near: Namespace, far: Namespace) -> None:
        self.near, self.far = Network(near), Network(far)
        self._far = far
        pid = far.argv()[1].partition("=")[2]
        ends = ["near", "address", NEAR_MAC, "type", "veth", "peer", "far", "address", FAR_MAC]
        near.run("ip", "link", "add", *ends, "netns", pid)
        for machine, ip, name in ((near, NEAR, "near"), (far, FAR, "far")):
            machine.run("ip", "addr", "add", f"{ip}/24", "dev", name)
            machine.run("ip", "link", "set", name, "up")
        # Else the kernel would soon say that nobody answers there: that is too easy.
        for machine, ip, mac, name in ((near, FAR, FAR_MAC, "near"), (far, NEAR, NEAR_MAC, "far")):
            where = [ip, "lladdr", mac, "dev", name, "nud", "permanent"]
            machine.run("ip", "neigh", "replace", *where)

    def vanish(self) -> None:
        """The far machine answers nothing any more."""
        self._far.run("ip", "addr", "del", f"{FAR}/24", "dev", "far")


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    with Namespace(tmp_path / "near") as near, Namespace(tmp_path / "far") as far:
        yield Cable(near, far)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return certificates.contexts(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def town(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """On the near machine; it listens there for the far one, too."""
    monkeypatch.setattr(sockets, "KEEPALIVE_IDLE_S", 1)
    monkeypatch.setattr(sockets, "KEEPALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(sockets, "KEEPALIVE_PROBES", 2)
    monkeypatch.setattr(sockets, "_KEEPALIVE", sockets.keepalive_options(socket))
    monkeypatch.setattr(relay, "PULSE_S", 0.6)  # a zero-window probe is answered every half second
    with cable.near.entered():
        town = Town(ForwardSettings(half_close_timeout=3600, warm_connections="off"))
        listening = socket.create_server((NEAR, 0))
    town.address = Address(*listening.getsockname())
    town.forwarder.add_listener(listening, Route(TARGET, exposed=True))
    yield town
    town.close()


@contextlib.contextmanager
def ingress_on(
    network: Network, ip: str, town: Town, contexts: Contexts, handle: Handler
) -> Iterator[None]:
    with network.entered():
        ingress = TestIngress(handle, contexts.server, contexts.client, ip)
        with ingress:
            town.forwarder.set_ingress(ingress.ingress)
            yield


@contextlib.contextmanager
def client_on(network: Network, town: Town) -> Iterator[socket.socket]:
    with network.connect(town.address.ip, town.address.port) as client:
        yield client


def wait_until_gone(town: Town) -> None:
    """Soon, with the fault on record."""
    idle = threading.Event()
    town.forwarder.when_idle(idle.set)
    began = time.monotonic()
    assert idle.wait(SOON_S), "the connection to nobody stays open"
    assert time.monotonic() - began < SOON_S


def test_with_the_real_times_it_takes_a_few_minutes() -> None:
    idle = (
        sockets.KEEPALIVE_IDLE_S
        + sockets.KEEPALIVE_INTERVAL_S * sockets.KEEPALIVE_PROBES
        + relay.PULSE_S
    )
    under_way = relay.PULSE_S * (leg.UNANSWERED_PULSES + 1)

    assert idle <= FEW_MINUTES_S
    assert under_way <= FEW_MINUTES_S


@pytest.mark.parametrize("ended", ENDED)
@pytest.mark.parametrize("sending", [False, True], ids=["silent", "sending"])
def test_a_vanished_ingress_is_a_reset_for_the_client(
    cable: Cable, town: Town, contexts: Contexts, ended: bool, sending: bool
) -> None:
    """Half-closed and sending: what goes up is the end itself."""
    stop = threading.Event()

    def handle(peer: Peer) -> None:
        peer.send(b"hello")
        stop.wait(TIMEOUT_S)

    with ingress_on(cable.far, FAR, town, contexts, upgraded(handle)), client_on(
        cable.near, town
    ) as client:
        assert client.recv(5) == b"hello"
        if ended and not sending:
            client.shutdown(socket.SHUT_WR)
            wait_until_still(lambda: town.counters().bytes_up)
        cable.vanish()
        if sending:
            client.sendall(b"is anybody there?")
        if ended and sending:
            client.shutdown(socket.SHUT_WR)
        wait_until_gone(town)
        assert read_until_reset(client) == b""
        stop.set()
    assert town.counters().failed == 1
    assert "timed out" in town.counters().last_error


@pytest.mark.parametrize("ended", ENDED)
@pytest.mark.parametrize(
    "sent", ["nothing", "little", pytest.param("more than it takes", marks=pytest.mark.long)]
)
def test_a_vanished_client_is_a_reset_for_the_ingress(
    cable: Cable, town: Town, contexts: Contexts, ended: bool, sent: str
) -> None:
    go, ready = threading.Event(), threading.Event()
    faults: list[Exception] = []

    def handle(peer: Peer) -> None:
        assert peer.read() == b"hello"
        if ended:
            assert peer.read() == b""
        ready.set()
        assert go.wait(TIMEOUT_S)
        try:
            if sent == "little":
                peer.send(b"is anybody there?")
            while sent == "more than it takes":
                peer.send(ANSWER)
            while not ended and peer.read():
                continue
            peer.sock.recv(1)
        except OSError as exc:
            faults.append(exc)

    with ingress_on(cable.near, NEAR, town, contexts, upgraded(handle)), client_on(
        cable.far, town
    ) as client:
        client.sendall(b"hello")
        if ended:
            client.shutdown(socket.SHUT_WR)
        assert ready.wait(TIMEOUT_S)
        if sent == "more than it takes":  # its window is closed before it vanishes
            go.set()
            wait_until_still(lambda: town.counters().bytes_down, 0.5)
        cable.vanish()
        go.set()
        wait_until_gone(town)
    assert [type(fault) for fault in faults] == [ConnectionResetError]
