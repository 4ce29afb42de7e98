"""The health pages go where the configuration says, and stay where they were if they cannot."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import pytest

from ngrokd.config import ForwardSettings, ServerSettings
from ngrokd.errors import HostError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.healthpages import RETRY_S, HealthPages
from ngrokd.model import Status

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"


@pytest.fixture
def pages() -> Iterator[HealthPages]:
    pages = HealthPages(Status, Forwarder(ForwardSettings(), lambda error: None))
    yield pages
    pages.stop()


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listening:
        return int(listening.getsockname()[1])


def at(port: int, address: str = LOOPBACK) -> ServerSettings:
    return ServerSettings(health_address=address, health_port=port)


def answers(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as conn:
            conn.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            return b"ngrokd_build_info" in b"".join(iter(lambda: conn.recv(65536), b""))
    except ConnectionRefusedError:
        return False


def test_they_move(pages: HealthPages) -> None:
    first, second = free_port(), free_port()
    pages.configure(at(first))
    assert answers(first)
    pages.configure(at(second))
    assert (answers(first), answers(second)) == (False, True)
    pages.configure(at(0))
    assert not answers(second)
    pages.configure(at(first))
    assert answers(first)


def test_the_same_port_on_another_address(pages: HealthPages) -> None:
    port = free_port()
    pages.configure(at(port))
    pages.configure(at(port, EVERYWHERE))
    assert answers(port)


@pytest.mark.parametrize("taken_is_the_same_port", [False, True])
def test_where_they_cannot_be_they_stay(pages: HealthPages, taken_is_the_same_port: bool) -> None:
    port = free_port()
    pages.configure(at(port))
    if taken_is_the_same_port:
        refused = at(port, "192.0.2.1")  # an address that is not ours
    else:
        taken = socket.create_server((LOOPBACK, 0))
        refused = at(taken.getsockname()[1])
    with pytest.raises(HostError, match="health"):
        pages.configure(refused)
    assert answers(port)
    if not taken_is_the_same_port:
        taken.close()


def test_what_cannot_be_served_at_boot_is_a_problem_until_it_can(pages: HealthPages) -> None:
    taken = socket.create_server((LOOPBACK, 0))
    server = at(taken.getsockname()[1])
    pages.open(server, now=100.0)
    assert "health" in pages.problem
    assert pages.wait_s(100.0) == RETRY_S
    pages.tick(server, 100.0 + RETRY_S / 2)
    taken.close()
    assert pages.problem
    pages.tick(server, 100.0 + RETRY_S)
    assert not pages.problem
    assert answers(server.health_port)
    assert pages.wait_s(200.0) == math.inf
