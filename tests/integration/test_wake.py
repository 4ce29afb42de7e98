"""The machine sleeps, its clock is set, its networks come and go: the daemon is right at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from ngrokd.upkeep.wake import TRY_GAP_S
from tests.integration import programs
from tests.integration.clock import Clock
from tests.integration.netns import receive_exactly
from tests.integration.site import Daemon, Overrides, Site
from tests.integration.test_warm import NAME, PORT, ports_towards_the_ingress, serve_a_client

pytestmark = [pytest.mark.root, pytest.mark.long]

HOUR_S, DAY_S = 3600, 86400
INTERVAL_S = 86400  # between polls: those that come were brought about
SOON_S = 2.0
CALM_S = 3.0
BUSY_PART = 0.15  # of one processor; at rest it is a hundredth, but tests share their machine


@pytest.fixture
def far(site: Site) -> Iterator[Site]:
    """A link eth0 that has an address, and whose far end is down."""
    site.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    site.run("ip", "addr", "add", "192.0.2.7/24", "dev", "eth0")
    site.run("ip", "link", "set", "eth0", "up")
    yield site
    site.run("ip", "link", "del", "eth0")


def start(site: Site, **forward: object) -> Daemon:
    """Polled once, and the next poll is far away."""
    overrides: Overrides = {
        "server": {"log_level": "debug"},
        "bound_endpoints": {"poll_interval": INTERVAL_S},
        "forward": forward,
    }
    return site.start_daemon(overrides).ready()


def start_cloud(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, f"echo={PORT}"))
    site.start_cloud(f"tcp://{NAME}:{PORT}=127.0.0.1:{PORT}")


def polls(site: Site) -> int:
    """How often the endpoints were asked for."""
    asked = site.cloud.requests()
    return sum("bound_endpoints" in each["path"] for each in asked)


def until_polled(site: Site, daemon: Daemon, before: int) -> float:
    """Seconds until there is one more poll than `before`."""
    began = time.monotonic()
    daemon.eventually(lambda _: polls(site) > before, "it does not poll")
    return time.monotonic() - began


def cpu_s(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def assert_calm(site: Site, daemon: Daemon, most: Optional[int] = None) -> None:
    """For some seconds it does next to nothing, and asks nothing, but for polls up to `most`."""
    before, used = polls(site), cpu_s(daemon)
    time.sleep(CALM_S)  # there is nothing to wait for: that is what is tested
    assert cpu_s(daemon) - used < BUSY_PART * CALM_S, daemon.output()
    assert polls(site) <= (before if most is None else most), daemon.output()


# Networks


def start_and_lose_ngrok(site: Site) -> tuple[Daemon, int]:
    """The next try is far away, though ngrok is back; and how many polls it has seen since."""
    start_cloud(site)
    daemon = start(site)
    site.cloud.stop()
    assert daemon.ctl("refresh", check=False).returncode != 0
    failed = time.monotonic()
    site.start_cloud(f"tcp://{NAME}:{PORT}=127.0.0.1:{PORT}")
    daemon.eventually(lambda _: time.monotonic() - failed > TRY_GAP_S, "time stands still")
    assert daemon.status()["api"]["next_poll_s"] > SOON_S * 4
    return daemon, polls(site)


def test_while_ngrok_is_away_a_link_that_comes_up_has_it_asked_at_once(far: Site) -> None:
    daemon, before = start_and_lose_ngrok(far)
    seen = len(daemon.lines)
    far.run("ip", "link", "set", "far0", "up")
    assert until_polled(far, daemon, before) < SOON_S
    daemon.expect("INFO eth0 is up; ngrok is asked at once", since=seen)
    daemon.eventually(lambda status: status["problems"] == [], "a problem stays")
    assert_calm(far, daemon)


@pytest.mark.parametrize(
    "words", ["addr add 198.51.100.7/24 dev lo", "route add default dev eth0"], ids=["ip", "route"]
)
def test_an_address_or_a_default_route_that_comes_does_the_same(far: Site, words: str) -> None:
    far.run("ip", "link", "set", "far0", "up")
    daemon, before = start_and_lose_ngrok(far)
    far.run("ip", *words.split())
    try:
        assert until_polled(far, daemon, before) < SOON_S
    finally:
        far.run("ip", *words.replace(" add ", " del ").split())


def test_our_own_addresses_bring_about_nothing(far: Site) -> None:
    start_cloud(far)
    daemon = start(far)
    far.cloud.replace(
        *({"url": f"tcp://n{n}.ns:7000", "upstream": f"127.0.0.1:{PORT}"} for n in range(400))
    )
    daemon.refresh()
    assert len(daemon.endpoints()) == 400
    assert_calm(far, daemon)
    far.cloud.replace({"url": f"tcp://{NAME}:{PORT}", "upstream": f"127.0.0.1:{PORT}"})
    daemon.refresh()
    assert_calm(far, daemon)
    assert daemon.matching("; ngrok is asked|networks changed| has 10.107") == []


def test_links_that_come_up_all_the_time_cost_few_polls_and_no_connection(
    far: Site,
) -> None:
    start_cloud(far)
    spacing_s = 6
    daemon = far.start_daemon(
        {
            "bound_endpoints": {"poll_interval": spacing_s},
            "forward": {"warm_connections": 2},
        }
    ).ready()
    daemon.eventually(lambda s: s["warm_connections"]["ready"] == 2, "none is warm")
    warm = ports_towards_the_ingress(far)
    before, used, began = polls(far), cpu_s(daemon), time.monotonic()
    flips = 0
    while time.monotonic() - began < 4 * spacing_s:
        far.run("ip", "link", "set", "far0", "up")
        far.run("ip", "link", "set", "far0", "down")
        flips += 1
    took = time.monotonic() - began
    assert flips > 50
    # As `POLL_GAP_PART` and chance have it; without a bound there were one each half a second.
    assert polls(far) - before <= 3 * took / spacing_s + 1
    assert ports_towards_the_ingress(far) == warm, "they were not made over that link"
    assert cpu_s(daemon) - used < 2 * BUSY_PART * took


# The clock


@pytest.fixture
def clocked(site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site on which everything that is started has that clock, the cloud too."""
    for name, value in clock.variables.items():
        monkeypatch.setenv(name, value)
    start_cloud(site)
    return site


@contextlib.contextmanager
def watched(site: Site, daemon: Daemon) -> Iterator[None]:
    """What is done inside has ngrok asked at once, once, and is told in one line."""
    before, seen = polls(site), len(daemon.lines)
    yield
    took = until_polled(site, daemon, before)
    assert took < SOON_S + 1, "the clocks are compared every 2 s"
    daemon.expect("ngrok is asked at once", since=seen)
    assert_calm(site, daemon, before + 2)  # one more once it is known what ngrok has of us
    assert len(daemon.matching("ngrok is asked at once", since=seen)) == 1


def warm_ready(daemon: Daemon) -> dict[str, Any]:
    return daemon.eventually(lambda s: s["warm_connections"]["ready"] == 2, "none is warm")


@pytest.mark.parametrize("jump_s", [2 * HOUR_S, DAY_S], ids=["two hours", "a day"])
def test_after_a_sleep_ngrok_is_asked_and_warm_connections_are_others(
    clocked: Site, clock: Clock, jump_s: int
) -> None:
    daemon = start(clocked, warm_connections=2)
    warm_ready(daemon)
    old = ports_towards_the_ingress(clocked)
    with clocked.network.connect(NAME, PORT) as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        with watched(clocked, daemon):
            clock.set(jump_s)
        daemon.eventually(
            lambda status: status["warm_connections"]["ready"] == 2
            and len(ports_towards_the_ingress(clocked) & old) <= 1,  # the client's own
            "they are the old ones",
        )
        client.sendall(b"again")
        assert receive_exactly(client, 5) == b"again"
    assert "slept, or its clock was set forward" in daemon.output()
    serve_a_client(clocked)
    assert daemon.status()["connections"]["failed"] == 0


def test_a_clock_set_back_and_right_again_is_noticed_both_times(
    clocked: Site, clock: Clock
) -> None:
    """In between our certificate and the ingress's are of tomorrow."""
    daemon = start(clocked, warm_connections=2)
    warm_ready(daemon)
    with watched(clocked, daemon):
        clock.set(-DAY_S)
    assert daemon.matching("set back by 24 h 0 min")
    assert any("clock" in each for each in daemon.status()["problems"])
    with watched(clocked, daemon):
        clock.set(0)
    warm_ready(daemon)
    serve_a_client(clocked)
    daemon.eventually(lambda status: status["problems"] == [], "a problem stays")


def test_a_certificate_that_a_sleep_made_due_is_renewed_at_once(
    clocked: Site, clock: Clock
) -> None:
    clocked.cloud.ask("PATCH", "/settings", {"certificate_lifetime": 30 * HOUR_S})
    daemon = start(clocked, warm_connections=2)
    old = daemon.status()["certificate"]["not_after"]
    with watched(clocked, daemon):
        clock.set(DAY_S)
        renewed = daemon.eventually(
            lambda status: status["certificate"]["not_after"] != old, "it is not renewed"
        )
    assert renewed["certificate"]["days_left"] >= 1  # by the clock of the cloud, which jumped too
    assert sum(each["method"] == "PATCH" for each in clocked.cloud.requests()) == 1
    warm_ready(daemon)
    serve_a_client(clocked)
