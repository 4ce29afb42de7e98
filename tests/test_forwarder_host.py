
"""Clients of a listener that puts a Host in, through the forwarder, over real sockets."""

from __future__ import annotations

import dataclasses
import queue
import socket
from collections.abc import Iterator

import pytest

from ngrokd.forward import wire
from ngrokd.forward.httphost import HELD_BYTES
from ngrokd.forward.tunnel import READ_BYTES
from ngrokd.model import Address, Route
from tests import certificates
from tests.certificates import Contexts
from tests.ingress import TIMEOUT_S, Peer, TestIngress
from tests.test_forwarder import FIVE_MB
from tests.town import COLD, TARGET, Town, read_all, wait_until, wait_until_still

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GOT = b"GET / HTTP/1.1\r\nHost: web.ns\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
UPGRADED = UPGRADE.replace(b"Host: a", b"Host: web.ns")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"


class Server:
    """Behind the ingress: keeps what it reads, answers when it is told to. Owner: the test."""

    def __init__(self, first: bytes = b"") -> None:
        self._first = first
        self._arrived: queue.Queue[bytes] = queue.Queue()
        self._peers: queue.Queue[Peer] = queue.Queue()

    def serve(self, peer: Peer) -> None:
        """One client."""
        peer.handshake()
        peer.read_request()
        peer.answer(wire.ConnResponse(), self._first)
        self._peers.put(peer)
        while data := peer.read():
            self._arrived.put(data)
        self._arrived.put(b"")

    def peer(self) -> Peer:
        """The next client's connection."""
        return self._peers.get(timeout=TIMEOUT_S)

    def gets(self, expected: bytes) -> None:
        """Exactly these bytes come next."""
        got = b""
        while len(got) < len(expected):
            got += self._arrived.get(timeout=TIMEOUT_S)
        assert got == expected

    def gets_the_end(self) -> None:
        assert self._arrived.get(timeout=TIMEOUT_S) == b""

    @property
    def idle(self) -> bool:
        """Nothing has come that was not asked for."""
        return self._arrived.empty()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return certificates.contexts(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town(dataclasses.replace(COLD, half_close_timeout=TIMEOUT_S))
    yield made
    made.close()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def address(town: Town, contexts: Contexts, server: Server) -> Iterator[Address]:
    """A listener that puts web.ns into what it carries to the server."""
    with TestIngress(server.serve, contexts.server, contexts.client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        town.forwarder.retarget(town.address, Route(TARGET, "web.ns"))
        yield town.address


def test_every_request_of_a_connection_gets_the_host(
    town: Town, address: Address, server: Server
) -> None:
    with town.connect(address) as client:
        for _ in range(3):
            client.sendall(GET)
            server.gets(GOT)
        client.sendall(GET[:20])
        client.sendall(GET[20:] + GET)
        server.gets(GOT * 2)


def test_a_listener_without_a_host_leaves_requests_as_they_are(
    town: Town, address: Address, server: Server
) -> None:
    town.forwarder.retarget(address, Route(TARGET))
    with town.connect(address) as client:
        client.sendall(GET)
        server.gets(GET)


def test_a_retarget_gives_new_connections_another_host(
    town: Town, address: Address, server: Server
) -> None:
    with town.connect(address) as before:
        before.sendall(GET)
        server.gets(GOT)
        town.forwarder.retarget(address, Route(TARGET, "new.ns:81"))
        with town.connect(address) as after:
            after.sendall(GET)
            server.gets(GET.replace(b"localhost", b"new.ns:81"))
            before.sendall(GET)
            server.gets(GOT)


@pytest.mark.parametrize("size", [1 << 12, 1 << 20])
def test_large_bodies_arrive_whole_and_the_next_request_gets_the_host(
    town: Town, address: Address, server: Server, size: int
) -> None:
    start = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(FIVE_MB)
    sent = start + FIVE_MB + GET
    with town.connect(address) as client:
        for at in range(0, len(sent), size):
            client.sendall(sent[at : at + size])
        server.gets(start.replace(b"Host: a", b"Host: web.ns") + FIVE_MB + GOT)


def test_the_end_of_the_client_lets_half_a_head_out_before_it(
    town: Town, address: Address, server: Server
) -> None:
    with town.connect(address) as client:
        client.sendall(GET + GET[:10])
        client.shutdown(socket.SHUT_WR)
        server.gets(GOT + GET[:10])
        server.gets_the_end()


def test_what_follows_an_upgrade_waits_for_the_answer(
    town: Town, address: Address, server: Server
) -> None:
    with town.connect(address) as client:
        client.sendall(UPGRADE + GET)
        server.gets(UPGRADED)
        wait_until(lambda: town.counters().bytes_up == len(UPGRADE + GET))
        assert server.idle
        peer = server.peer()
        peer.send(OK)
        server.gets(GOT)
        assert client.recv(len(OK), socket.MSG_WAITALL) == OK
        peer.send(OK)
        client.sendall(UPGRADE + GET)
        server.gets(UPGRADED)
        peer.send(SWITCHING)
        server.gets(GET)
        client.sendall(GET)
        server.gets(GET)


def test_a_client_that_says_much_before_the_answer_is_held_back_and_goes_on_after_it(
    town: Town, address: Address, server: Server
) -> None:
    with town.connect(address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        client.sendall(UPGRADE)
        server.gets(UPGRADED)
        client.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < len(FIVE_MB):
                sent += client.send(FIVE_MB[sent : sent + (1 << 16)])
                wait_until_still(lambda: town.counters().bytes_up)
        taken = town.counters().bytes_up - len(UPGRADE)
        assert HELD_BYTES <= taken <= HELD_BYTES + READ_BYTES
        assert server.idle
        server.peer().send(SWITCHING)
        client.settimeout(TIMEOUT_S)
        client.sendall(FIVE_MB[sent:])
        client.shutdown(socket.SHUT_WR)
        server.gets(FIVE_MB)
        server.gets_the_end()


def test_the_end_of_the_server_lets_out_what_waits_for_its_answer(
    town: Town, address: Address, server: Server
) -> None:
    with town.connect(address) as client:
        client.sendall(UPGRADE + GET)
        server.gets(UPGRADED)
        server.peer().end()
        assert read_all(client) == b""
        server.gets(GET)


def test_a_connection_that_idles_out_with_bytes_that_wait_is_reset(
    contexts: Contexts, server: Server
) -> None:
    town = Town(dataclasses.replace(COLD, idle_timeout=0.3))
    with TestIngress(server.serve, contexts.server, contexts.client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        town.forwarder.retarget(town.address, Route(TARGET, "web.ns"))
        with town.connect() as client:
            client.sendall(UPGRADE + GET)
            server.gets(UPGRADED)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        town.close()
    assert server.idle


def test_a_server_that_speaks_first_is_heard_and_an_upgrade_then_leaves_the_rest_alone(
    town: Town, contexts: Contexts
) -> None:
    server = Server(b"220 ready\r\n")
    with TestIngress(server.serve, contexts.server, contexts.client) as ingress:
        town.forwarder.set_ingress(ingress.ingress)
        town.forwarder.retarget(town.address, Route(TARGET, "web.ns"))
        with town.connect() as client:
            assert client.recv(11, socket.MSG_WAITALL) == b"220 ready\r\n"
            client.sendall(GET + UPGRADE + GET)
            server.gets(GOT + UPGRADED + GET)
