"""The metrics page of a forwarder that works."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ngrokd.config import ServerSettings
from ngrokd.forward import ledger
from ngrokd.healthpages import HealthPages
from ngrokd.model import State, Status, Target
from tests import certificates
from tests.certificates import Contexts
from tests.ingress import echo, upgraded
from tests.test_health_daemon import free_port, get
from tests.test_metrics import parse
from tests.test_metrics_docs import promtool
from tests.town import TARGET, Town, serve, wait_until, wait_until_closed

WEB = "[hostname=web.ns][port=80]"
UP = f"ngrokd_bytes_total[direction=up]{WEB}"
DOWN = f"ngrokd_bytes_total[direction=down]{WEB}"
OPEN = f"ngrokd_connections_open{WEB}"
ENDED = f"ngrokd_connections_total{WEB}[result=ok]"
PART = b"x" * 50_000


class Site:
    """A forwarder and its pages. Owner: the test."""

    def __init__(self) -> None:
        self.town = Town()
        self.port = free_port()
        self.pages = HealthPages(lambda: Status(state=State.READY), self.town.forwarder)
        self.pages.configure(ServerSettings(health_port=self.port))

    def text(self) -> str:
        status, text = get(self.port, "/metrics")
        assert status == 200
        return text

    def numbers(self) -> dict[str, float]:
        return parse(self.text())


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.pages.stop()
    made.town.close()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return certificates.contexts(tmp_path_factory.mktemp("certificates"))


def echoed(client: socket.socket) -> None:
    client.sendall(PART)
    left = len(PART)
    while left:
        left -= len(client.recv(left))


def test_the_bytes_of_a_running_transfer_are_counted_as_they_flow(
    site: Site, contexts: Contexts
) -> None:
    with serve(site.town, contexts, upgraded(echo)), site.town.connect() as client:
        for parts in (1, 2, 3):
            echoed(client)
            wait_until(lambda n=parts: site.numbers()[DOWN] == n * len(PART))  # type: ignore[misc]
            found = site.numbers()
            assert (found[UP], found[OPEN], found[ENDED]) == (parts * len(PART), 1, 0)
        assert promtool("check", "metrics", sent=site.text()) == ""
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        wait_until_closed(site.town)
        found = site.numbers()
        assert (found[UP], found[OPEN], found[ENDED]) == (3 * len(PART), 0, 1)


def test_counters_survive_a_flap_of_their_endpoint(site: Site, contexts: Contexts) -> None:
    town = site.town
    with serve(town, contexts, upgraded(echo)):
        for times in (1, 2):
            with town.connect() as client:
                echoed(client)
            wait_until_closed(town)
            town.forwarder.remove_listeners([town.address])
            assert site.numbers()[UP] == times * len(PART)
            town.address = town.listen(TARGET)
        assert site.numbers()[UP] == 2 * len(PART)


def test_endpoints_that_are_always_new_do_not_make_the_page_longer(
    site: Site, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "KEPT_AT_LEAST", 4)
    town = site.town
    with serve(town, contexts, upgraded(echo)):
        for number in range(12):
            address = town.listen(Target(f"e{number}.ns", 80))
            with town.connect(address) as client:
                echoed(client)
            wait_until_closed(town)
            town.forwarder.remove_listeners([address])
    series = [name for name in site.numbers() if name.startswith("ngrokd_connections_open")]
    assert len(series) <= 5
    assert "ngrokd_connections_open[hostname=e11.ns][port=80]" in series
    assert town.forwarder.snapshot().forgotten.total >= 12 - 5
