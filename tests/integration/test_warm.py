"""Connections that wait for clients: seen from outside, through everything that may end them."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import HEALTH_PORT, INGRESS_PORT, Daemon, Site

pytestmark = pytest.mark.root

NAME, PORT = "echo.ns", 7000


@pytest.fixture
def site_with_cloud(site: Site) -> Site:
    site.keep(programs.peers(site.namespace, site.network, f"echo={PORT}"))
    site.start_cloud(f"tcp://{NAME}:{PORT}=127.0.0.1:{PORT}")
    return site


def start(site: Site, setting: object = "auto") -> Daemon:
    return site.start_daemon(kept(setting)).ready()


def kept(setting: object) -> dict[str, dict[str, object]]:
    return {"forward": {"warm_connections": setting}}


def serve_a_client(site: Site) -> None:
    with site.network.connect(NAME, PORT) as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"


def warm(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.status()["warm_connections"]
    return found


def until_ready(daemon: Daemon, count: int) -> dict[str, Any]:
    """The status when exactly so many wait."""
    return daemon.eventually(
        lambda status: status["warm_connections"]["ready"] == count, f"never {count} ready"
    )


def until_all_are_ready(daemon: Daemon) -> dict[str, Any]:
    """What is told of them when as many wait as are wanted, and some are."""

    def all_are(status: dict[str, Any]) -> bool:
        told = status["warm_connections"]
        return bool(0 < told["ready"] == told["wanted"])

    found: dict[str, Any] = daemon.eventually(all_are, "not all are ready")["warm_connections"]
    return found


def shown(daemon: Daemon) -> str:
    """The line for people."""
    found = re.search("^Warm +(.*)$", daemon.ctl("status").stdout, re.MULTILINE)
    assert found
    return found[1]


def shown_as_json(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.ctl("status", "--json").stdout)["warm_connections"]
    return found


def counted(site: Site) -> dict[str, float]:
    """The metrics of warm connections."""
    page = site.network.http(HEALTH_PORT, "GET", "/metrics")[1].decode()
    found = re.findall(r"^ngrokd_(warm_\S+) (\S+)$", page, re.MULTILINE)
    return {name: float(value) for name, value in found}


def ports_towards_the_ingress(site: Site) -> set[str]:
    """The daemon's ends of its connections there."""
    there = f"dport = :{INGRESS_PORT}"
    lines = site.run("ss", "-Htn", "state", "established", there).stdout.splitlines()
    return {line.split()[2].rpartition(":")[2] for line in lines}


def test_after_the_first_client_the_next_one_finds_a_connection(site_with_cloud: Site) -> None:
    site = site_with_cloud
    daemon = start(site)
    before = warm(daemon)
    assert (before["setting"], before["wanted"], before["ready"]) == ("auto", 0, 0)
    assert shown(daemon) == "none wanted now (auto)"

    serve_a_client(site)
    until_ready(daemon, 1)
    serve_a_client(site)

    now = until_all_are_ready(daemon)
    assert (now["used"], now["missed"], now["problem"]) == (1, 1, None)
    wanted = now["wanted"]  # 2, if the second client came within half a second of the first
    assert wanted in (1, 2)
    assert shown(daemon) == f"{wanted} ready of {wanted} wanted (auto), 1 of 2 clients found one"
    assert counted(site) == {
        "warm_connections": wanted,
        'warm_connection_requests_total{result="hit"}': 1,
        'warm_connection_requests_total{result="miss"}': 1,
    }
    daemon.send(signal.SIGUSR1)
    dumped = daemon.expect("INFO status: ").partition("status: ")[2]
    assert json.loads(dumped)["warm_connections"] == warm(daemon)


@pytest.mark.long
def test_a_number_that_is_saved_counts_at_once_and_so_does_off(site_with_cloud: Site) -> None:
    site = site_with_cloud
    daemon = start(site, "off")
    assert shown_as_json(daemon)["setting"] == "off"
    assert shown(daemon) == "off"

    site.write_config(kept(3))
    daemon.expect("configuration read again, changed: forward.warm_connections")
    until_ready(daemon, 3)
    of_three = shown_as_json(daemon)
    assert (of_three["setting"], of_three["wanted"], of_three["ready"]) == ("3", 3, 3)
    assert len(ports_towards_the_ingress(site)) == 3

    site.write_config(kept("off"))
    until_ready(daemon, 0)
    assert (shown_as_json(daemon)["setting"], shown(daemon)) == ("off", "off")
    assert ports_towards_the_ingress(site) == set()
    serve_a_client(site)


def test_an_ingress_that_went_away_and_came_back_costs_no_client(site_with_cloud: Site) -> None:
    site = site_with_cloud
    daemon = start(site, 2)
    until_ready(daemon, 2)

    site.cloud.stop()
    away = daemon.eventually(
        lambda status: "refused" in (status["warm_connections"]["problem"] or ""),
        "no problem is told",
    )["warm_connections"]
    assert (away["ready"], away["wanted"]) == (0, 2)
    assert away["problem"].startswith("cannot reach the ingress localhost: ")
    assert shown(daemon) == f"0 ready of 2 wanted (2); no more now: {away['problem']}"

    site.start_cloud(f"tcp://{NAME}:{PORT}=127.0.0.1:{PORT}")
    serve_a_client(site)
    status = until_ready(daemon, 2)
    assert status["warm_connections"]["problem"] is None
    assert (status["connections"]["total"], status["connections"]["failed"]) == (1, 0)


@pytest.mark.long
def test_an_operator_that_was_deleted_costs_no_client_once_there_is_another(
    site_with_cloud: Site,
) -> None:
    site = site_with_cloud
    daemon = start(site, 2)
    old = until_ready(daemon, 2)["operator_id"]

    site.cloud.ask("DELETE", f"/operators/{old}")
    daemon.eventually(
        lambda status: status["state"] == "ready" and status["operator_id"] != old,
        "it does not register again",
    )
    for _ in range(3):
        serve_a_client(site)

    connections = until_ready(daemon, 2)["connections"]
    assert (connections["total"], connections["failed"]) == (3, 0)


@pytest.mark.long
def test_another_certificate_replaces_those_that_wait_and_cuts_none_that_runs(
    site_with_cloud: Site,
) -> None:
    site = site_with_cloud
    daemon = start(site, 2)
    until_ready(daemon, 2)
    with site.network.connect(NAME, PORT) as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        until_ready(daemon, 2)
        before = ports_towards_the_ingress(site)
        assert len(before) == 3

        daemon.ctl("rotate-cert")
        daemon.eventually(
            lambda status: status["warm_connections"]["ready"] == 2
            and len(ports_towards_the_ingress(site) & before) == 1,
            "those that wait are not replaced",
        )
        client.sendall(b"still")
        assert receive_exactly(client, 5) == b"still"
        serve_a_client(site)
    assert daemon.status()["connections"]["failed"] == 0


@pytest.mark.long
def test_the_patience_of_the_ingress_is_learned_and_said_once(site_with_cloud: Site) -> None:
    site = site_with_cloud
    site.cloud.ask("PATCH", "/settings", {"upgrade_timeout": 1.6})
    daemon = start(site, 1)

    learned = daemon.eventually(
        lambda status: status["warm_connections"]["max_age_s"] < 1.6, "nothing is learned"
    )["warm_connections"]
    assert 1.0 <= learned["max_age_s"] <= 1.2  # three quarters of the time that it lets them wait
    daemon.expect("warm ones are replaced after 1.[0-2] s")
    serve_a_client(site)  # such short-lived ones are kept only for clients who come
    until_ready(daemon, 1)

    first = ports_towards_the_ingress(site)
    daemon.eventually(
        lambda _: not ports_towards_the_ingress(site) & first, "none is replaced in time"
    )
    assert len(daemon.matching("warm ones are replaced")) == 1
    assert daemon.status()["connections"]["failed"] == 0


@pytest.mark.long
def test_an_ingress_that_lets_none_wait_is_left_alone_and_serves_as_ever(
    site_with_cloud: Site,
) -> None:
    site = site_with_cloud
    site.cloud.ask("PATCH", "/settings", {"upgrade_timeout": 0.4})
    daemon = start(site, 1)

    daemon.eventually(
        lambda status: "not know our certificate" in str(status["warm_connections"]["problem"]),
        "no drop is told",
    )
    for _ in range(4):
        serve_a_client(site)  # so it is not our certificate
        daemon.eventually(lambda _: not ports_towards_the_ingress(site), "one is let wait")
    daemon.eventually(
        lambda status: status["warm_connections"]["max_age_s"] == 0, "nothing is learned"
    )
    assert shown(daemon).startswith("none, since the ingress lets none wait (1)")
    assert len(daemon.matching("none is kept warm")) == 1
    serve_a_client(site)

    status = daemon.status()
    assert (status["warm_connections"]["wanted"], status["connections"]["failed"]) == (0, 0)
    assert ports_towards_the_ingress(site) == set()
